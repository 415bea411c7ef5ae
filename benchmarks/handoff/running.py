"""A system that runs under its keeper: made to go on for its turn, held still for everybody else's."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.handoff import accounting
from benchmarks.handoff.systems import SYSTEMS, System
from flows.settings import PROJECT
from stack.local.processes import StackError, wait_until

START_SECONDS = 300


@dataclass
class Running:
    """One system, its keeper's process, and how to talk to it."""

    name: str
    folder: Path
    keeper: subprocess.Popen[bytes]
    ready: dict[str, Any]

    @property
    def system(self) -> System:
        return SYSTEMS[self.name]

    @property
    def roots(self) -> tuple[int, ...]:
        """Of its processes: its keeper, and the database server that serves it, if there is one."""
        return (self.keeper.pid, *self.ready.get("also", []))

    def cpu_seconds(self) -> float:
        """Of all it has ever run."""
        return sum(accounting.cpu_seconds(root) for root in self.roots)

    def memory_mb(self) -> float:
        """Of all that runs of it now."""
        return sum(accounting.memory_mb(root) for root in self.roots)

    def processes(self) -> int:
        """How many there are, the dead that nobody has reaped yet left out."""
        return sum(process.state not in "ZX" for process in accounting.tree(self.keeper.pid))

    def pause(self) -> None:
        accounting.pause(self.keeper.pid)

    def resume(self) -> None:
        accounting.resume(self.keeper.pid)

    def end(self) -> None:
        """Begin to end everything, paused or not."""
        self.resume()
        self.keeper.terminate()

    def stop(self) -> None:
        """End everything and wait for it."""
        self.end()
        with suppress(subprocess.TimeoutExpired):
            self.keeper.wait(60)
        for process in reversed(accounting.tree(self.keeper.pid)):
            with suppress(ProcessLookupError):
                accounting.kill(process.pid)
        self.keeper.wait()


def start(name: str, folder: Path, environment: dict[str, str]) -> Running:
    """Starts a system and waits until it is up; StackError with the end of its log if it does not come up."""
    folder.mkdir(parents=True)
    log = folder / "keeper.log"
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.handoff.keeper", name, str(folder)],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    running = Running(name, folder, keeper, {})
    try:

        def up() -> bool:
            if keeper.poll() is not None:
                raise StackError(f"{name} did not start:\n{log.read_text(errors='replace')[-4000:]}")
            return (folder / "ready.json").exists()

        wait_until(up, f"{name} to be ready", START_SECONDS)
    except BaseException:
        running.stop()
        raise
    running.ready = json.loads((folder / "ready.json").read_text())
    return running


def settle(running: Running, processes: int, seconds: float = 15) -> None:
    """Waits until the processes of a hand-off have ended; but not without end: some keep one more than before."""
    with suppress(StackError):
        wait_until(lambda: running.processes() <= processes, "the processes to end", seconds, every=0.2)
    time.sleep(0.5)
