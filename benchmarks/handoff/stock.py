"""Stock Prefect: its own process worker and engine, an automation, `emit_event`, PrefectDbtRunner.

Twice: as installed (a worker asks every 10 s), and tuned in the one way that everybody finds (every second).
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate

from benchmarks.handoff import environments, prefect_api
from flows.settings import PROJECT
from stack.local.processes import free_port, start_prefect_server, wait_until
from stack.local.processes import start as start_process


def start(folder: Path, worker_seconds: int | None) -> dict[str, Any]:
    """Server, work pool with one warehouse queue of concurrency 1 (DuckDB has one writer), deployments, worker."""
    environment = environments.of(folder) | {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_CLI_PROMPT": "false"}
    if worker_seconds:
        environment["PREFECT_WORKER_QUERY_SECONDS"] = str(worker_seconds)
    environments.build_whole_project(environment)
    api = start_prefect_server(folder, environment, free_port())
    environment["PREFECT_API_URL"] = api
    prefect = [sys.executable, "-m", "prefect"]
    with SyncPrefectClient(api) as client:
        client.create_work_pool(WorkPoolCreate(name="stock", type="process"))
        client.create_work_queue(name="warehouse", work_pool_name="stock", concurrency_limit=1)
    deploy = [*prefect, "--no-prompt", "deploy", "--all", "--prefect-file", "benchmarks/handoff/stock.yaml"]
    done = subprocess.run(deploy, cwd=PROJECT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(deploy)}: {done.stdout}{done.stderr}")
    automate(api)
    worker = [*prefect, "worker", "start", "--pool", "stock", "--name", "worker"]

    def heard() -> bool:
        with SyncPrefectClient(api) as client:
            return any(worker.status == "ONLINE" for worker in client.read_workers_for_work_pool("stock"))

    start_process("worker", worker, folder, environment, ready=heard)
    return {"api": api}


def automate(api: str) -> None:
    """extract.finished -> run transform/stock."""
    with SyncPrefectClient(api) as client:
        transform = client.read_deployment_by_name("transform/stock")
        automation = {
            "name": "transform when extract finishes",
            "trigger": {
                "type": "event",
                "posture": "Reactive",
                "expect": ["extract.finished"],
                "threshold": 1,
                "within": 0,
            },
            "actions": [{"type": "run-deployment", "source": "selected", "deployment_id": str(transform.id)}],
        }
        client.request("POST", "/automations/", json=automation)


def hand_off(ready: dict[str, Any], folder: Path, variant: str, seconds: float) -> dict[str, float]:
    """One extract, one transform."""
    began = time.time()
    stamps = environments.Stamps(folder)
    prefect_api.start_run(ready["api"], "extract/stock")
    moments = stamps.until("queryable", variant, seconds)
    wait_until(
        lambda: prefect_api.ended(prefect_api.newest_run(ready["api"], "transform", began)), variant, seconds, every=1
    )
    run = prefect_api.newest_run(ready["api"], "transform", began)
    assert run is not None
    return moments | prefect_api.stages(ready["api"], run)
