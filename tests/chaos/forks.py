"""A process that has everything imported, and forks one child for each flow run that it is asked for.

The child is a process of its own, which can be killed; it costs a tenth of a start. Orders come in on stdin, one JSON
object a line; the child's id goes out on stdout, and its result into a file.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from stack.local.processes import wait_until  # noqa: E402
from tests.chaos import points  # noqa: E402


@dataclass(frozen=True)
class Child:
    """One flow run in a process of its own."""

    pid: int
    answer: Path

    def lives(self) -> bool:
        """Until it has been reaped by the process that forked it, which is at once."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def result(self, seconds: float = 180) -> dict[str, Any] | None:
        """What became of the run, once it has ended; None if it was killed."""
        wait_until(lambda: not self.lives(), f"flow run in process {self.pid} to end", seconds, every=0.02)
        return json.loads(self.answer.read_text()) if self.answer.exists() else None


class Forks:
    """The process that forks; a context manager that ends it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = (folder / "forks.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=dict(environment),
            start_new_session=True,
            text=True,
        )
        self.count = 0

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.log.close()

    def start(self, flow: str, event_fault: str = "none", **parameters: Any) -> Child:
        """`flow` is `module:function`; returns when the child has been forked."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.count += 1
        answer = self.folder / f"{self.process.pid}-{self.count}.json"
        order = {"flow": flow, "event_fault": event_fault, "parameters": parameters, "answer": str(answer)}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the forking process has ended; see {self.folder / 'forks.log'}")
        return Child(int(line), answer)


def main(folder: Path) -> None:
    """Forks until stdin ends."""
    import dbt.cli.main  # noqa: F401
    import prefect_dbt  # noqa: F401
    from prefect.events.worker import EventsWorker

    import flows.extract
    import flows.transform  # noqa: F401

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What flows print goes into the log.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Children are reaped by the system.
    while line := sys.stdin.readline():
        order = json.loads(line)
        if pid := os.fork():
            answers.write(f"{pid}\n")
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            run(order, folder)
        finally:
            EventsWorker.drain_all(timeout=10)  # What `emit_event` has queued; a process does it when it ends.
            sys.stderr.flush()
            os._exit(0)


def run(order: dict[str, Any], folder: Path) -> None:
    """One flow run, and its result into the file that the order names."""
    points.install(folder, order["event_fault"])
    module, _, name = order["flow"].partition(":")
    flow = getattr(importlib.import_module(module), name)
    state = flow(return_state=True, **order["parameters"])
    result = state.result(raise_on_failure=False) if state.is_completed() else None
    answer = {
        "state": state.name,
        "message": state.message,
        "flow_run_id": str(state.state_details.flow_run_id),
        "result": result if isinstance(result, dict) else None,
    }
    Path(order["answer"] + ".part").write_text(json.dumps(answer))
    Path(order["answer"] + ".part").rename(order["answer"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
