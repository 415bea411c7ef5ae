"""Where the time of a hand-off goes, on the stack that `make up` started.

    python benchmarks/stages.py [--count 10] [--api http://127.0.0.1:4200/api]

Starts `extract/dummyjson-products` that many times, one after the other, waits for the transform that the automation
starts for each, and prints when each stage was reached, in milliseconds after the event was sent: median, 95th
percentile, and the stage's own share of the median. Nothing is instrumented: times are those of the event, the run's
states, its log lines, dbt's log, the ledger and the artifacts.
"""

import argparse
import json
import re
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from prefect.client.orchestration import SyncPrefectClient  # noqa: E402
from prefect.client.schemas.filters import FlowFilter, FlowFilterName  # noqa: E402
from prefect.client.schemas.objects import FlowRun  # noqa: E402
from prefect.client.schemas.sorting import FlowRunSort  # noqa: E402

from flows.landing.batch import list_batches  # noqa: E402
from flows.server.events import EXTRACT_FINISHED, event_id  # noqa: E402
from flows.settings import Settings  # noqa: E402
from flows.status.artifact import KEY as STATUS  # noqa: E402
from flows.warehouse.connection import connect  # noqa: E402
from stack.local.processes import wait_until  # noqa: E402

FOLDER = ROOT / "data"
TRANSFORMS = FlowFilter(name=FlowFilterName(any_=["transform"]))
STAGES = (
    "event sent",
    "received by the server",
    "run created by the automation",
    "picked up by the worker",
    "client started",
    "flow loaded, run running",
    "first line of the transform",
    "dbt started",
    "dbt parsed",
    "dbt built",
    "ledger written",
    "artifacts written",
    "run completed",
)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--api", default="http://127.0.0.1:4200/api")
    parser.add_argument("--json", type=Path, help="also write every measurement here")
    arguments = parser.parse_args()
    with SyncPrefectClient(arguments.api) as client:
        measured = [hand_off(client) for _ in range(arguments.count)]
    print(table(measured))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


def hand_off(client: SyncPrefectClient) -> dict[str, float]:
    """Seconds after the event at which each stage of one hand-off was reached."""
    before = set(list_batches(FOLDER / "landing"))
    deployment = client.read_deployment_by_name("extract/dummyjson-products")
    client.create_flow_run_from_deployment(deployment.id)
    wait_until(lambda: bool(set(list_batches(FOLDER / "landing")) - before), "a batch", 120)
    (batch,) = set(list_batches(FOLDER / "landing")) - before
    wanted = str(event_id(EXTRACT_FINISHED, batch.source, batch.batch_id))
    run = transform_of(client, wanted)
    reached = {**of_event(client, wanted), **of_run(client, run), **of_dbt(run), **of_ledger(batch.batch_id)}
    time.sleep(1)  # The next one should find everything idle.
    return {stage: (at - reached["event sent"]).total_seconds() for stage, at in reached.items()}


def transform_of(client: SyncPrefectClient, event: str) -> FlowRun:
    """The run that the automation started for the event, once it has completed."""
    found: list[FlowRun] = []

    def completed() -> bool:
        # Not by their expected start: those that are scheduled come first by that.
        runs = client.read_flow_runs(flow_filter=TRANSFORMS, limit=20, sort=FlowRunSort.END_TIME_DESC)
        found[:] = [run for run in runs if run.parameters.get("event_id") == event]
        return bool(found) and found[0].state is not None and found[0].state.is_completed()

    wait_until(completed, "the transform to complete", 120)
    return found[0]


def of_event(client: SyncPrefectClient, event: str) -> dict[str, datetime]:
    """When the event was sent and received."""
    filter_ = {"id": {"id": [event]}, "occurred": {"since": "2000-01-01T00:00:00Z"}}

    def read() -> list[dict[str, Any]]:
        return list(client.request("POST", "/events/filter", json={"filter": filter_}).json()["events"])

    wait_until(lambda: bool(read()), "the event", 30)
    (found,) = read()
    return {
        "event sent": datetime.fromisoformat(found["occurred"]),
        "received by the server": datetime.fromisoformat(found["received"]),
    }


def of_run(client: SyncPrefectClient, run: FlowRun) -> dict[str, datetime]:
    """What the run's states, log lines and artifacts say."""
    states = {state.type.value: state.timestamp for state in reversed(client.read_flow_run_states(run.id))}
    filter_ = {"logs": {"flow_run_id": {"any_": [str(run.id)]}}, "sort": "TIMESTAMP_ASC"}
    logs: list[dict[str, Any]] = []

    def complete() -> bool:
        logs[:] = client.request("POST", "/logs/filter", json=filter_).json()
        return any("Finished in state" in log["message"] for log in logs)

    wait_until(complete, "the run's log", 30)
    answer = client.request("POST", "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [str(run.id)]}}})
    # The status is written once the run has completed.
    artifacts = [artifact for artifact in answer.json() if artifact["key"] != STATUS]

    def said(text: str) -> datetime:
        return next(datetime.fromisoformat(log["timestamp"]) for log in logs if text in log["message"])

    assert run.created is not None
    return {
        "run created by the automation": run.created,
        "picked up by the worker": said("submitting flow run"),
        "client started": states["PENDING"],
        "flow loaded, run running": states["RUNNING"],
        "first line of the transform": said("started for"),
        "artifacts written": max(datetime.fromisoformat(artifact["created"]) for artifact in artifacts),
        "run completed": states["COMPLETED"],
    }


def of_dbt(run: FlowRun) -> dict[str, datetime]:
    """What dbt's own log says of the last invocation, which was the run's."""
    log = (FOLDER / "dbt" / "logs" / "dbt.log").read_text()
    last = log[log.rindex("=====") - 60 :]
    day = f"{datetime.now(UTC):%Y-%m-%d}"

    def at(pattern: str) -> datetime:
        found = re.search(rf"(\d\d:\d\d:\d\d\.\d+) .*{pattern}", last)
        assert found, pattern
        return datetime.fromisoformat(f"{day}T{found[1]}+00:00")

    return {
        "dbt started": at("Running with dbt"),
        "dbt parsed": at("Concurrency: "),
        "dbt built": at("Done. PASS"),
    }


def of_ledger(batch_id: str) -> dict[str, datetime]:
    """When the ledger had the batch."""
    with connect(
        Settings(warehouse=FOLDER / "warehouse.duckdb", warehouse_wait_seconds=30), read_only=True
    ) as warehouse:
        row = warehouse.execute("select processed_at from ops.ledger where batch_id = ?", [batch_id]).fetchone()
    assert row is not None
    return {"ledger written": row[0]}


def table(measured: list[dict[str, float]]) -> str:
    """A line a stage."""
    lines = [f"{'stage':32}  {'median ms':>9}  {'p95 ms':>7}  {'own ms':>7}"]
    previous = 0.0
    for stage in STAGES:
        values = sorted(seconds[stage] * 1000 for seconds in measured)
        median = statistics.median(values)
        lines.append(
            f"{stage:32}  {median:9.0f}  {values[int(0.95 * (len(values) - 1))]:7.0f}  {median - previous:7.0f}"
        )
        previous = median
    return "\n".join(lines)


if __name__ == "__main__":
    main()
