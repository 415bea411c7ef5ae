"""What a person sees: a line a change, a line a field, a line that counts, colours; and JSON for machines."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from .apply import Applied
from .plan import Change, Kind
from .problems import Problem, errors_of

PLANNED: dict[Kind, str] = {kind: kind for kind in get_args(Kind)}
DONE: dict[Kind, str] = PLANNED | {
    "create": "created",
    "update": "updated",
    "delete": "deleted",
    "skip": "skipped",
    "keep": "kept",
}
COLOURS = {"create": "32", "update": "33", "delete": "31", "skip": "36", "failed": "31", "error": "31", "warning": "33"}


def coloured(text: str, of: str, stream: Any = None) -> str:
    """The text in the colour of a change; plain where it is not read on a terminal, or NO_COLOR is set."""
    terminal = (stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{COLOURS[of]}m{text}\033[0m" if terminal and of in COLOURS else text


def print_json(value: Any) -> None:
    """JSON for machines."""
    print(json.dumps(value, indent=2, default=str))


def print_problems(problems: Iterable[Problem]) -> None:
    """One line a problem, as compilers print them."""
    for problem in problems:
        print(coloured(str(problem), problem.severity, sys.stderr), file=sys.stderr)


def print_change(change: Change, error: str = "", words: dict[Kind, str] = PLANNED) -> None:
    """One line a change, and one a field; what failed goes to stderr."""
    if error:
        line = f"failed     {change.name}: could not {change.kind}: {error}"
        print(coloured(line, "failed", sys.stderr), file=sys.stderr)
        return
    word = coloured(f"{words[change.kind]:<10}", change.kind)
    print(f"{word} {change.name}" + (f": {change.reason}" if change.reason else ""))
    for field in change.fields:
        print(f"    {field.path}: {json.dumps(field.old, default=str)} -> {json.dumps(field.new, default=str)}")


def plan_summary(changes: Sequence[Change]) -> str:
    """`Plan: 1 to create, 0 to update, 0 to delete; 4 unchanged, 1 skipped.`"""
    words: dict[Kind, str] = {"create": "to create", "update": "to update", "delete": "to delete"}
    return f"Plan: {counted(changes, words, always=True)}{rest(changes)}."


def applied_summary(applied: Applied) -> str:
    """`Applied: 1 created, 0 updated, 0 deleted; 4 unchanged.`"""
    changed: dict[Kind, str] = {"create": "created", "update": "updated", "delete": "deleted"}
    failed = f"; {len(applied.failed)} failed" if applied.failed else ""
    left = f"; {len(applied.not_tried)} not tried" if applied.not_tried else ""
    return f"Applied: {counted(applied.made, changed, always=True)}{rest(applied.made)}{failed}{left}."


def rest(changes: Sequence[Change]) -> str:
    """What is not changed, as far as there is any."""
    words: dict[Kind, str] = {"unchanged": "unchanged", "skip": "skipped", "keep": "kept"}
    found = counted(changes, words, always=False)
    return f"; {found}" if found else ""


def counted(changes: Sequence[Change], words: dict[Any, str], *, always: bool) -> str:
    """`1 created, 2 updated`."""
    numbers = Counter(change.kind for change in changes)
    return ", ".join(f"{numbers[kind]} {word}" for kind, word in words.items() if always or numbers[kind])


def change_as_json(change: Change, error: str = "") -> dict[str, Any]:
    """A change, for machines."""
    return {
        "automation": change.name,
        "change": change.kind,
        "id": change.id,
        "fields": [{"path": field.path, "old": field.old, "new": field.new} for field in change.fields],
        "reason": change.reason,
    } | ({"error": error} if error else {})


def problem_as_json(problem: Problem) -> dict[str, Any]:
    """A problem, for machines."""
    return {
        "file": str(problem.file),
        "line": problem.line,
        "severity": problem.severity,
        "message": problem.message,
    }


def problem_summary(number: int, problems: Sequence[Problem]) -> str:
    """`6 automations, 0 errors, 0 warnings`."""
    errors = len(errors_of(problems))
    counts = (number, "automation"), (errors, "error"), (len(problems) - errors, "warning")
    return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
