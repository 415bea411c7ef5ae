"""What the worker type `prefork` brings to any Prefect project: `python -m benchmarks.prefork_hello`.

Makes a virtual environment with Prefect and the folder `stack/engine`, installed as a user would, and nothing else of
this project. Starts a server there, a work pool and a worker of each type, `process` as Prefect ships it and `prefork`,
and runs a flow that says hello in turns. Writes results/prefork_hello.json and prints medians in seconds after the run
was created. Takes some minutes, most of them for the installation.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.workers.process import ProcessWorker

from benchmarks.handoff.accounting import cpu_seconds
from flows.settings import PROJECT
from stack.engine.worker import PreforkWorker
from stack.local import processes

RESULTS = Path(__file__).parent / "results" / "prefork_hello.json"
FLOW = """
from prefect import flow

@flow(log_prints=True)
def hello():
    print("hello")
"""
TYPES: dict[str, type[ProcessWorker]] = {"process": ProcessWorker, "prefork": PreforkWorker}
STAGES = ("running", "completed", "cpu")


def main() -> None:
    """Measures, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--prefect", default=version("prefect"), help="the version of Prefect")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as made,
        stack(folder := Path(made), arguments.prefect) as api,
        SyncPrefectClient(api) as client,
    ):
        deployments = {kind: deploy(client, kind, folder) for kind in TYPES}
        workers = {kind: start_worker(client, kind, api, folder) for kind in TYPES}
        measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in TYPES}
        for number in range(arguments.rounds + 1):
            for kind in TYPES:
                seconds = run(client, deployments[kind], workers[kind])
                if number:  # The first of each does not count.
                    measured[kind].append(seconds)
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "prefect": arguments.prefect,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds": measured,
    }
    arguments.results.write_text(json.dumps(result, indent=2) + "\n")
    print("| work pool | Running after s | Completed after s | CPU s of worker and run |\n| --- | --- | --- | --- |")
    for kind, rounds in measured.items():
        medians = [statistics.median(each[stage] for each in rounds) for stage in STAGES]
        print(f"| {kind} | {' | '.join(f'{median:.2f}' for median in medians)} |")


@contextmanager
def stack(folder: Path, prefect: str) -> Iterator[str]:
    """A project of its own with a flow, in a virtual environment of its own, and a server; its API's URL."""
    (folder / "hello.py").write_text(FLOW)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    install = [python(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    exact = ["-c", str(PROJECT / "constraints.txt")] if prefect == version("prefect") else []
    ours = shutil.copytree(PROJECT / "stack" / "engine", folder / "engine")  # The build leaves a folder.
    packages = [*exact, f"prefect=={prefect}", str(ours)]
    subprocess.run([*install, *packages], check=True, env=clean)
    subprocess.run([python(folder), "-m", "compileall", "-q", "-j", "0", str(folder / "venv")], env=clean)
    try:
        yield processes.start_prefect_server(folder, environment(folder), processes.free_port())
    finally:
        processes.stop_all(folder)


def python(folder: Path) -> str:
    """The interpreter of that project."""
    return str(folder / "venv" / "bin" / "python")


def environment(folder: Path) -> Mapping[str, str]:
    """What server and workers find; nothing of this project."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON"))}
    return {**clean, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def deploy(client: SyncPrefectClient, kind: str, folder: Path) -> str:
    """A work pool of the type, as it ships, and a deployment; the deployment's name."""
    template = TYPES[kind].get_default_base_job_template()
    client.create_work_pool(WorkPoolCreate(name=kind, type=kind, base_job_template=template))
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}]
    flow = client.create_flow_from_name("hello")
    client.create_deployment(flow, kind, entrypoint="hello.py:hello", work_pool_name=kind, pull_steps=pull)
    return f"hello/{kind}"


def start_worker(client: SyncPrefectClient, kind: str, api: str, folder: Path) -> int:
    """A worker of the pool that polls as often as the other, by that project's `prefect worker start`; its process."""

    def online() -> bool:
        return any(worker.status == WorkerStatus.ONLINE for worker in client.read_workers_for_work_pool(kind))

    own = {**environment(folder), "PREFECT_API_URL": api, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    command = [python(folder), "-m", "prefect", "worker", "start", "--pool", kind]
    return processes.start(kind, command, folder, own, ready=online)


def run(client: SyncPrefectClient, deployment: str, worker: int) -> dict[str, float]:
    """One flow run: seconds from its creation until it was Running and Completed, and CPU seconds of the worker and
    its run; RuntimeError if it ends otherwise."""
    spent = cpu_seconds(worker)
    created = client.create_flow_run_from_deployment(client.read_deployment_by_name(deployment).id)
    processes.wait_until(lambda: client.read_flow_run(created.id).state_type in FINAL, f"a run of {deployment}", 120)
    time.sleep(1)  # Its process ends a moment after its state.
    states = {state.type: state.timestamp for state in client.read_flow_run_states(created.id)}
    if StateType.COMPLETED not in states:
        raise RuntimeError(f"{deployment} ended as {', '.join(states)}")
    began = client.read_flow_run(created.id).created
    assert began
    after = {state: (states[state] - began).total_seconds() for state in (StateType.RUNNING, StateType.COMPLETED)}
    return {
        "running": after[StateType.RUNNING],
        "completed": after[StateType.COMPLETED],
        "cpu": cpu_seconds(worker) - spent,
    }


FINAL = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)

if __name__ == "__main__":
    main()
