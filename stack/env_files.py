"""Files of environment variables, `NAME=value` a line: those that are shipped, and those that a stack leaves behind."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template


def read_template(file: Path, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a file that is shipped, its ${names} filled in; one whose value is then empty is left out."""
    filled = {name: Template(value).substitute(values or {}) for name, value in _lines(file)}
    return {name: value for name, value in filled.items() if value}


def write(file: Path, variables: Mapping[str, str]) -> None:
    """Writes a file that a shell can read (`set -a; . FILE`), with mode 0600, because there are passwords in it."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables.items()]
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text("".join(lines))


def read(file: Path) -> dict[str, str]:
    """The variables of a file that `write` has written; none if it is not there."""
    return {name: "".join(shlex.split(value)) for name, value in _lines(file)} if file.exists() else {}


def _lines(file: Path) -> list[tuple[str, str]]:
    lines = [line.partition("=") for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return [(name, value) for name, _, value in lines]
