"""Flow runs of a real server, each in a fork of the engine: of the worker type `prefork`, and of a process worker."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.states import Cancelling
from prefect.workers.process import ProcessWorker

from stack.engine.worker import SOCKET, PreforkWorker
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
    print("in", os.getcwd(), "entrypoint", os.environ.get("PREFECT__FLOW_ENTRYPOINT"))
    name = FOLDER / f"{flow_run.id}.holding"
    name.write_text(str(os.getpid()))
    while wait and not (FOLDER / f"{flow_run.id}.go").exists():
        time.sleep(0.05)
    if exit_code:
        os._exit(exit_code)
"""

LACKS_ENGINE = "no prefork engine, this run starts its own interpreter"
"""What is logged for a run that is not forked."""


@dataclass(frozen=True)
class Worker:
    """A worker whose flow runs are forks of an engine, and a deployment for it to run."""

    kind: str
    """Of its work pool: `prefork`, or `process` with a command."""
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

    def parent_of(self, process: int) -> int:
        """What stands between the worker and the process of a run: its client if it has one, or else its watcher."""
        if self.kind == "process":
            return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[-1])
        return psutil.Process(process).ppid()


def start_worker(client: SyncPrefectClient, folder: Path, pool: str, environment: dict[str, str]) -> int:
    """Starts a worker of the pool and waits until it is online; its process."""

    def online() -> bool:
        return any(found.status == WorkerStatus.ONLINE for found in client.read_workers_for_work_pool(pool))

    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", "worker"]
    settings = {"PREFECT_WORKER_QUERY_SECONDS": "0.3", "PREFECT_LOGGING_LOG_PRINTS": "true"}
    return processes.start("worker", command, folder, os.environ | settings | environment, ready=online)


@contextlib.contextmanager
def working(kind: str, server: str, folder: Path) -> Iterator[Worker]:
    """A worker of a work pool of its own, with an engine that the test may end."""
    (folder / "probe.py").write_text(FLOW)
    engine = start_engine(folder)
    template = (PreforkWorker if kind == "prefork" else ProcessWorker).get_default_base_job_template()
    if kind == "process":
        template["variables"]["properties"]["command"]["default"] = shlex.join(engine.command("prefect.engine"))
    pool = f"{kind}-{uuid4()}"
    with SyncPrefectClient(server) as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type=kind, base_job_template=template))
        deployment = client.create_deployment(
            client.create_flow_from_name("probe"),
            pool,
            entrypoint="probe.py:probe",
            path=str(folder),
            work_pool_name=pool,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
        )
        environment = {SOCKET: str(engine.socket)} if kind == "prefork" else {}
        pid = start_worker(client, folder, pool, environment)
        yield Worker(kind, client, engine, deployment, folder, pid, folder / "worker.log")
    processes.stop_all(folder)


@pytest.fixture(scope="module", params=["prefork", "process"])
def worker(request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with working(request.param, server, tmp_path_factory.mktemp("worker")) as made:
        yield made


@pytest.fixture
def prefork(server: str, tmp_path: Path) -> Iterator[Worker]:
    """A prefork worker that the test may end."""
    with working("prefork", server, tmp_path) as made:
        yield made


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
    assert LACKS_ENGINE not in worker.log.read_text()


def test_variables_and_settings_of_a_run_are_its_own(worker: Worker) -> None:
    worker.ended(worker.create({"env": {"A_VARIABLE": "mine", "PREFECT_CLIENT_MAX_RETRIES": "2"}}))
    worker.ended(worker.create())
    lines = [line.split(" - ")[1] for line in worker.log.read_text().splitlines() if "version 1" in line]
    assert lines[-2:] == ["version 1, variable mine, retries 2", "version 1, variable None, retries 5"]


def test_an_edited_flow_is_what_runs_next(worker: Worker) -> None:
    worker.ended(worker.create())
    file = worker.folder / "probe.py"
    file.write_text(FLOW.replace("version 1", "version two"))  # Bytecode of a file of the same second and size is used.
    worker.ended(worker.create())
    file.write_text(FLOW)
    assert "version two" in worker.log.read_text()


def test_what_is_changed_in_the_deployment_counts_for_the_next_run(worker: Worker) -> None:
    for value in ("first", "second", "third"):
        changed = DeploymentUpdate(job_variables={"env": {"A_VARIABLE": value}})
        worker.client.update_deployment(worker.deployment, changed)
        worker.ended(worker.create())
        assert worker.log.read_text().rpartition("version 1, variable ")[2].startswith(value)
    worker.client.update_deployment(worker.deployment, DeploymentUpdate(job_variables={}))


@pytest.mark.parametrize("folders", [["{}"], ["{}/elsewhere", "{}"]], ids=["one step", "two steps"])
def test_a_run_is_where_its_pull_steps_lead_and_one_that_enters_a_folder_costs_no_step(
    prefork: Worker, folders: list[str]
) -> None:
    (prefork.folder / "elsewhere").mkdir()
    enter = "prefect.deployments.steps.set_working_directory"
    steps = [{enter: {"directory": folder.format(prefork.folder)}} for folder in folders]
    prefork.client.update_deployment(prefork.deployment, DeploymentUpdate(pull_steps=steps))
    run = prefork.ended(prefork.create())
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    shown = f"in {prefork.folder} entrypoint None"
    processes.wait_until(lambda: shown in prefork.log.read_text(), "the output", SECONDS)
    assert ("deployment pull step" in prefork.log.read_text()) == (len(steps) > 1)


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


@pytest.mark.parametrize("who", ["process", "parent"])
def test_a_run_whose_process_or_whose_client_or_watcher_is_killed_has_crashed(worker: Worker, who: str) -> None:
    run_id = worker.create(wait=True)
    process = worker.process(run_id)
    os.kill(process if who == "process" else worker.parent_of(process), signal.SIGKILL)
    state = worker.ended(run_id).state
    assert state is not None
    assert state.is_crashed(), state
    processes.wait_until(lambda: not Path(f"/proc/{process}").exists(), "the process to be gone", SECONDS)


def test_a_run_that_brings_a_command_runs_it(worker: Worker) -> None:
    command = shlex.join([sys.executable, "-c", "print('mine'); raise SystemExit(3)"])
    state = worker.ended(worker.create({"command": command})).state
    assert state is not None
    assert state.is_crashed(), state
    processes.wait_until(lambda: "mine" in worker.log.read_text(), "the command to have run", SECONDS)


def test_twenty_runs_at_once_each_end_as_their_own(worker: Worker) -> None:
    codes = [number % 3 for number in range(20)]
    runs = [worker.create(exit_code=code) for code in codes]
    states = [worker.ended(run_id).state for run_id in runs]
    assert [state is not None and state.is_completed() for state in states] == [code == 0 for code in codes]


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
    assert LACKS_ENGINE in worker.log.read_text()


def test_a_run_goes_on_when_its_worker_is_killed(prefork: Worker) -> None:
    run_id = prefork.create(wait=True)
    prefork.process(run_id)
    os.killpg(prefork.pid, signal.SIGKILL)
    os.waitpid(prefork.pid, 0)
    (prefork.folder / f"{run_id}.go").touch()
    state = prefork.ended(run_id).state
    assert state is not None
    assert state.is_completed(), state


def test_what_a_killed_worker_has_left_is_ended_with_the_engine(prefork: Worker) -> None:
    process = prefork.process(prefork.create(wait=True))
    os.killpg(prefork.pid, signal.SIGKILL)
    os.waitpid(prefork.pid, 0)
    processes.stop(prefork.folder, "engine")
    processes.wait_until(lambda: not Path(f"/proc/{process}").exists(), "the process to be gone", SECONDS)


def test_a_run_is_ended_with_its_worker(prefork: Worker) -> None:
    run_id = prefork.create(wait=True)
    process = prefork.process(run_id)
    processes.stop(prefork.folder, "worker")
    assert not Path(f"/proc/{process}").exists()


def test_a_run_is_taken_at_once_however_seldom_the_worker_polls(server: str, prefork: Worker) -> None:
    processes.stop(prefork.folder, "worker")
    pool = prefork.client.read_deployment(prefork.deployment).work_pool_name
    assert pool
    own = {"PREFECT_WORKER_QUERY_SECONDS": "3600", SOCKET: str(prefork.engine.socket)}
    start_worker(prefork.client, prefork.folder, pool, own)
    for _ in range(3):
        state = prefork.ended(prefork.create()).state
        assert state is not None
        assert state.is_completed(), state


def test_a_worker_without_a_socket_starts_an_engine_and_another_when_it_ends(prefork: Worker) -> None:
    processes.stop(prefork.folder, "worker")
    pool = prefork.client.read_deployment(prefork.deployment).work_pool_name
    assert pool
    pid = start_worker(prefork.client, prefork.folder, pool, {})

    def engines() -> list[psutil.Process]:
        return [child for child in psutil.Process(pid).children() if "server.py" in " ".join(child.cmdline())]

    processes.wait_until(lambda: len(engines()) == 1, "an engine to start", SECONDS)
    (first,) = engines()
    processes.wait_until(lambda: worker_has_forked(prefork), "the engine to fork", SECONDS)
    first.kill()
    processes.wait_until(lambda: first.status() == psutil.STATUS_ZOMBIE, "the engine to be gone", SECONDS)
    prefork.ended(prefork.create())
    assert LACKS_ENGINE in prefork.log.read_text()
    (second,) = (engine for engine in engines() if engine.pid != first.pid)
    processes.wait_until(lambda: worker_has_forked(prefork), "another engine to fork", SECONDS)
    os.kill(pid, signal.SIGKILL)
    processes.wait_until(lambda: not second.is_running(), "the engine to end with its worker", SECONDS)


def worker_has_forked(worker: Worker) -> bool:
    """Whether a run that is created now is a fork."""
    run_id = worker.create(wait=True)
    process = psutil.Process(worker.process(run_id))
    forked = "server.py" in " ".join(process.cmdline())
    (worker.folder / f"{run_id}.go").touch()
    worker.ended(run_id)
    return forked
