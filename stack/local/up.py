"""A stack on this machine, of either profile: which processes, with which settings, in which order.

Everything it writes is under one folder: Prefect's home, logs, the landing, the warehouse, dbt's artifacts.
"""

import json
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from stack import processes
from stack.processes import StackError, answers, free_port, running, start, stop_all
from stack.profiles import PROFILES, SETTINGS, Profile, Say, Stack, named

POOL = "baton"
PREFORK = Path(__file__).parent / "prefork"


def start_stack(
    folder: Path, *, api: str | None, port: int, schedules: bool, say: Say, profile: str = PROFILES[0]
) -> Stack:
    """Starts everything and deploys into it; StackError, and nothing is left running, if some of it does not start.

    `api` is the URL of a live API; without one the sample API is started.
    """
    if alive := running(folder):
        raise StackError(f"already running here: {', '.join(alive)}; `make down` ends it")
    if answers(f"http://127.0.0.1:{port}/api/health"):
        raise StackError(f"another Prefect server answers on port {port}; end it, or choose another port (PORT=4300)")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _start(folder, named(profile), api, port, schedules, say)
    except BaseException:
        stop_all(folder)
        raise


def _start(folder: Path, profile: Profile, api: str | None, port: int, schedules: bool, say: Say) -> Stack:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if api is None:
        # With schedules off the shop stays as it is today: what is checked must not change at midnight.
        api = start_sample_api(folder, inherited, day=None if schedules else datetime.now(UTC).date())
        say(f"sample API      {api}")
    environment = {
        **inherited,
        **SETTINGS,
        "PREFECT_HOME": str(folder / "prefect"),
        "BATON_API_URLS": json.dumps(json.loads(inherited.get("BATON_API_URLS", "{}")) | {"dummyjson": api}),
        "DBT_TARGET_PATH": str(folder / "dbt" / "target"),
        "DBT_LOG_PATH": str(folder / "dbt" / "logs"),
        # Prefect's worker leaves a folder among the temporary files.
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir(exist_ok=True)
    stack = profile.start(folder, environment, port, say)
    start_prefork_engine(stack)
    make_work_pool(stack)
    run(stack, "prefect", "deploy", "--all")
    if not schedules:
        pause_schedules(stack)
    applied = run(stack, "automations", "apply")
    say("deployments     prefect.yaml; automations: automations/*.yaml")
    if schedules:  # Whoever stays should know what still wants something of theirs.
        for line in applied.splitlines():
            if line.startswith("skipped"):
                say(line)
    with ThreadPoolExecutor() as together:
        list(together.map(partial(start_worker, stack), range(1, profile.workers + 1)))
    say(f"workers         {profile.workers}, of the work pool {POOL}")
    return stack


def start_sample_api(folder: Path, environment: dict[str, str], day: date | None = None) -> str:
    """Starts the API that stands in for dummyjson.com, fixed on a day or always on today's; returns its base URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "stack.sample_api", "--port", str(port), *(["--day", f"{day}"] if day else [])]
    start("sample-api", command, folder, environment, ready=lambda: answers(f"{url}/products?limit=1"))
    return url


def start_worker(stack: Stack, number: int = 1) -> None:
    """Starts a process worker and waits until the server has heard from it; the workers share the servers evenly."""
    workers = stack.profile.workers
    name = "worker" if workers == 1 else f"worker-{number}"
    server = stack.apis[(number - 1) * len(stack.apis) // workers]
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", name]

    def heard() -> bool:
        with client(stack) as api:
            found = api.read_workers_for_work_pool(POOL)
        return any(worker.name == name and worker.status == WorkerStatus.ONLINE for worker in found)

    start(name, command, stack.folder, {**stack.environment, "PREFECT_API_URL": server}, ready=heard)


def start_prefork_engine(stack: Stack) -> None:
    """Starts the process that flow runs are forked from; see stack/prefork/README.md."""
    if can_fork():
        socket_of(stack).unlink(missing_ok=True)  # An engine that was killed leaves it behind.
        command = [sys.executable, str(PREFORK / "server.py"), str(socket_of(stack)), str(PREFORK / "prepare_dbt.py")]
        start("prefork-engine", command, stack.folder, stack.environment, ready=socket_of(stack).exists)


def can_fork() -> bool:
    """Whether flow runs are forked here. Elsewhere than on Linux, what a library started does not survive a fork."""
    return sys.platform == "linux"


def socket_of(stack: Stack) -> Path:
    """Where the prefork engine listens."""
    return stack.folder / "prefork" / "socket"


def engine_command(stack: Stack) -> list[str]:
    """What the worker starts for a flow run: in place of an interpreter, a client of the prefork engine."""
    start = ["-I", "-S", str(PREFORK / "client.py"), str(socket_of(stack))] if can_fork() else ["-m"]
    return [sys.executable, *start, "prefect.engine"]


def make_work_pool(stack: Stack) -> None:
    """The work pool and its two queues, unless they are there; extracts are as many as want to run."""
    template = ProcessWorker.get_default_base_job_template()
    # With a command of its own a run pays one interpreter start; without one, Prefect starts a second to load the flow.
    template["variables"]["properties"]["command"]["default"] = shlex.join(engine_command(stack))
    with client(stack) as api:
        try:
            api.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        except ObjectAlreadyExists:
            api.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        for queue, limit in (("extract", None), ("warehouse", stack.profile.transforms)):
            with suppress(ObjectAlreadyExists):
                api.create_work_queue(name=queue, work_pool_name=POOL, concurrency_limit=limit)


def pause_schedules(stack: Stack) -> None:
    """No run but those that are asked for; for the demo and tests."""
    with client(stack) as api:
        for deployment in api.read_deployments():
            for schedule in deployment.schedules:
                api.update_deployment_schedule(deployment.id, schedule.id, active=False)


def client(stack: Stack) -> SyncPrefectClient:
    """A client of this stack's server, whatever server the environment of this process names."""
    return SyncPrefectClient(stack.prefect_api, auth_string=stack.environment.get("PREFECT_API_AUTH_STRING"))


def run(stack: Stack, module: str, *arguments: str) -> str:
    """The output of a command-line module, run to its end in the stack's environment; StackError if it fails."""
    return processes.run(stack.environment, module, *arguments)
