"""Ours, the whole stack as `make up` starts it; three chainings on it."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.handoff import prefect_api
from flows.landing.batch import list_batches
from flows.server import events
from flows.settings import Settings
from flows.warehouse.connection import connect
from stack.local.processes import free_port, wait_until
from stack.local.up import start_stack

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours triggered": ("extract/dummyjson-products", {}),
    "ours imperative": ("orchestrate/dummyjson", {"sources": ["dummyjson.products"]}),
    "ours launch-and-leave": ("extract/dummyjson-products-launch", {}),
}


def start(folder: Path) -> dict[str, Any]:
    """The stack, reading the benchmark's API."""
    api = json.loads(os.environ["BATON_API_URLS"])["dummyjson"]
    stack = start_stack(folder, api=api, port=free_port(), schedules=False, say=print)
    return {"api": stack.prefect_api, "landing": str(stack.landing), "warehouse": str(stack.warehouse)}


def hand_off(ready: dict[str, Any], folder: Path, variant: str, seconds: float) -> dict[str, float]:
    """One run of a chaining; the moments of it, from the server and the ledger."""
    began = time.time()
    known = set(list_batches(Path(ready["landing"])))
    prefect_api.start_run(ready["api"], *RUNS[variant])
    wait_until(lambda: set(list_batches(Path(ready["landing"]))) > known, f"{variant}: a batch", seconds, every=0.05)
    # Asked once a second, because the server's answers cost what is measured.
    wait_until(
        lambda: prefect_api.ended(prefect_api.newest_run(ready["api"], "transform", began)),
        f"{variant}: a transform",
        seconds,
        every=1,
    )
    (batch,) = set(list_batches(Path(ready["landing"]))) - known
    run = prefect_api.newest_run(ready["api"], "transform", began)
    assert run is not None
    with connect(
        Settings(warehouse=Path(ready["warehouse"]), warehouse_wait_seconds=seconds), read_only=True
    ) as warehouse:
        row = warehouse.execute(
            "select started_at, processed_at, transform_flow_run_id from ops.ledger where batch_id = ?",
            [batch.batch_id],
        ).fetchone()
    if row is None or row[2] != run.id:
        raise RuntimeError(f"{variant}: {batch.batch_id} was not processed by {run.name}, but: {row}")
    return {
        "event": event_at(ready["api"], events.event_id(events.EXTRACT_FINISHED, batch.source, batch.batch_id), began),
        **prefect_api.stages(ready["api"], run),
        "first_line": row[0].timestamp(),
        "queryable": row[1].timestamp(),
    }


def event_at(api: str, event_id: UUID, began: float) -> float:
    """When the extract made the event, which it does right before it sends it."""
    found: dict[UUID, Any] = {}

    def there() -> bool:
        found.update(events.received([event_id], datetime.fromtimestamp(began, UTC)))
        return event_id in found

    with temporary_settings({PREFECT_API_URL: api}):
        wait_until(there, f"event {event_id}", 15)
    return float(found[event_id].occurred.timestamp())
