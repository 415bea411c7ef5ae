"""The two naive chains that run on the real stack: the harness's arms, and how their batches are counted."""

import time
from pathlib import Path

from flows.settings import PROJECT
from stack.local import up
from tests.chaos import counts, points
from tests.chaos.harness import CRASHED_AFTER_SECONDS, PRODUCTS, Arm, Chaos, crash_after
from tests.chaos.naive.faults import published
from tests.chaos.naive.steps import EVENT


def environment(folder: Path, api: str, handoff: str) -> dict[str, str]:
    """What the naive flows read."""
    return {
        "NAIVE_HANDOFF": handoff,
        "NAIVE_FILE": str(folder / "products.jsonl"),
        "NAIVE_WAREHOUSE": str(folder / "naive.duckdb"),
        "NAIVE_API": api,
    }


def prepare(chaos: Chaos) -> None:
    """The deployments, the automation; and, kindly, the other arm's automation for zombies, which nobody naive has."""
    crash_after(chaos.stack, CRASHED_AFTER_SECONDS)
    with up.client(chaos.stack) as api:
        ids = {}
        for name, queue in (("extract", "extract"), ("transform", "warehouse")):
            ids[name] = api.create_deployment(
                flow_id=api.create_flow_from_name(name),
                name="naive",
                work_pool_name=up.POOL,
                work_queue_name=queue,
                entrypoint=f"tests/chaos/naive/flows.py:{name}",
                pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}],
                parameters={},
            )
        body = {
            "name": "naive",
            "trigger": {
                "type": "event",
                "posture": "Reactive",
                "expect": [EVENT],
                "threshold": 1,
                "within": 0,
            },
            "actions": [{"type": "run-deployment", "source": "selected", "deployment_id": str(ids["transform"])}],
        }
        known = {automation["name"] for automation in api.request("POST", "/automations/filter", json={}).json()}
        if "naive" not in known:
            api.request("POST", "/automations/", json=body)


def count(chaos: Chaos) -> counts.Counts:
    """Every complete file that an extract wrote against the rows of the model."""
    made = counts.Counts(published={path.name for path in published(chaos.forks.folder).iterdir()} | chaos.promised)
    warehouse = chaos.folder / "naive.duckdb"
    rows: dict[str, int] = {}
    if warehouse.exists():
        with counts.copy_of(warehouse) as connection:
            rows = dict(counts.rows(connection, "select batch_id, count(*) from main.products group by 1"))
    made.processed = made.published & rows.keys()
    for batch_id in made.published | rows.keys():
        found = rows.get(batch_id, 0)
        if found == 0:
            made.lost[batch_id] = "written whole, none of its rows in the warehouse"
        elif found > PRODUCTS:
            made.doubled[batch_id] = f"{found} rows, {PRODUCTS} were read"
        elif found < PRODUCTS:
            made.torn[batch_id] = f"{found} rows of {PRODUCTS}"
    return made


def long_enough(chaos: Chaos) -> bool:
    """An event may be under way for a moment, and nothing says so."""
    time.sleep(3)
    return True


def arm(name: str, handoff: str) -> Arm:
    return Arm(
        name=name,
        extract="tests.chaos.naive.flows:extract",
        extract_deployment="extract/naive",
        transform=None,
        flows=("extract", "transform"),
        # There is no ledger; before it is after the build.
        where=points.EXTRACT + points.TRANSFORM[:3] + points.FROM_OUTSIDE[:-1],
        most=points.MOST | {"transform.during_build": 6},
        prepare=prepare,
        environment=lambda folder, api: environment(folder, api, handoff),
        count=count,
        at_rest=long_enough,
    )


EVENT_ARM = arm("naive-event", "event")
LAUNCH_ARM = arm("naive-launch", "launch")
