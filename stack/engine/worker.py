"""A Prefect worker whose flow runs are forks of a prefork engine: `prefect worker start --pool POOL --type prefork`.

It is Prefect's process worker but for four things. A run is forked, so it needs no interpreter and no client process.
What each run of the process worker opens for itself, two connections for events and one for signals, is opened once.
The server is asked once for what it is asked twice, and there is no *Submitting*, which would last as long as a fork.
The worker is woken by the server's events; its clock is the safety net.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.flows import load_flow_from_flow_run
from prefect.logging.loggers import flow_run_logger
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.settings.context import get_current_settings
from prefect.workers.process import ProcessJobConfiguration, ProcessVariables, ProcessWorker, ProcessWorkerResult

from .client import GO_ON_ALONE, NoEngine, go, hand_over, read_line

SOCKET = "PREFORK_SOCKET"
"""The variable that names the socket of an engine that runs already; without it the worker starts one of its own."""
PREPARE = "PREFORK_PREPARE"
"""The variable with the files that the worker's own engine runs before it forks, separated as in PATH."""
WANTS_PACKAGES = "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES"
"""Prefect's variable for a run whose packages are installed first: not those of the engine."""
FLOW_FOLDER = "PREFORK_FLOW_FOLDER"
"""The variable with the folder that a run enters before it loads its flow, as `server.py` knows it, too."""
FLOW_ENTRYPOINT = "PREFECT__FLOW_ENTRYPOINT"
"""Prefect's variable for a flow that is loaded without asking for the deployment."""
READY_SECONDS = 120.0
DEPLOYMENTS: ContextVar[dict[UUID, DeploymentResponse]] = ContextVar("DEPLOYMENTS")
"""What the run that is being submitted has read."""
ENDS = ("Completed", "Failed", "Crashed", "Cancelled")
WAKING = [f"prefect.flow-run.{state}" for state in ("Scheduled", "AwaitingRetry", "Late", *ENDS)]
"""Events after which a run may be due: it is new, or another has left its slot of the queue."""


class PreforkWorker(ProcessWorker):
    """Prefect's process worker, with runs that are forks of a prefork engine."""

    type = "prefork"
    job_configuration = ProcessJobConfiguration
    job_configuration_variables = ProcessVariables  # type: ignore[assignment]
    _display_name = "Prefork"
    _description = "Execute flow runs as forks of a process that has imported Prefect, and what else is slow, already."
    _documentation_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._engine = Engine(os.environ.get(SOCKET), os.environ.get(PREPARE, ""))
        self._context = SharedContext()
        self._polling = asyncio.Lock()

    async def __aenter__(self) -> "PreforkWorker":
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._engine.running())
            await stack.enter_async_context(self._context)
            await super().__aenter__()
            self._around = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        async with self._around:
            await super().__aexit__(*exc_info)

    async def setup(self) -> None:
        """As the process worker does, with a client that remembers."""
        await super().setup()
        self._client = Remembering(self.client)  # type: ignore[assignment]

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: "anyio.abc.TaskStatus[int] | None" = None,
    ) -> ProcessWorkerResult:
        """Runs a flow run in a fork to its end; as the process worker does if it brings a command or wants packages."""
        if configuration._command_configured or configuration.env.get(WANTS_PACKAGES):
            return await super().run(flow_run, configuration, task_status)
        with contextlib.ExitStack() as stack:
            folder = configuration.working_dir or stack.enter_context(tempfile.TemporaryDirectory(suffix="prefect"))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", DeprecationWarning)
            starter = ForkStarter(
                self._engine,
                await self._code_of(flow_run),
                cwd=Path(folder).resolve(),
                env=configuration.env,
                stream_output=configuration.stream_output,
                control_channel=self._context.control_channel,
            )
            executor = self._context.create_executor(
                flow_run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False
            )
            ended: list[FlowRunExecutionResult | None] = []

            async def execute(*, task_status: "anyio.abc.TaskStatus[ProcessHandle]") -> None:
                ended.append(await executor.submit(task_status))

            async with anyio.create_task_group() as group:
                handle = await group.start(execute)
                if task_status is not None:
                    task_status.started(handle.pid)
        (result,) = ended
        if result is None or result.status_code is None:
            raise RuntimeError("the flow run's process did not start")
        return ProcessWorkerResult(status_code=result.status_code, identifier=str(result.handle.pid))

    async def _code_of(self, flow_run: FlowRun) -> dict[str, str]:
        """Variables that say where a run's flow is; none unless all that its pull steps do is to enter a folder.

        The run then need not ask for its deployment, nor run the step.
        """
        if flow_run.deployment_id is None:
            return {}
        deployment = await self.client.read_deployment(flow_run.deployment_id)
        match deployment.pull_steps:
            case [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}] if (
                deployment.entrypoint and Path(folder).is_dir()
            ):
                return {FLOW_FOLDER: folder, FLOW_ENTRYPOINT: deployment.entrypoint}
        return {}

    async def _submit_run(self, flow_run: FlowRun) -> None:
        DEPLOYMENTS.set({})  # For this task and those that it starts.
        await super()._submit_run(flow_run)

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """Says nothing: *Pending* is followed by *Running* within a moment."""

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Without waiting for the server's answer."""
        assert self._runs_task_group is not None
        self._runs_task_group.start_soon(super()._give_worker_labels_to_flow_run, flow_run_id)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """As the process worker does; never twice at a time, because it is called by the clock and by events."""
        async with self._polling:
            return await super().get_and_submit_flow_runs()

    async def _initialize_after_sync(self) -> None:
        first = not self._has_successfully_synced
        await super()._initialize_after_sync()
        if first and self._has_successfully_synced and self._runs_task_group is not None:
            self._runs_task_group.start_soon(self._poll_when_woken)

    async def _poll_when_woken(self) -> None:
        """Polls at each event of the work pool that may have made a run due."""
        pool = EventAnyResourceFilter(id=[f"prefect.work-pool.{self.work_pool.id}"])
        wanted = EventFilter(event=EventNameFilter(name=WAKING), any_resource=pool)
        woken = asyncio.Event()

        async def listen() -> None:
            while True:
                try:
                    async with get_events_subscriber(wanted, reconnection_attempts=10) as events:
                        async for _ in events:
                            woken.set()
                except Exception as error:
                    self._logger.debug("events cannot be read, the clock polls meanwhile: %s", error)
                    await anyio.sleep(self.heartbeat_interval_seconds)

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            while True:
                await woken.wait()
                woken.clear()
                with contextlib.suppress(Exception):  # The loop that the clock drives reports what is wrong.
                    await self.get_and_submit_flow_runs()


class Engine:
    """The prefork engine: one that runs already, or one of the worker's own, which ends with it."""

    def __init__(self, socket: str | None, prepare: str) -> None:
        self.socket = socket or ""
        self._own = not socket and sys.platform == "linux"
        self._prepare = [file for file in prepare.split(os.pathsep) if file]
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine, for the duration of the block."""
        if not self._own:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="prefork-", ignore_cleanup_errors=True) as folder:
            self.socket = str(Path(folder) / "socket")
            process = self.start_again()
            with anyio.move_on_after(READY_SECONDS):
                while process and process.poll() is None and not Path(self.socket).exists():
                    await anyio.sleep(0.05)
            try:
                yield
            finally:
                if process := self._process:  # Another than at first, if that has ended.
                    process.terminate()
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(process.wait)

    def start_again(self) -> "subprocess.Popen[bytes] | None":
        """Starts the worker's own engine if it has ended; its process."""
        if self._own and (self._process is None or self._process.poll() is not None):
            command = [sys.executable, str(Path(__file__).with_name("server.py")), self.socket, *self._prepare]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        return self._process

    def fork(self, folder: object, environment: dict[str, str], streams: tuple[int, int, int]) -> "ForkedRun":
        """A run of `prefect.engine` in a fork; NoEngine or OSError if there is none, and nothing has begun."""
        if not self.socket:
            raise NoEngine("flow runs are forked on Linux only")
        variables = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        connection = hand_over(self.socket, ["prefect.engine"], str(folder), current_umask(), variables)
        go(connection, GO_ON_ALONE, streams)
        return ForkedRun(connection, int(read_line(connection) or 0))


def current_umask() -> int:
    """This process's umask, read without changing it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("Umask:")[2].split()[0], 8)


class ForkedRun:
    """The process of a flow run, and how Prefect ends it: through its watcher, so no signal reaches another process
    that got the same id later."""

    wait_after_graceful_kill = True

    def __init__(self, connection: Any, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection

    async def wait(self) -> None:
        """Returns when the run has ended; killed if its watcher was, because nobody would know of its end."""
        self._connection.setblocking(False)
        answer = b""
        while not answer.endswith(b"\n"):
            received = await asyncio.get_running_loop().sock_recv(self._connection, 64)
            if not received:
                break
            answer += received
        ending, _, code = answer.decode().partition(" ")
        if not ending and self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.returncode = int(code) if ending == "exit" else -int(code or signal.SIGKILL)
        self.close()

    def is_alive(self, pid: int) -> bool:
        """Whether it has not ended."""
        return self.returncode is None

    def graceful_kill(self, pid: int) -> None:
        """Sends SIGTERM."""
        self._signal(signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        """Sends SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError(self.pid)
        with contextlib.suppress(BrokenPipeError):  # It ends at this moment.
            self._connection.send(bytes([number]))

    def close(self) -> None:
        """Closes the connection to the watcher."""
        self._connection.close()


class ForkStarter(EngineCommandStarter):
    """Starts a flow run in a fork, or, where there is no engine, in an interpreter, as its parent class does."""

    def __init__(self, engine: Engine, code: dict[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._engine = engine
        self._code = code
        """Variables that tell a fork where the flow is; an interpreter asks the server."""

    async def start(
        self, flow_run: FlowRun, task_status: "anyio.abc.TaskStatus[ProcessHandle]" = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Returns when the run has ended."""
        with contextlib.ExitStack() as stack:
            nothing = stack.enter_context(Path(os.devnull).open("rb+", buffering=0)).fileno()
            streams = (nothing, 1, 2) if self._stream_output else (nothing, nothing, nothing)
            fork = partial(self._engine.fork, self._cwd, self.environment(flow_run), streams)
            try:
                run = await anyio.to_thread.run_sync(fork)
            except (NoEngine, OSError) as error:
                flow_run_logger(flow_run).warning("no prefork engine, this run starts its own interpreter: %s", error)
                run = None
        if run is None:
            self._engine.start_again()
            await super().start(flow_run, task_status)
            return
        task_status.started(ProcessHandle(run, termination_scope=run))  # type: ignore[arg-type]
        try:
            await run.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                run.hard_kill(run.pid)
            with anyio.CancelScope(shield=True):
                await run.wait()
            raise

    def environment(self, flow_run: FlowRun) -> dict[str, str]:
        """What the process worker gives to a run: its own variables, the job's, Prefect's settings and the run's id."""
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        of_run = {
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
        }
        assert self._control_channel is not None
        with contextlib.suppress(RuntimeError):  # Without it a cancelled run still gets its SIGTERM.
            port, token = self._control_channel.register(flow_run.id)
            of_run |= {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        given = {**os.environ, **self._env, **settings, **of_run, **self._code}
        return {name: value for name, value in given.items() if value is not None}


class SharedContext(FlowRunExecutorContext):
    """What Prefect makes anew for each run, made once: a cancellation that fails must not end the others' runs."""

    async def __aenter__(self) -> "SharedContext":
        await super().__aenter__()
        cancel = self._cancellation_manager.cancel_by_id

        async def cancel_by_id(flow_run_id: UUID) -> None:
            try:
                await cancel(flow_run_id)
            except Exception:
                self._logger.exception("flow run %s could not be cancelled", flow_run_id)

        self._cancellation_manager.cancel_by_id = cancel_by_id  # type: ignore[method-assign]
        return self


class Remembering:
    """A client that reads no flow twice, and no deployment twice for one run."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._flows: dict[UUID, Flow] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def read_flow(self, flow_id: UUID) -> Flow:
        """The flow, whose name and id never change."""
        if flow_id not in self._flows:
            self._flows[flow_id] = await self._client.read_flow(flow_id)
        return self._flows[flow_id]

    async def read_deployment(self, deployment_id: UUID) -> DeploymentResponse:
        """The deployment, as it was when the run that is being submitted asked first."""
        known = DEPLOYMENTS.get({})
        if deployment_id not in known:
            known[deployment_id] = await self._client.read_deployment(deployment_id)
        return known[deployment_id].model_copy(deep=True)
