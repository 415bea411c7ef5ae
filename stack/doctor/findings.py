"""What the doctor reports: one finding a line, with no secret in it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from flows.errors import counted

Level = Literal["ok", "warning", "error", "skipped"]
SECRET = re.compile(r"PASSWORD|SECRET|AUTH_STRING|API_KEY|TOKEN")
SHORTEST_SECRET = 8
"""Shorter values are ordinary words, such as the key of a local object store that accepts every client."""


@dataclass(frozen=True)
class Finding:
    """One line: the check, its level, what it found, and how to fix it."""

    check: str
    level: Level
    message: str
    fix: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<8} {self.check:<14} {self.message}"
        return f"{line}\n{'':<23} -> {self.fix}" if self.fix else line


def secrets_of(environments: Iterable[Mapping[str, str]]) -> set[str]:
    """Every value of these environments that must not be shown: passwords, keys, and the passwords in URLs."""
    found = set()
    for environment in environments:
        for name, value in environment.items():
            if SECRET.search(name):
                found |= {value, value.partition(":")[2]}
            found |= set(re.findall(r"://[^/@\s:]*:([^/@\s]+)@", value))
    return {value for value in found if len(value) >= SHORTEST_SECRET}


def without_secrets(finding: Finding, secrets: Iterable[str]) -> Finding:
    """The finding without secrets, which error messages of drivers and libraries may contain."""

    def masked(text: str) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "…")
        return re.sub(r"://[^/@\s]+@", "://…@", text)

    return replace(finding, message=masked(finding.message), fix=masked(finding.fix))


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether there is no error; warnings do not count."""
    return all(finding.level != "error" for finding in findings)


def in_text(findings: Sequence[Finding]) -> str:
    """The findings for a person, and a last line that counts them."""
    counts = {level: sum(finding.level == level for finding in findings) for level in get_args(Level)}
    warnings, errors = counted(counts["warning"], "warning", "warnings"), counted(counts["error"], "error", "errors")
    total = f"{counts['ok']} ok, {warnings}, {errors}"
    skipped = f", {counts['skipped']} not checked" if counts["skipped"] else ""
    return "\n".join([*map(str, findings), "", total + skipped])


def in_json(findings: Sequence[Finding]) -> str:
    """The findings for a machine."""
    return json.dumps({"ok": healthy(findings), "findings": [asdict(finding) for finding in findings]}, indent=2)
