"""What the doctor says: one finding a line, with no secret in it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

Level = Literal["ok", "warning", "wrong", "skipped"]
SECRET = re.compile(r"PASSWORD|SECRET|AUTH_STRING|API_KEY|TOKEN")
SHORTEST_SECRET = 8
"""What is shorter is a word that stands everywhere, as the key of an object store that lets everybody in."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what is so, and how to mend it."""

    check: str
    level: Level
    message: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<8} {self.check:<14} {self.message}"
        return f"{line}\n{'':<23} -> {self.mend}" if self.mend else line


def secrets_of(environments: Iterable[Mapping[str, str]]) -> set[str]:
    """Every value of these environments that nobody may see: passwords, keys, and the passwords in URLs."""
    found = set()
    for environment in environments:
        for name, value in environment.items():
            if SECRET.search(name):
                found |= {value, value.partition(":")[2]}
            found |= set(re.findall(r"://[^/@\s:]*:([^/@\s]+)@", value))
    return {value for value in found if len(value) >= SHORTEST_SECRET}


def without_secrets(finding: Finding, secrets: Iterable[str]) -> Finding:
    """The finding as it may be shown to anybody: error messages of others may hold what we would never print."""

    def shown(text: str) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "…")
        return re.sub(r"://[^/@\s]+@", "://…@", text)

    return replace(finding, message=shown(finding.message), mend=shown(finding.mend))


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong; a warning is not."""
    return all(finding.level != "wrong" for finding in findings)


def in_text(findings: Sequence[Finding]) -> str:
    """For a person."""
    counts = {level: sum(finding.level == level for finding in findings) for level in ("ok", "warning", "wrong")}
    skipped = sum(finding.level == "skipped" for finding in findings)
    total = f"{counts['ok']} ok, {counts['warning']} warnings, {counts['wrong']} wrong"
    return "\n".join([*map(str, findings), "", total + (f", {skipped} could not be looked at" if skipped else "")])


def in_json(findings: Sequence[Finding]) -> str:
    """For a machine."""
    return json.dumps({"ok": healthy(findings), "findings": [asdict(finding) for finding in findings]}, indent=2)
