"""The doctor's findings on a stack, in the test's process and with nothing of the test's own environment."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec

from stack.doctor import examine
from stack.doctor.findings import Finding
from stack.doctor.target import find
from stack.local.env_files import PREFIXES
from stack.local.profiles import Stack


@contextmanager
def shell(**variables: str) -> Iterator[None]:
    """An environment with nothing of Prefect's or ours in it but these variables; what it was comes back."""
    before = dict(os.environ)
    try:
        for name in [name for name in os.environ if name.startswith(PREFIXES)]:
            del os.environ[name]
        os.environ.update(variables, PREFECT_HOME=before["PREFECT_HOME"])
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def examined(stack: Stack, changes: dict[str, Any] | None = None, /, **variables: str | Path) -> list[Finding]:
    """The findings on the stack, with these fields of the target and these variables changed, without a password."""
    with shell():
        found = find(stack.folder, scale=False)
        os.environ.update({name: str(value) for name, value in variables.items()})
        if any(name.startswith("AWS_") for name in variables):
            fsspec.get_filesystem_class("s3").clear_instance_cache()  # It keeps the first credentials.
        findings = examine(replace(found, **(changes or {})))
    assert stack.environment["PREFECT_API_AUTH_STRING"].partition(":")[2] not in repr(findings)
    return findings


def faults(findings: list[Finding]) -> list[Finding]:
    """Errors and warnings, without those of every test stack: schedules off, no notification block."""
    usual = ("schedules are switched off", "notify_when_")
    return [f for f in findings if f.level not in ("ok", "skipped") and not any(words in f.message for words in usual)]


def the_fault(findings: list[Finding]) -> Finding:
    """The only error or warning."""
    found = faults(findings)
    assert len(found) == 1, found
    assert found[0].fix
    return found[0]


def changed(settings: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The settings of a server with some changed (`events__messaging_broker=...`)."""
    settings = copy.deepcopy(settings)
    for path, value in values.items():
        *way, key = path.split("__")
        inner = settings
        for step in way:
            inner = inner[step]
        inner[key] = value
    return settings
