"""The harness's points, around the naive steps."""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect.events import Event

from tests.chaos.naive import steps
from tests.chaos.points import Points, wrap


def install(points: Points, fault: str) -> None:
    """The same names as in the other arm. What is published is noted from outside: a file for each batch."""
    wrap(steps, "write_page", lambda write: written(points, write))
    wrap(steps, "close", lambda close: closed(points, close))
    wrap(steps, "emit", lambda emit: handed_over(points, fault, emit))
    wrap(steps, "launch", lambda launch: handed_over(points, fault, launch))
    wrap(steps, "build", lambda build: built(points, build))


def written(points: Points, write: Any) -> Any:
    def call(file: Any, *rest: Any) -> None:
        write(file, *rest)
        file.flush()
        points.reach("extract.writing")

    return call


def closed(points: Points, close: Any) -> Any:
    def call(file: Any, batch_id: str) -> None:
        points.reach("extract.before_publishing")
        close(file, batch_id)
        (published(points.folder) / batch_id).touch()

    return call


def published(folder: Path) -> Path:
    made = folder.parent / "published"
    made.mkdir(exist_ok=True)
    return made


def handed_over(points: Points, fault: str, hand_over: Any) -> Any:
    def call(batch_id: str) -> None:
        points.reach("extract.before_event")
        if fault == "late" and hand_over.__name__ == "emit":
            resource: Any = {"prefect.resource.id": "naive.products"}
            event = Event(event=steps.EVENT, resource=resource, payload={"batch_id": batch_id}, id=uuid4())
            (points.folder / f"{event.id}.late").write_text(event.model_dump_json())
        elif fault == "late":
            time.sleep(20)
            hand_over(batch_id)
        elif fault != "dropped":
            for _ in range(3 if fault in ("sent three times", "three events") else 1):
                hand_over(batch_id)
        points.reach("extract.after_event")

    return call


def built(points: Points, build: Any) -> Any:
    def call() -> None:
        from dbt.adapters.sql.connections import SQLConnectionManager

        points.reach("transform.before_build")
        wrap(SQLConnectionManager, "add_query", lambda query: queried(points, query))
        build()
        # There is no ledger: after the build is after the build.
        points.reach("transform.before_ledger")

    return call


def queried(points: Points, query: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        points.reach("transform.during_build")
        return query(*arguments, **options)

    return call
