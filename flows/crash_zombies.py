"""crash_zombies(): active runs -> those that sent no event -> Crashed."""

import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import State, flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.errors import NoHeartbeatError, counted, some_lines
from flows.server.client import prefect_client
from flows.server.flow_runs import active_runs, crash_run, runs_with_events

LOOK_AGAIN_SECONDS = 5.0


@flow(flow_run_name="crash zombies")
def crash_zombies(silent_for: float = 90) -> State[None]:
    """Set the runs Crashed that stay active, in one state and without an event, for `silent_for` seconds from now.

    The automation crash_runs_without_heartbeat does so sooner, but only for runs that it has had an event of. Where
    a server or its broker was killed between a state and its event, only the server knows that the run is active.
    """
    since = datetime.now(UTC)
    with prefect_client() as client:
        silent = wait_for_events(client, UUID(flow_run.id), since, silent_for)
        crashed = [run for run in silent if crash(client, run, silent_for)]
    if not crashed:
        return Completed(name="NothingToDo", message="every active run sent an event")
    lines = [f"{run.name} ({run.id})" for run in crashed]
    return Completed(message=f"Crashed {counted(len(lines), 'run', 'runs')}:\n{some_lines(lines)}")


def wait_for_events(client: SyncPrefectClient, own: UUID, since: datetime, seconds: float) -> list[FlowRun]:
    """The runs that were active when this began, and that sent no event since.

    Raises NoHeartbeatError if no event of this run arrived either, except those of its start: then events do not
    arrive, or workers here have no heartbeats.
    """
    deadline = since + timedelta(seconds=seconds)
    silent = [run for run in active_runs(client) if run.id != own]
    while silent and (now := datetime.now(UTC)) < deadline:
        time.sleep(min(LOOK_AGAIN_SECONDS, (deadline - now).total_seconds()))
        silent = still_silent(client, silent, since)
    if silent and not runs_with_events(client, {own}, since + timedelta(seconds=LOOK_AGAIN_SECONDS)):
        raise NoHeartbeatError(
            f"expected a heartbeat of this run within {seconds:g} s, none came, so the silence of others "
            "proves nothing and they were left as they are. Set PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 where flows run; "
            "if it is set, the server does not store events: see its log, and its broker's"
        )
    return silent


def still_silent(client: SyncPrefectClient, runs: Collection[FlowRun], since: datetime) -> list[FlowRun]:
    """Those of the runs that are active, in the state that they were in, and that the server has no event of since."""
    now = {run.id: run.state_id for run in active_runs(client)}
    unmoved = {run.id for run in runs if now.get(run.id) == run.state_id}
    silent = unmoved - runs_with_events(client, unmoved, since)
    return [run for run in runs if run.id in silent]


def crash(client: SyncPrefectClient, run: FlowRun, seconds: float) -> bool:
    """Sets the run Crashed and logs it; whether the server took it."""
    status = crash_run(client, run, seconds)
    get_run_logger().warning("%s (%s), %s: set Crashed, %s", run.name, run.id, run.state_name, status)
    return status == "ACCEPT"
