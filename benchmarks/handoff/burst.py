"""Fifty extracts that finish together: how long until all can be queried, and how many dbt builds that takes."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event, Resource
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.handoff import prefect_api, work
from benchmarks.handoff.run import LONGEST, turn
from benchmarks.handoff.running import Running
from flows.landing.batch import Batch, Manifest
from flows.landing.names import new_batch_id
from flows.landing.writer import open_writer
from flows.server import events
from flows.settings import Settings
from flows.sources.reader.files import find_source
from flows.sources.reader.reading import read_source
from flows.warehouse.connection import connect
from stack.local.processes import wait_until

SIZE = 50
NAIVE = 4
"""So many are measured where each event has a build of its own; the rest is arithmetic."""


def land(root: Path, base_url: str, number: int) -> list[Manifest]:
    """So many batches, as so many extracts would have landed them."""
    manifests = []
    source = find_source(work.SOURCE, base_urls={"dummyjson": base_url})
    for _ in range(number):
        run_id = uuid4()
        with open_writer(Batch(root, work.SOURCE, new_batch_id(datetime.now(UTC), run_id))) as writer:
            for page in read_source(source):
                writer.write(page.records)
            manifests.append(writer.publish(total=page.total, extracted_at=datetime.now(UTC), flow_run_id=run_id))
    return manifests


def ours(running: Running, base_url: str) -> dict[str, Any]:
    """All events in one request; until every run that they started has ended."""
    ready = running.ready
    with turn(running), temporary_settings({PREFECT_API_URL: ready["api"]}):
        manifests = land(Path(ready["landing"]), base_url, SIZE)
        began = time.time()
        events.send([events.extract_finished(manifest, "event") for manifest in manifests])

        def runs() -> list[Any]:
            return prefect_api.runs_of(ready["api"], "transform", began, 4 * SIZE)

        wait_until(
            lambda: len(found := runs()) >= SIZE and all(prefect_api.ended(run) for run in found),
            "the runs of the burst to end",
            LONGEST * 5,
            every=2,
        )
        ended = max(run.end_time.timestamp() for run in runs())
        with connect(
            Settings(warehouse=Path(ready["warehouse"]), warehouse_wait_seconds=30), read_only=True
        ) as warehouse:
            rows = warehouse.execute(
                "select transform_flow_run_id, max(processed_at), count(*) from ops.ledger "
                "where batch_id in (select unnest(?)) group by 1",
                [[manifest.batch_id for manifest in manifests]],
            ).fetchall()
    assert all(isinstance(run, UUID) for run, _, _ in rows)
    return {
        "size": SIZE,
        "processed": sum(count for *_, count in rows),
        "dbt_builds": len(rows),
        "queryable_seconds": max(at.timestamp() for _, at, _ in rows) - began,
        "last_run_ended_seconds": ended - began,
    }


def naive(running: Running, base_url: str) -> dict[str, Any]:
    """A build for every event, one after the other because DuckDB has one writer: stock Prefect, tuned."""
    stamps = running.folder / "stamps.jsonl"
    start = stamps.stat().st_size
    with turn(running):
        manifests = land(running.folder / "landing", base_url, NAIVE)
        resource = Resource({"prefect.resource.id": work.SOURCE})
        sent = [Event(event="extract.finished", resource=resource, payload={"batch_id": m.batch_id}) for m in manifests]
        began = time.time()
        with SyncPrefectClient(running.ready["api"]) as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json") for event in sent])

        def done() -> list[float]:
            lines = [json.loads(line) for line in stamps.read_text()[start:].splitlines()]
            return [line["at"] for line in lines if line["stage"] == "queryable"]

        wait_until(lambda: len(done()) == NAIVE, "the builds of the naive burst", LONGEST * NAIVE, every=0.5)
    seconds = [at - began for at in done()]
    each = (seconds[-1] - seconds[0]) / (NAIVE - 1)
    return {
        "measured_builds": NAIVE,
        "measured_seconds": seconds,
        "seconds_a_build": each,
        "arithmetic_seconds": seconds[0] + (SIZE - 1) * each,
    }
