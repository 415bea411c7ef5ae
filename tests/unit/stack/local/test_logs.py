"""Logs are rotated while their processes write on, and nothing of what is kept is written twice."""

import os
import subprocess
import sys
from pathlib import Path

from stack.local import logs, processes

WRITER = "import sys\nfor line in sys.stdin: print(line.strip() * 1000, flush=True)"


def test_a_log_that_has_grown_is_copied_and_emptied_and_its_process_writes_on(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    (tmp_path / "server.log").write_text("small")
    with log.open("ab") as output:
        command = [sys.executable, "-c", WRITER]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, text=True) as process:
            assert process.stdin is not None
            process.stdin.write("first\n")
            process.stdin.flush()
            processes.wait_until(lambda: log.stat().st_size == 5001, "the first line", 10)
            assert logs.rotate(tmp_path, largest=5000) == [log]
            process.stdin.write("again\n")
            process.stdin.close()
    assert log.read_text() == "again" * 1000 + "\n"
    assert (tmp_path / "worker.log.1").read_text() == "first" * 1000 + "\n"
    assert (tmp_path / "server.log").read_text() == "small"


def test_it_runs_without_any_package(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_bytes(b"x" * (logs.LARGEST + 1))
    command = [sys.executable, "-I", "-S", logs.__file__, str(tmp_path)]
    with subprocess.Popen(command, env={"PATH": os.environ["PATH"]}) as process:
        processes.wait_until((tmp_path / "worker.log.1").exists, "the rotation", 10)
        process.terminate()
