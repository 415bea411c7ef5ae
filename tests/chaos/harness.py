"""The full profile: the real stack, a schedule of faults, and a count of what became of every batch.

Time is scaled by fifteen, so that days of bad luck fit into an hour: the sweep comes every minute in place of every
15, crash-zombies/zombies every 20 seconds in place of five minutes, a late event after 40 seconds in place of ten
minutes. A run without events is set Crashed after 40 seconds in place of 90, which is as short as heartbeats of 30
seconds, the least that Prefect takes, allow.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import httpx
import psutil
import yaml
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events import Event
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Scheduled

from flows.settings import PROJECT
from stack.local import processes, up
from stack.local.profiles import Stack
from stack.sample_api.server import Answer, problem, serving
from tests.chaos import counts, points
from tests.chaos.forks import Forks
from tests.chaos.schedule import Landing, Round

PRODUCTS = 12
PAGE_SIZE = 5
SWEEP_SECONDS = 60
CRASH_ZOMBIES_SECONDS = 20
LATE_SECONDS = 40
CRASHED_AFTER_SECONDS = int(os.environ.get("CHAOS_CRASHED_AFTER", "40"))
REST_SECONDS = 420
FULL_SECONDS = 8
DISK = "size=2g"
"""Of the file system in memory on which a stack works, so that its disk can be filled."""
ACTIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arm:
    """One way to chain: the flows, how the harness starts them, and how their batches are counted."""

    name: str
    extract: str
    extract_deployment: str
    transform: str | None
    """What the sweep and a person start; None where there is no such thing."""
    flows: tuple[str, ...]
    where: tuple[str, ...]
    most: Mapping[str, int]
    """How often a process comes to a point, at the least."""
    prepare: Callable[["Chaos"], None]
    environment: Callable[[Path, str], dict[str, str]]
    """What its flows read besides, from the folder and the API's address."""
    count: Callable[["Chaos"], counts.Counts]
    at_rest: Callable[["Chaos"], bool]
    """Whether nothing is left to wait for, once no run is active."""


class FaultyApi:
    """The plan of the sample API: what it does to the next request."""

    def __init__(self) -> None:
        self.next = "none"

    def __call__(self, path: str, query: dict[str, str], number: int) -> Answer | str | None:
        fault, self.next = self.next, "none"
        if fault == "429":
            return problem(429, "Too many requests", {"Retry-After": "1"})
        if fault == "500":
            return problem(500, "as the schedule says")
        if fault == "slow":
            time.sleep(2)
        return "cut" if fault == "cut" else None


class Chaos:
    """A stack that runs, and everything that is done to it."""

    def __init__(self, arm: Arm, folder: Path, stack: Stack, forks: Forks, api: FaultyApi) -> None:
        self.arm, self.folder, self.stack, self.forks, self.api = arm, folder, stack, forks, api
        self.promised_file = folder / "promised.txt"

    # What is counted

    @property
    def promised(self) -> set[str]:
        """Batches that a completed extract said to have landed."""
        return set(self.promised_file.read_text().split()) if self.promised_file.exists() else set()

    def promise(self, batch_id: str) -> None:
        with self.promised_file.open("a") as file:
            file.write(f"{batch_id}\n")

    # What is done

    def land(self, landing: Landing) -> None:
        """One extract in a process of its own, to its end; one that cannot reach the server lands nothing."""
        self.api.next = landing.api
        child = self.forks.start(
            self.arm.extract, landing.event, source="dummyjson.products", page_size=PAGE_SIZE, handoff="event"
        )
        answer = child.result()
        self.api.next = "none"
        if answer and answer["result"]:
            self.promise(answer["result"]["batch_id"])

    def start(self, deployment: str, **parameters: Any) -> UUID:
        """A run of a deployment, by the worker."""
        with up.client(self.stack) as api:
            return api.create_flow_run_from_deployment(
                api.read_deployment_by_name(deployment).id, parameters=parameters
            ).id

    def kill_inside(self, round_: Round) -> None:
        """Waits until a process has come to the armed point, with as many landings more as that takes."""
        if round_.point in points.EXTRACT:
            run_id = self.start(self.arm.extract_deployment, page_size=PAGE_SIZE)
        elif round_.point in points.ORCHESTRATE:
            run_id = self.start("orchestrate/dummyjson", sources=["dummyjson.products"])
        else:
            run_id = None
            # The schedule may have let every landing fail; the build that is to be killed needs a batch.
            self.land(Landing("none", "none"))
        self.wait(lambda: not (self.forks.folder / round_.point).exists(), f"{round_.point} to be reached", 240)
        if run_id and round_.again and round_.point in points.EXTRACT:
            self.start_again(run_id)

    def start_again(self, run_id: UUID) -> None:
        """What the button Retry does, once the run is known to have crashed."""
        self.wait(lambda: self.state_of(run_id).is_final(), "the killed extract to be known as crashed", 240)
        with up.client(self.stack) as api:
            api.set_flow_run_state(run_id, Scheduled(name="AwaitingRetry"), force=True)

    def strike(self, round_: Round) -> None:
        """What no process does to itself, during an extract by the worker and what follows it."""
        self.start(self.arm.extract_deployment, page_size=PAGE_SIZE)
        if round_.point == "transform_stopped":
            self.stop_a_transform()
        elif round_.point == "disk_full":
            self.fill_the_disk(round_.times / 10)
        else:
            self.kill_outside(round_)

    def stop_a_transform(self) -> None:
        """SIGSTOP, and SIGCONT once the run is known as crashed, as when a machine has slept."""
        stopped: list[tuple[UUID, psutil.Process]] = []

        def stop() -> bool:
            for run in active(self.stack, self.arm.flows[1:2]):
                if run.state_name == "Running" and run.infrastructure_pid:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process = psutil.Process(int(run.infrastructure_pid))
                        process.suspend()
                        stopped.append((run.id, process))
                        return True
            return False

        self.wait(stop, "a transform to run", 120)
        ((run_id, process),) = stopped
        points.fired_file(self.forks.folder, "transform_stopped").touch()
        try:
            self.wait(lambda: self.state_of(run_id).is_final(), "the stopped run to be known as crashed", 240)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):  # Whoever ended it has sent SIGKILL.
                process.resume()

    def fill_the_disk(self, seconds: float) -> None:
        """Leaves no byte for the landing, the warehouse and the server's database, for some seconds."""
        filler = self.folder / "filler"
        if not self.folder.is_mount():  # This would be everybody's disk.
            return
        time.sleep(seconds)
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        time.sleep(FULL_SECONDS)
        filler.unlink()
        points.fired_file(self.forks.folder, "disk_full").touch()

    def kill_outside(self, round_: Round) -> None:
        """Kills a part of the stack, after so many tenths of a second, and starts it again."""
        time.sleep(round_.times / 10 + (2 if round_.point != "server" else 0))
        alive = processes.running(self.folder)
        if round_.point == "worker_with_its_runs":  # As when a machine is lost.
            os.killpg(alive["worker"], signal.SIGKILL)
            kill(self.forked())
        elif round_.point == "watchers":
            kill(process for process in self.forked() if process.ppid() == alive["prefork-engine"])
        elif round_.point == "worker":  # Its runs live on.
            os.kill(alive["worker"], signal.SIGKILL)
        else:
            os.killpg(alive[round_.point.replace("_", "-")], signal.SIGKILL)
        points.fired_file(self.forks.folder, round_.point).touch()
        if round_.point == "server":
            # A landing while nobody takes the event.
            self.land(Landing("none", "none"))
        self.repair()

    def forked(self) -> list[psutil.Process]:
        """The processes of the flow runs that the engine has forked, and their watchers."""
        return psutil.Process(processes.running(self.folder)["prefork-engine"]).children(recursive=True)

    def repair(self) -> None:
        """What an init system does: whatever is not running is started again."""
        alive = processes.running(self.folder)
        if "server" not in alive:
            port = int(self.stack.prefect_api.rpartition(":")[2].removesuffix("/api"))
            processes.start_prefect_server(self.folder, self.stack.environment, port)
        if "prefork-engine" not in alive:
            up.start_prefork_engine(self.stack, HERE / "prepare_points.py")
        if "worker" not in alive:
            up.start_worker(self.stack)

    def go_through(self, round_: Round) -> dict[str, Any]:
        """The round's landings and its kill, then rest; what happened, with every batch that is not as it must be."""
        began, killed = time.monotonic(), points.fired(self.forks.folder)
        self.repair()
        if round_.point not in points.FROM_OUTSIDE:
            points.arm(self.forks.folder, round_.point, round_.times)
        problems: list[str] = []
        with self.noted(problems):
            for position, landing in enumerate(round_.landings):
                self.land(landing)
                if round_.point in points.FROM_OUTSIDE and position == len(round_.landings) // 2:
                    self.strike(round_)
            if round_.by_hand and self.arm.transform:
                for child in [self.forks.start(self.arm.transform), self.forks.start(self.arm.transform)]:
                    child.result()
        with self.noted(problems):
            if round_.point not in points.FROM_OUTSIDE:
                self.kill_inside(round_)
        points.disarm(self.forks.folder, round_.point)
        with self.noted(problems):
            self.come_to_rest()
        counted = self.counted()
        problems += counted.faults()
        return {
            **round_.as_json(),
            "killed": dict(points.fired(self.forks.folder) - killed),
            "batches": len(counted.published),
            "seconds": round(time.monotonic() - began, 1),
            "faults": problems,
        }

    def counted(self) -> counts.Counts:
        """A fault counts if it is seen twice: a sweep may have been at work while the file was copied."""
        for _ in range(3):
            with contextlib.suppress(duckdb.Error):
                found = self.arm.count(self)
                if not found.faults():
                    return found
            with contextlib.suppress(processes.StackError):
                self.come_to_rest()
        return self.arm.count(self)

    @contextlib.contextmanager
    def noted(self, problems: list[str]) -> Iterator[None]:
        try:
            yield
        except (processes.StackError, httpx.HTTPError, PrefectHTTPStatusError) as error:
            problems.append(f"the harness could not do it, or not in time: {error!r}")

    # What is waited for

    def wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """While waiting, late events are sent, and a worker that has given up is started again."""

        def held() -> bool:
            self.send_late_events()
            self.repair()
            try:
                return condition()
            except (httpx.HTTPError, PrefectHTTPStatusError):
                return False

        processes.wait_until(held, what, seconds, every=0.5)

    def come_to_rest(self) -> None:
        """No run is active, no event is on its way, and no batch is pending."""
        self.wait(self.rests, "everything to come to rest", REST_SECONDS)

    def rests(self) -> bool:
        if any(self.forks.folder.glob("*.late")) or self.active():
            return False
        try:
            return self.arm.at_rest(self) and not self.active()
        except duckdb.Error:
            return False

    def active(self) -> list[FlowRun]:
        return active(self.stack, self.arm.flows)

    def send_late_events(self) -> None:
        for file in self.forks.folder.glob("*.late"):
            if time.time() - file.stat().st_mtime > LATE_SECONDS:
                event = Event.model_validate_json(file.read_text())
                with contextlib.suppress(httpx.HTTPError, PrefectHTTPStatusError), up.client(self.stack) as api:
                    api.request("POST", "/events", json=[event.model_dump(mode="json")])
                    file.unlink()

    def state_of(self, run_id: UUID) -> State[Any]:
        with up.client(self.stack) as api:
            state = api.read_flow_run(run_id).state
        assert state is not None
        return state


def kill(found: Iterable[psutil.Process]) -> None:
    """Ends each by SIGKILL, unless it has ended meanwhile."""
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def active(stack: Stack, flows: Sequence[str]) -> list[FlowRun]:
    """Runs of the flows that are at work or due."""
    now = datetime.now(UTC)
    wanted = FlowFilter(name=FlowFilterName(any_=list(flows)))
    states = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[*ACTIVE, StateType.SCHEDULED])))
    with up.client(stack) as api:
        runs = api.read_flow_runs(flow_filter=wanted, flow_run_filter=states)
    return [
        run
        for run in runs
        if run.state_type in ACTIVE or (run.next_scheduled_start_time or now) <= now + timedelta(seconds=1)
    ]


@contextlib.contextmanager
def chaos(arm: Arm, folder: Path, products: int = PRODUCTS) -> Iterator[Chaos]:
    """The stack of an arm with the points in every process of its worker; ended with the block."""
    with disk_of_its_own(folder), on(arm, folder, products) as made:
        yield made


@contextlib.contextmanager
def disk_of_its_own(folder: Path) -> Iterator[None]:
    """A file system in memory in the folder, for root; its logs are in the folder afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        yield
        return
    try:
        yield
    finally:
        with tempfile.TemporaryDirectory() as kept:
            for log in folder.rglob("*.log"):
                shutil.copy(log, kept)
            subprocess.run(["umount", str(folder)], check=True)
            shutil.copytree(kept, folder, dirs_exist_ok=True)


@contextlib.contextmanager
def on(arm: Arm, folder: Path, products: int) -> Iterator[Chaos]:
    """As `chaos`, on the disk that the folder has."""
    faults = folder / "faults"
    faults.mkdir(exist_ok=True)
    os.environ |= {
        "CHAOS_FAULTS": str(faults),
        # Proactive triggers are looked at every five seconds by default.
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        "PREFECT_SERVER_UI_ENABLED": "false",
    }
    processes.stop_all(folder)  # What an earlier start left, if it was killed itself.
    api = FaultyApi()
    with serving(products, intercept=api) as url:
        os.environ |= arm.environment(folder, url)
        stack = up.start_stack(folder, api=url, port=processes.free_port(), schedules=False, say=lambda _: None)
        try:
            use_points(stack)
            with Forks(faults, stack.environment) as forks:
                made = Chaos(arm, folder, stack, forks, api)
                arm.prepare(made)
                yield made
        finally:
            processes.stop_all(folder)


def use_points(stack: Stack) -> None:
    """The engine again, with the points in every run that it forks."""
    processes.stop(stack.folder, "prefork-engine")
    up.start_prefork_engine(stack, HERE / "prepare_points.py")


def run_every(stack: Stack, name: str, seconds: float) -> None:
    """The schedule of a deployment, on, at another interval."""
    with up.client(stack) as api:
        deployment = api.read_deployment_by_name(name)
        (schedule,) = deployment.schedules
        api.update_deployment_schedule(
            deployment.id, schedule.id, active=True, schedule=IntervalSchedule(interval=timedelta(seconds=seconds))
        )


def crash_after(stack: Stack, seconds: int) -> None:
    """The shipped automation for runs without a heartbeat, with another patience."""
    name = "crash_runs_without_heartbeat"
    described = yaml.safe_load((PROJECT / "automations" / f"{name}.yaml").read_text())
    described["trigger"]["within"] = seconds
    file = stack.folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(described))
    up.run(stack, "automations.prefect_automations", "apply", str(file))


def crash_zombies_after(stack: Stack, seconds: int) -> None:
    """The flow that crashes runs without events, with the same time, at the scaled interval."""
    with up.client(stack) as api:
        deployment = api.read_deployment_by_name("crash-zombies/zombies")
        api.update_deployment(deployment.id, DeploymentUpdate(parameters={"silent_for": seconds}))
    run_every(stack, "crash-zombies/zombies", CRASH_ZOMBIES_SECONDS)


def scale_time(stack: Stack) -> None:
    """Sweep, automation and crash_zombies, as above."""
    run_every(stack, "transform/warehouse", SWEEP_SECONDS)
    crash_after(stack, CRASHED_AFTER_SECONDS)
    crash_zombies_after(stack, CRASHED_AFTER_SECONDS)


def everything_is_published(chaos: Chaos) -> bool:
    landing, warehouse = Path(chaos.stack.landing), chaos.stack.warehouse
    if not warehouse.exists() or counts.pending(landing, warehouse):
        return False
    return counts.readers_see_what_is_built(warehouse)


OURS = Arm(
    name="baton",
    extract="flows.extract:extract",
    extract_deployment="extract/dummyjson-products",
    transform="flows.transform:transform",
    flows=("extract", "transform", "orchestrate"),
    where=points.EXTRACT + points.TRANSFORM + points.ORCHESTRATE + points.FROM_OUTSIDE,
    most=points.MOST,
    prepare=lambda chaos: scale_time(chaos.stack),
    environment=lambda folder, api: {},
    count=lambda c: counts.count(Path(c.stack.landing), c.stack.warehouse, c.promised, PRODUCTS),
    at_rest=everything_is_published,
)
