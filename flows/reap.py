"""reap(): active runs -> those that nothing is heard of -> Crashed."""

import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import State, flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run
from prefect.states import Completed, Crashed

from flows import events

FLOWS = ("extract", "transform", "orchestrate", "reap")
ACTIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
LOOK_AGAIN_SECONDS = 5.0


class Deaf(Exception):
    """No event has come through while others were listened for, so their silence says nothing."""


@flow(flow_run_name="reap")
def reap(silent_for: float = 90) -> State[None]:
    """Set the runs Crashed that stay active, in one state and without an event, for `silent_for` seconds from now.

    The automation crash_runs_that_stop_beating does so sooner, but only for runs that it has had an event of. Where
    a server or its broker was killed between a state and its event, the server alone knows that the run is active.
    """
    since = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        silent = listen(client, UUID(flow_run.id), since, silent_for)
        ended = [run for run in silent if crash(client, run, silent_for)]
    if not ended:
        return Completed(name="NothingToDo", message="every active run was heard of")
    return Completed(message="Crashed: " + ", ".join(f"{run.name} ({run.id})" for run in ended))


def listen(client: SyncPrefectClient, own: UUID, since: datetime, seconds: float) -> list[FlowRun]:
    """The runs that were active when this began, and that nothing was heard of since.

    Raises Deaf if nothing was heard of this run either, but for what it said at its start: then events do not arrive,
    or workers here have no heartbeats.
    """
    deadline = since + timedelta(seconds=seconds)
    silent = [run for run in active(client) if run.id != own]
    while silent and (now := datetime.now(UTC)) < deadline:
        time.sleep(min(LOOK_AGAIN_SECONDS, (deadline - now).total_seconds()))
        silent = still_silent(client, silent, since)
    if silent and not heard_of(client, {own}, since + timedelta(seconds=LOOK_AGAIN_SECONDS)):
        raise Deaf(
            f"expected a heartbeat of this run within {seconds:g} s, none came, so the silence of {len(silent)} others "
            "says nothing and they were left alone. Set PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 where flows run; "
            "if it is set, the server does not store events: see its log, and its broker's"
        )
    return silent


def active(client: SyncPrefectClient) -> list[FlowRun]:
    """The runs of this project that the server takes for active; of more than 200 those that were due first."""
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=list(ACTIVE)))),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )


def still_silent(client: SyncPrefectClient, runs: Collection[FlowRun], since: datetime) -> list[FlowRun]:
    """Those of the runs that are active, in the state that they were in, and that the server has no event of since."""
    now = {run.id: run.state_id for run in active(client)}
    unmoved = {run.id for run in runs if now.get(run.id) == run.state_id}
    silent = unmoved - heard_of(client, unmoved, since)
    return [run for run in runs if run.id in silent]


def heard_of(client: SyncPrefectClient, runs: Collection[UUID], since: datetime) -> set[UUID]:
    """Those of the runs that the server has an event of since then."""
    heard: set[UUID] = set()
    while silent := set(runs) - heard:
        filter_ = {
            "occurred": {"since": since.isoformat()},
            "resource": {"id": [f"prefect.flow-run.{run}" for run in silent]},
        }
        answer = client.request("POST", "/events/filter", json={"filter": filter_, "limit": events.PAGE}).json()
        found = {UUID(event["resource"]["prefect.resource.id"].rpartition(".")[2]) for event in answer["events"]}
        if not found:
            break
        heard |= found
    return heard


def crash(client: SyncPrefectClient, run: FlowRun, seconds: float) -> bool:
    """Sets the run Crashed, as the automation would; whether the server took it."""
    state: State[None] = Crashed(
        message=f"Nothing was heard of it for {seconds:g} seconds; its process or its worker was killed."
    )
    status = client.set_flow_run_state(run.id, state).status
    get_run_logger().warning("%s (%s), %s: set Crashed, %s", run.name, run.id, run.state_name, status.value)
    return status.value == "ACCEPT"
