"""Problems of a file, each with its line; and the answer to a misspelling."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]
"""An error: the server refuses it, or it cannot do what it says. A warning: the server takes it; it may be meant."""


@dataclass(frozen=True)
class Problem:
    """A problem of a file, with its line."""

    file: Path
    line: int
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


def expected(known: Iterable[str], got: object) -> str:
    """`did you mean within?`, or the list of what would do."""
    names = sorted(known)
    close = difflib.get_close_matches(str(got), names, n=1)
    if close:
        return f"got {got!r}; did you mean {close[0]!r}?"
    return f"got {got!r}; expected one of {', '.join(names) or 'none'}"


def errors_of(problems: Iterable[Problem]) -> list[Problem]:
    """Those that stop a command."""
    return [problem for problem in problems if problem.severity == "error"]
