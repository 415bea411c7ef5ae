"""The points at which a process kills itself, put around the flows' functions from outside.

A point is armed by a file of its name in the faults folder, which holds a number n: the process that comes to the point
for the n-th time takes the file, so that nobody else does, and ends by SIGKILL. What is left is a file
`<point>.<pid>.fired`, which is how kills are counted. While there is a file `<point>.hold`, a process that comes to
the point waits there, and says so by a file `<point>.held`.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

EXTRACT = ("extract.writing", "extract.before_publishing", "extract.before_event", "extract.after_event")
TRANSFORM = (
    "transform.before_build",
    "transform.during_build",
    "transform.before_ledger",
    "transform.after_ledger",
    "transform.publishing",
)
ORCHESTRATE = ("orchestrate.waiting",)
FROM_OUTSIDE = (
    "worker",
    "worker_with_its_runs",
    "watchers",
    "prefork_engine",
    "server",
    "disk_full",
    "transform_stopped",
)
"""What the harness itself does: no process comes to these by itself."""

MOST = {"extract.writing": 3, "extract.before_publishing": 2, "transform.during_build": 60, "orchestrate.waiting": 2}
"""How often a process comes to a point that it comes to more than once. A build sends about 150 queries."""

EVENT_FAULTS = ("none", "dropped", "late", "sent three times", "three events")


class Points:
    """Of one process: how often it has come to each point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: Counter[str] = Counter()

    def reach(self, point: str) -> None:
        """Does not return if the point is armed for this time."""
        self.seen[point] += 1
        while (self.folder / f"{point}.hold").exists():
            (self.folder / f"{point}.held").touch()
            time.sleep(0.05)
        armed = self.folder / point
        try:
            if self.seen[point] < int(armed.read_text()):
                return
            armed.rename(fired_file(self.folder, point))
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def arm(folder: Path, point: str, times: int = 1) -> None:
    """The next process that comes to the point for the n-th time is killed there."""
    part = folder / f"{point}.part"
    part.write_text(str(times))
    part.rename(folder / point)


def disarm(folder: Path, point: str) -> None:
    (folder / point).unlink(missing_ok=True)


def fired_file(folder: Path, point: str) -> Path:
    return folder / f"{point}.{os.getpid()}-{time.time_ns()}.fired"


def fired(folder: Path) -> Counter[str]:
    """How often each point has killed."""
    return Counter(path.name.rsplit(".", 2)[0] for path in folder.glob("*.fired"))


def install(folder: Path, event_fault: str = "none") -> None:
    """Puts the points around the functions of the flows in this process, and the fault around the extract's event."""
    import prefect.flow_runs

    from flows.landing import writer
    from flows.server import events
    from flows.warehouse import dbt, ledger, published_files

    points = Points(folder)
    wrap(writer.BatchWriter, "write", lambda write: writing(points, write))
    wrap(writer.BatchWriter, "publish", lambda publish: before(points, "extract.before_publishing", publish))
    wrap(Path, "rename", lambda rename: publishing(points, rename))
    wrap(events, "send", lambda send: sending(points, event_fault, send))
    wrap(dbt, "run_dbt", lambda invoke: building(points, invoke))
    wrap(ledger, "record", lambda record: recording(points, record))
    wrap(published_files, "put_into_place", lambda put: before(points, "transform.publishing", put))
    if "NAIVE_HANDOFF" in os.environ:
        from tests.chaos.naive import faults

        faults.install(points, event_fault)
    wrap(prefect.flow_runs, "wait_for_flow_run", lambda wait: before(points, "orchestrate.waiting", wait))


def wrap(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    setattr(owner, name, wrapper(getattr(owner, name)))


def before(points: Points, point: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        points.reach(point)
        return original(*arguments, **options)

    return called


def writing(points: Points, write: Callable[..., Any]) -> Callable[..., Any]:
    def written(writer: Any, *arguments: Any) -> None:
        write(writer, *arguments)
        # What a long extract has on the disk by then: a part of a gzip file.
        writer._gzip.flush()
        points.reach("extract.writing")

    return written


def publishing(points: Points, rename: Callable[..., Any]) -> Callable[..., Any]:
    def renamed(path: Path, target: Any) -> Any:
        if Path(target).name.startswith("batch_id="):
            points.reach("extract.before_publishing")
        return rename(path, target)

    return renamed


def sending(points: Points, fault: str, send: Callable[..., Any]) -> Callable[..., Any]:
    def sent(events: Iterable[Any]) -> None:
        events = list(events)
        if not any(event.event == "extract.finished" for event in events):
            send(events)
            return
        points.reach("extract.before_event")
        for version in faulty(events, fault, points.folder):
            send(version)
        points.reach("extract.after_event")

    return sent


def faulty(events: list[Any], fault: str, folder: Path) -> list[list[Any]]:
    """What is sent in place of the events: nothing, or the same again, or others that say the same."""
    if fault == "dropped":
        return []
    if fault == "late":
        for event in events:
            part = folder / f"{event.id}.late.part"
            part.write_text(event.model_dump_json())
            part.rename(folder / f"{event.id}.late")
        return []
    if fault == "sent three times":
        return [events] * 3
    if fault == "three events":
        return [events, *([event.model_copy(update={"id": uuid4()}) for event in events] for _ in range(2))]
    return [events]


def building(points: Points, invoke: Callable[..., Any]) -> Callable[..., Any]:
    def built(*arguments: Any, **options: Any) -> Any:
        from dbt.adapters.sql.connections import SQLConnectionManager

        points.reach("transform.before_build")
        if "transform.during_build" not in points.seen:
            wrap(SQLConnectionManager, "add_query", lambda query: before(points, "transform.during_build", query))
        return invoke(*arguments, **options)

    return built


def recording(points: Points, record: Callable[..., Any]) -> Callable[..., Any]:
    def recorded(*arguments: Any, **options: Any) -> None:
        points.reach("transform.before_ledger")
        record(*arguments, **options)
        points.reach("transform.after_ledger")

    return recorded
