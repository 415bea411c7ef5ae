"""What a tree of processes costs: CPU seconds, memory; and how to hold it still while another one is measured.

A tree has one root that adopts orphans (`keeper`), so nothing that a system starts gets out of it, and the CPU of
what has ended is in the books of the process that reaped it.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One line of /proc: who it is, whose child, in which state, and its CPU seconds with those of reaped children."""

    pid: int
    parent: int
    state: str
    cpu_seconds: float


def read(pid: int) -> Process | None:
    """A process as /proc has it now; None if it has gone."""
    try:
        # The name in brackets may hold anything, brackets too.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Process(pid, int(fields[1]), fields[0], sum(map(int, fields[11:15])) / TICKS)


def tree(root: int) -> list[Process]:
    """The root and all that descends from it, parents before children; empty if the root has gone."""
    every = [process for path in Path("/proc").iterdir() if path.name.isdigit() and (process := read(int(path.name)))]
    children: dict[int, list[Process]] = {}
    for process in every:
        children.setdefault(process.parent, []).append(process)
    found = [process for process in every if process.pid == root]
    for process in found:
        found += children.get(process.pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """Of everything that the tree has ever run. Read again until nothing came or went between two readings."""
    while True:
        before = tree(root)
        after = tree(root)
        if [process.pid for process in before] == [process.pid for process in after]:
            return sum(process.cpu_seconds for process in after)


def memory_mb(root: int) -> float:
    """Proportional set size of the tree: a page that several processes share counts once."""
    total = 0
    for process in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def pause(root: int) -> None:
    """Stop every process of the tree, those that are being forked meanwhile too."""
    while moving := [process for process in tree(root) if process.state not in "TtZX"]:
        for process in moving:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.01)


def resume(root: int) -> None:
    """Let the tree go on."""
    for process in reversed(tree(root)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)


def kill(pid: int) -> None:
    """At once."""
    os.kill(pid, signal.SIGKILL)


@dataclass
class Peak:
    """The most memory seen, in MB."""

    mb: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def watching_memory(roots: Sequence[int], every: float = 0.2) -> Iterator[Peak]:
    """Looks at the memory of trees while the block runs. That takes CPU: not for a block that is timed."""
    peak = Peak()

    def look() -> None:
        while not peak._over.wait(every):
            peak.mb = max(peak.mb, sum(memory_mb(root) for root in roots))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        peak._over.set()
        thread.join()
