"""Flow runs a minute: twenty extracts asked for at once, as forks and each in an interpreter of its own."""

import shlex
import sys
import time
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun

from benchmarks.handoff import prefect_api
from benchmarks.handoff.run import LONGEST, turn
from benchmarks.handoff.running import Running
from stack.local.processes import wait_until

RUNS = 20
ENGINES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "python -m prefect.engine": {"command": shlex.join([sys.executable, "-m", "prefect.engine"])},
}


def a_minute(running: Running) -> dict[str, float]:
    """Runs a minute by engine; an extract of 194 products, which starts nothing."""
    with turn(running):
        return {engine: measure(running.ready["api"], variables) for engine, variables in ENGINES.items()}


def measure(api: str, job_variables: dict[str, Any]) -> float:
    """From before the first is asked for until the last one's own end."""
    with SyncPrefectClient(api) as client:
        deployment = client.read_deployment_by_name("extract/dummyjson-products").id
        began = time.time()
        ids = [
            client.create_flow_run_from_deployment(
                deployment, parameters={"handoff": "caller"}, job_variables=job_variables
            ).id
            for _ in range(RUNS)
        ]

        def runs() -> list[FlowRun]:
            return client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))

        wait_until(lambda: all(prefect_api.ended(run) for run in runs()), f"{RUNS} runs to end", LONGEST * 2, every=1)
        return 60 * RUNS / (max(run.end_time.timestamp() for run in runs() if run.end_time) - began)
