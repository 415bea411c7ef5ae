"""Files of environment variables: the templates in stack/deploy, and the files that a running stack writes."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template

from dotenv import dotenv_values

SAMPLE_SECRET = "SHOP_TOKEN"
"""What the sample shop asks for; a stack sets it, because everybody knows it."""
PREFIXES = ("PREFECT_", "BATON_", "AWS_", "DBT_", SAMPLE_SECRET)
"""The variables that a stack sets for its processes begin with one of these."""


def read_template(file: Path, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a template with its ${names} filled in, without those that are then empty.

    KeyError if a name is missing from the values.
    """
    lines = dotenv_values(file, interpolate=False)
    filled = {name: Template(value or "").substitute(values or {}) for name, value in lines.items()}
    return {name: value for name, value in filled.items() if value}


def write(file: Path, variables: Mapping[str, str]) -> None:
    """Writes a file that a shell can read (`set -a; . FILE`), with mode 0600, because it holds passwords."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables.items()]
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text("".join(lines))


def read(file: Path) -> dict[str, str]:
    """The variables of a file that `write` wrote; none if the file does not exist.

    Reads as a shell does; python-dotenv has other rules for quotes and backslashes.
    """
    words = shlex.split(file.read_text()) if file.exists() else []
    return dict(word.split("=", 1) for word in words)
