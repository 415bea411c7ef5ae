"""Flow runs of a real server and process worker, each in a fork of the engine."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.states import Cancelling
from prefect.workers.process import ProcessWorker

from stack.local import processes
from tests.integration.engine.conftest import SECONDS, Engine, start_engine

FLOW = """
import os, sys, time
from pathlib import Path
from prefect import flow, get_run_logger
from prefect.settings import get_current_settings

FOLDER = Path(__file__).parent


def say(what, run):
    (FOLDER / f"{run.id}.{what}").write_text(str(os.getpid()))


def cancelled(flow, flow_run, state):
    say("cancelled", flow_run)


@flow(on_cancellation=[cancelled])
def probe(wait: bool = False, exit_code: int = 0):
    from prefect.runtime import flow_run
    get_run_logger().info("version 1, variable %s, retries %s", os.environ.get("A_VARIABLE"),
                          get_current_settings().client.max_retries)
    print("printed")
    name = FOLDER / f"{flow_run.id}.holding"
    name.write_text(str(os.getpid()))
    while wait and not (FOLDER / f"{flow_run.id}.go").exists():
        time.sleep(0.05)
    if exit_code:
        os._exit(exit_code)
"""
POOL = "prefork"


@dataclass(frozen=True)
class Worker:
    """A worker whose flow runs are forks of an engine, and a deployment for it to run."""

    client: SyncPrefectClient
    engine: Engine
    deployment: UUID
    folder: Path
    pid: int
    log: Path

    def create(self, job_variables: dict[str, Any] | None = None, **parameters: Any) -> UUID:
        """Creates a flow run; its id."""
        run = self.client.create_flow_run_from_deployment(
            self.deployment, parameters=parameters, job_variables=job_variables
        )
        return run.id

    def process(self, run_id: UUID) -> int:
        """The process of a run, once it says that it holds."""
        said = self.folder / f"{run_id}.holding"
        processes.wait_until(lambda: said.exists() and said.read_text() != "", "the run to hold", SECONDS)
        return int(said.read_text())

    def ended(self, run_id: UUID) -> FlowRun:
        """The run in its final state."""

        def final() -> bool:
            state = self.client.read_flow_run(run_id).state
            return state is not None and state.is_final()

        processes.wait_until(final, "the run to end", SECONDS)
        return self.client.read_flow_run(run_id)

    def client_of(self, process: int) -> int:
        """The client whose run is in this process: the only child of the worker that is not its own."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[-1])


@pytest.fixture(scope="module")
def worker(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker")
    (folder / "probe.py").write_text(FLOW)
    engine = start_engine(folder)
    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["command"]["default"] = shlex.join(engine.command("prefect.engine"))
    with SyncPrefectClient(server) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        deployment = client.create_deployment(
            client.create_flow_from_name("probe"),
            "probe",
            entrypoint="probe.py:probe",
            path=str(folder),
            work_pool_name=POOL,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
        )

        def online() -> bool:
            return any(found.status == WorkerStatus.ONLINE for found in client.read_workers_for_work_pool(POOL))

        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", "worker"]
        environment = os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "0.3", "PREFECT_LOGGING_LOG_PRINTS": "true"}
        pid = processes.start("worker", command, folder, environment, ready=online)
        yield Worker(client, engine, deployment, folder, pid, folder / "worker.log")
    processes.stop_all(folder)


def test_what_a_run_logs_and_prints_is_in_the_api_and_in_the_workers_output(worker: Worker) -> None:
    run = worker.ended(worker.create())
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    wanted = {"version 1, variable None, retries 5", "printed"}

    def logged() -> set[str]:
        filter_ = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        return {log.message for log in worker.client.read_logs(filter_)}

    processes.wait_until(lambda: wanted <= logged(), "the lines to be in the API", SECONDS)
    processes.wait_until(lambda: all(line in worker.log.read_text() for line in wanted), "the output", SECONDS)
    assert "WARNING: no prefork engine" not in worker.log.read_text()


def test_variables_and_settings_of_a_run_are_its_own(worker: Worker) -> None:
    worker.ended(worker.create({"env": {"A_VARIABLE": "mine", "PREFECT_CLIENT_MAX_RETRIES": "2"}}))
    worker.ended(worker.create())
    lines = [line.split(" - ")[1] for line in worker.log.read_text().splitlines() if "version 1" in line]
    assert lines[-2:] == ["version 1, variable mine, retries 2", "version 1, variable None, retries 5"]


def test_an_edited_flow_is_what_runs_next(worker: Worker) -> None:
    worker.ended(worker.create())
    file = worker.folder / "probe.py"
    file.write_text(FLOW.replace("version 1", "version 2"))
    worker.ended(worker.create())
    file.write_text(FLOW)
    assert "version 2" in worker.log.read_text()


def test_a_run_that_is_cancelled_ends_and_its_hook_has_run(worker: Worker) -> None:
    run_id = worker.create(wait=True)
    process = worker.process(run_id)
    worker.client.set_flow_run_state(run_id, Cancelling())
    state = worker.ended(run_id).state
    assert state is not None
    assert state.is_cancelled(), state
    processes.wait_until(lambda: not Path(f"/proc/{process}").exists(), "the process to be gone", SECONDS)
    processes.wait_until((worker.folder / f"{run_id}.cancelled").exists, "the hook to have run", SECONDS)


def test_a_run_whose_process_exits_with_an_error_has_crashed_and_its_exit_code_is_named(worker: Worker) -> None:
    state = worker.ended(worker.create(exit_code=7)).state
    assert state is not None
    assert state.is_crashed(), state
    assert "7" in str(state.message)


@pytest.mark.parametrize("who", ["process", "client"])
def test_a_run_whose_process_or_client_is_killed_has_crashed(worker: Worker, who: str) -> None:
    run_id = worker.create(wait=True)
    process = worker.process(run_id)
    os.kill(process if who == "process" else worker.client_of(process), signal.SIGKILL)
    state = worker.ended(run_id).state
    assert state is not None
    assert state.is_crashed(), state
    processes.wait_until(lambda: not Path(f"/proc/{process}").exists(), "the process to be gone", SECONDS)


def test_runs_go_on_when_the_engine_is_killed_and_those_that_follow_do_without_it(worker: Worker) -> None:
    run_id = worker.create(wait=True)
    worker.process(run_id)
    os.killpg(worker.engine.pid, signal.SIGKILL)
    os.waitpid(worker.engine.pid, 0)
    (worker.folder / f"{run_id}.go").touch()
    state = worker.ended(run_id).state
    assert state is not None
    assert state.is_completed(), state
    state = worker.ended(worker.create()).state
    assert state is not None
    assert state.is_completed(), state
    assert "WARNING: no prefork engine, this run starts its own interpreter" in worker.log.read_text()
