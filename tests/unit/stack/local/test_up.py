"""What differs between systems."""

import shlex
import sys
from pathlib import Path

import pytest

from stack.local import processes, up
from stack.local.one_machine import ONE_MACHINE
from stack.local.profiles import Stack


def test_runs_are_forked_on_linux_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path, ONE_MACHINE, (), {})
    monkeypatch.setattr(processes, "on_linux", lambda: True)
    kind, template = up.kind_of_worker()
    assert kind == "prefork"
    assert template["variables"]["properties"]["command"]["default"] is None
    monkeypatch.setattr(processes, "on_linux", lambda: False)
    kind, template = up.kind_of_worker()
    assert kind == "process"
    command = template["variables"]["properties"]["command"]["default"]
    assert command == shlex.join([sys.executable, "-m", "prefect.engine"])
    up.start_prefork_engine(stack)
    assert processes.running(tmp_path) == {}
