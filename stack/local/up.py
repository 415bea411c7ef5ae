"""Starts a stack of either profile on this machine: which processes, with which settings, in which order.

Everything it writes is in one folder: Prefect's home, logs, the landing, the warehouse, dbt's artifacts.
"""

import json
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.settings import PROJECT
from stack.engine import worker
from stack.engine.worker import PreforkWorker
from stack.local import env_files, processes
from stack.local.one_machine import ONE_MACHINE
from stack.local.processes import StackError, answers, free_port, is_free, running, start, stop_all
from stack.local.profiles import Profile, ProfileName, Say, Stack
from stack.sample_api import shop

POOL = "baton"
LOGS = PROJECT / "stack" / "local" / "logs.py"
ENGINE = PROJECT / "stack" / "engine"
SETTINGS = PROJECT / "stack" / "deploy" / "settings.env"
"""Prefect's settings on every stack."""
NOT_INHERITED = (
    "PYTHONDONTWRITEBYTECODE",  # Every start would compile Prefect again.
    "PREFECT_API_",
    "PREFECT_PROFILE",
    "PREFECT_MESSAGING_",
    "PREFECT_REDIS_",
    "PREFECT_SERVER_API_",
    "PREFECT_SERVER_DATABASE_",
    "PREFECT_SERVER_DOCKET_",
)
"""Variables that begin so say where a user's other server is, and what it stands on; a stack has its own. If a server
is to want a password, this one does, too."""
FORMER_DEPLOYMENTS = ("reap/zombies",)
"""Deployments of earlier versions, whose flows are gone: their schedules start runs that cannot load."""


def start_stack(
    folder: Path, *, api: str | None, port: int, schedules: bool, say: Say, profile: ProfileName = "one-machine"
) -> Stack:
    """Starts everything and deploys into it; StackError, with nothing left running, if a part does not start.

    `api` is the URL of a live dummyjson; without one the sample API plays it, too.
    """
    if alive := running(folder):
        raise StackError(f"already running here: {', '.join(alive)}; `make down` ends it")
    if not is_free(port):
        other = "Prefect server" if answers(f"http://127.0.0.1:{port}/api/health") else "program"
        raise StackError(f"another {other} has port {port}; end it, or choose another port (PORT=4300)")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _start(folder, profile_named(profile), api, port, schedules, say)
    except BaseException:
        stop_all(folder)
        raise


def profile_named(name: ProfileName) -> Profile:
    """The profile of that name; StackError if it needs packages that are not installed."""
    if name == "one-machine":
        return ONE_MACHINE
    try:
        from stack.local.scale import SCALE  # Its packages are an extra.
    except ImportError as error:
        raise StackError(f"{error}: pip install -c constraints.txt -e '.[scale]'") from error
    return SCALE


def _start(folder: Path, profile: Profile, api: str | None, port: int, schedules: bool, say: Say) -> Stack:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    # Also beside a live API, because nobody else plays `shop`. With schedules off it stays on one day: what a test
    # checks must not change at midnight.
    sample = start_sample_api(folder, inherited, day=None if schedules else days_ago(2))
    say(f"sample API      {sample}")
    urls = {"dummyjson": api or sample, "shop": f"{sample}{shop.PREFIX}"}
    password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    environment = {
        **inherited,
        **env_files.read_template(SETTINGS),
        **({"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password} if password else {}),
        "PREFECT_HOME": str(folder / "prefect"),
        "BATON_API_URLS": json.dumps(json.loads(inherited.get("BATON_API_URLS", "{}")) | urls),
        env_files.SAMPLE_SECRET: shop.TOKEN,
        "DBT_TARGET_PATH": str(folder / "dbt" / "target"),
        "DBT_LOG_PATH": str(folder / "dbt" / "logs"),
        # Prefect's worker leaves a folder among the temporary files.
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir(exist_ok=True)
    stack = profile.start(folder, environment, port, say)
    start_log_rotation(stack)
    start_prefork_engine(stack)
    make_work_pool(stack)
    say("deployments     prefect.yaml is deployed …")
    run(stack, "prefect", "deploy", "--all")
    remove_former_deployments(stack)
    if not schedules:
        pause_schedules(stack)
    applied = run(stack, "automations.prefect_automations", "apply")
    say("automations     automations/*.yaml")
    if schedules:  # These need something that only the user can make.
        for line in applied.splitlines():
            if line.startswith("skipped"):
                say(line)
    with processes.interruptible(), ThreadPoolExecutor() as together:
        list(together.map(partial(start_worker, stack), range(1, profile.workers + 1)))
    say(f"workers         {profile.workers}, of the work pool {POOL}")
    return stack


def days_ago(number: int) -> date:
    """A day that is over, so that no record of it has a time in the future."""
    return datetime.now(UTC).date() - timedelta(days=number)


def start_sample_api(
    folder: Path, environment: dict[str, str], day: date | None = None, port: int | None = None
) -> str:
    """Starts the sample API, fixed on a day or on the day of each request; returns its base URL."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "stack.sample_api.server", "--port", str(port)]
    if day:
        command += ["--day", f"{day}"]
    start("sample-api", command, folder, environment, ready=lambda: answers(f"{url}/products?limit=1"))
    return url


def start_log_rotation(stack: Stack) -> None:
    """Starts the process that keeps the logs small; it needs none of the packages."""
    start("log-rotation", [sys.executable, "-I", "-S", str(LOGS), str(stack.folder)], stack.folder, stack.environment)


def start_worker(stack: Stack, number: int = 1) -> None:
    """Starts a worker and waits until the server lists it as online; the workers share the servers evenly."""
    workers = stack.profile.workers
    name = "worker" if workers == 1 else f"worker-{number}"
    server = stack.apis[(number - 1) * len(stack.apis) // workers]
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", name]

    def online() -> bool:
        with client(stack) as api:
            found = api.read_workers_for_work_pool(POOL)
        return any(worker.name == name and worker.status == WorkerStatus.ONLINE for worker in found)

    own = {"PREFECT_API_URL": server}
    if can_fork():
        # Events wake it; the clock is for what they miss, and costs processor time.
        own |= {worker.SOCKET: str(socket_of(stack)), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    start(name, command, stack.folder, {**stack.environment, **own}, ready=online)


def start_prefork_engine(stack: Stack, *preparations: Path) -> None:
    """Starts the process that forks flow runs, after these preparations, too; see stack/engine/README.md."""
    if can_fork():
        socket_of(stack).unlink(missing_ok=True)  # A killed engine leaves it.
        command = [sys.executable, ENGINE / "server.py", socket_of(stack), ENGINE / "prepare_dbt.py", *preparations]
        start(
            "prefork-engine",
            [str(part) for part in command],
            stack.folder,
            stack.environment,
            ready=socket_of(stack).exists,
        )


def can_fork() -> bool:
    """Whether flow runs are forked: on Linux only, because macOS libraries do not survive a fork."""
    return processes.on_linux()


def socket_of(stack: Stack) -> Path:
    """Where the prefork engine listens."""
    return stack.folder / "prefork" / "socket"


def kind_of_worker() -> tuple[str, dict[str, Any]]:
    """The type of the work pool and its base job template."""
    if can_fork():
        return PreforkWorker.type, PreforkWorker.get_default_base_job_template()
    template = ProcessWorker.get_default_base_job_template()
    # With a command a run costs one interpreter start; without one, Prefect starts a second to load the flow.
    command = shlex.join([sys.executable, "-m", "prefect.engine"])
    template["variables"]["properties"]["command"]["default"] = command
    return ProcessWorker.type, template


def make_work_pool(stack: Stack) -> None:
    """Makes the work pool and its two queues, unless they exist; extracts run without a limit."""
    kind, template = kind_of_worker()
    with client(stack) as api:
        with suppress(ObjectNotFound):
            if api.read_work_pool(POOL).type != kind:  # Of an earlier version; the type cannot be changed.
                api.delete_work_pool(POOL)
        try:
            api.create_work_pool(WorkPoolCreate(name=POOL, type=kind, base_job_template=template))
        except ObjectAlreadyExists:
            api.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        for queue, limit in (("extract", None), ("warehouse", stack.profile.transforms)):
            with suppress(ObjectAlreadyExists):
                api.create_work_queue(name=queue, work_pool_name=POOL, concurrency_limit=limit)


def remove_former_deployments(stack: Stack) -> None:
    """Removes what an earlier version has deployed here and this one no longer has."""
    with client(stack) as api:
        for name in FORMER_DEPLOYMENTS:
            with suppress(ObjectNotFound):
                api.delete_deployment(api.read_deployment_by_name(name).id)


def pause_schedules(stack: Stack) -> None:
    """Switches every schedule off, for the demo and tests."""
    with client(stack) as api:
        for deployment in api.read_deployments():
            for schedule in deployment.schedules:
                api.update_deployment_schedule(deployment.id, schedule.id, active=False)


def client(stack: Stack) -> SyncPrefectClient:
    """A client of this stack's server, whichever server the environment of this process names."""
    return SyncPrefectClient(stack.prefect_api, auth_string=stack.environment.get("PREFECT_API_AUTH_STRING"))


def run(stack: Stack, module: str, *arguments: str) -> str:
    """The output of a command-line module in the stack's environment; StackError if it fails."""
    return processes.run(stack.environment, module, *arguments)
