"""Background processes: noted, found again, and ended with their whole group."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stack.local import processes

FAMILY = "import subprocess, sys, time; subprocess.Popen(['sleep', '300']); print('ready', flush=True); time.sleep(300)"


@pytest.fixture
def family(tmp_path: Path) -> int:
    """The id of a noted process that has a child."""

    def ready() -> bool:
        return "ready" in (tmp_path / "family.log").read_text()

    return processes.start("family", [sys.executable, "-c", FAMILY], tmp_path, os.environ, ready=ready)


def test_a_process_is_found_by_its_note_and_ended_with_its_children(tmp_path: Path, family: int) -> None:
    (child,) = psutil.Process(family).children()
    assert processes.running(tmp_path) == {"family": family}
    assert processes.stop_all(tmp_path) == ["family"]
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert processes.running(tmp_path) == {}
    assert list(tmp_path.glob("*.pid.json")) == []


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "from signal import *; import time; signal(SIGTERM, SIG_IGN); print('ready', flush=True); time.sleep(300)"
    log = tmp_path / "stubborn.log"
    pid = processes.start(
        "stubborn", [sys.executable, "-c", code], tmp_path, os.environ, ready=lambda: "ready" in log.read_text()
    )
    processes.stop(tmp_path, "stubborn", seconds=1)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_a_job_in_the_background_starts_can_be_interrupted(tmp_path: Path) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGINT), flush=True); signal.pause()"
    log = tmp_path / "child.log"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # As a shell's script does for `command &`.
    try:
        processes.start(
            "child", [sys.executable, "-c", code], tmp_path, os.environ, ready=lambda: "\n" in log.read_text()
        )
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        processes.stop_all(tmp_path)
    assert "default_int_handler" in log.read_text()


def test_a_killed_process_is_not_running_before_its_parent_has_waited_for_it(tmp_path: Path, family: int) -> None:
    os.killpg(family, signal.SIGKILL)
    processes.wait_until(lambda: processes.running(tmp_path) == {}, "the process to end", 10)
    processes.stop_all(tmp_path)


def test_another_process_with_the_noted_id_gets_no_signal(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as other:
        note = {"pid": other.pid, "started": psutil.Process(other.pid).create_time() - 3600}
        (tmp_path / "worker.pid.json").write_text(json.dumps(note))
        assert processes.running(tmp_path) == {}
        assert processes.stop_all(tmp_path) == []
        assert other.poll() is None
        other.kill()


def test_a_note_that_cannot_be_read_is_no_running_process(tmp_path: Path) -> None:
    for number, text in enumerate(["", "{}", '{"pid": 1, "started": "Wed Nov 25 2026"}', '{"pid": "x", "started": 0}']):
        (tmp_path / f"worker-{number}.pid.json").write_text(text)
    assert processes.running(tmp_path) == {}


def test_a_command_that_ends_at_once_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(processes.StackError, match=r"(?s)failing ended with exit code 3.*the reason"):
        processes.start(
            "failing",
            [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"],
            tmp_path,
            os.environ,
            ready=lambda: False,
        )
    assert processes.running(tmp_path) == {}


def test_a_server_that_dies_says_why_and_not_what_an_earlier_one_said(tmp_path: Path) -> None:
    """A real Prefect server whose database cannot be opened: 220 lines of traceback, then its shutdown."""
    (tmp_path / "server.log").write_text("OldError: from the start before\n")
    (tmp_path / "folder.db").mkdir()
    url = f"sqlite+aiosqlite:///{tmp_path / 'folder.db'}"
    with pytest.raises(processes.StackError) as raised:
        processes.start_prefect_server(
            tmp_path, {**os.environ, "PREFECT_API_DATABASE_CONNECTION_URL": url}, processes.free_port()
        )
    message = str(raised.value)
    assert "server ended with exit code" in message
    assert "unable to open database file" in message.splitlines()[-1]
    assert "OldError" not in message
    assert "  File " not in message


def test_a_process_that_does_nothing_is_given_up_and_one_that_works_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "SAY_EVERY_SECONDS", 0.1)
    with pytest.raises(processes.StackError, match="idle was not ready after"):
        processes.start("idle", ["sleep", "300"], tmp_path, os.environ, ready=lambda: False, seconds=0.5)
    assert processes.running(tmp_path) == {}
    done = tmp_path / "done"
    used = itertools.count(step=2)  # As of a process that works all the time, without two minutes of it.
    monkeypatch.setattr(processes, "_cpu_seconds", lambda _: float(next(used)))
    command = ["sh", "-c", f"sleep 1; touch '{done}'; sleep 300"]
    processes.start("busy", command, tmp_path, os.environ, ready=done.exists, seconds=0.5)
    processes.stop_all(tmp_path)
    assert f"waiting for busy, 0 s so far; its log is {tmp_path / 'busy.log'}" in capsys.readouterr().err
