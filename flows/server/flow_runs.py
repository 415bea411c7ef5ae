"""Flow runs of this project: which are active, which sent events, how a child run ended."""

import asyncio
import math
import time
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect import State, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterTags
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.deployments import arun_deployment
from prefect.exceptions import FlowRunWaitTimeout
from prefect.flow_runs import wait_for_flow_run
from prefect.states import Crashed

from flows.errors import ChildRunError, NotFoundError, ServerError
from flows.server.client import prefect_client, translated_errors
from flows.server.events import PAGE

TAG = "baton"
"""Each deployment in prefect.yaml has it, and so has each run: another team's `extract` on the server does not."""
ACTIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
READ_AGAIN_SECONDS = 10
LONGEST_NAME = 80
"""Of a run, in characters: longer ones are cut in every list of the UI."""


def of_this_project(*states: StateType) -> FlowRunFilter:
    """A filter for this project's runs in one of these states."""
    return FlowRunFilter(
        tags=FlowRunFilterTags(all_=[TAG]), state=FlowRunFilterState(type=StateTypes(any_=list(states)))
    )


def active_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """This project's active runs; of more than 200 those that were due first."""
    return client.read_flow_runs(flow_run_filter=of_this_project(*ACTIVE), sort=FlowRunSort.EXPECTED_START_TIME_ASC)


def runs_with_events(client: SyncPrefectClient, runs: Collection[UUID], since: datetime) -> set[UUID]:
    """Those of the runs that the server has an event of since then."""
    found: set[UUID] = set()
    while missing := set(runs) - found:
        filter_ = {
            "occurred": {"since": since.isoformat()},
            "resource": {"id": [f"prefect.flow-run.{run}" for run in missing]},
        }
        answer = client.request("POST", "/events/filter", json={"filter": filter_, "limit": PAGE}).json()
        new = {UUID(event["resource"]["prefect.resource.id"].rpartition(".")[2]) for event in answer["events"]}
        if not new:
            break
        found |= new
    return found


def crash_run(client: SyncPrefectClient, run: FlowRun, seconds: float) -> str:
    """Sets the run Crashed, as the automation would; what the server says to it, ACCEPT if it did."""
    state: State[None] = Crashed(
        message=f"No event of this run arrived for {seconds:g} seconds; its process or its worker was killed."
    )
    return client.set_flow_run_state(run.id, state).status.value


def describe_run(client: SyncPrefectClient, run: FlowRun, name: str, sources: Iterable[str]) -> None:
    """Names a run after what it did, and tags it with its sources, so that the UI's filter finds it."""
    tags = {*run.tags, *map(source_tag, sources)}
    client.update_flow_run(run.id, name=name[:LONGEST_NAME], tags=sorted(tags))


def describe_this_run(name: str, sources: Iterable[str]) -> None:
    """As `describe_run`, for the flow run of the context; ServerError if the server does not answer."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        with prefect_client() as client:
            describe_run(client, context.flow_run, name, sources)


def source_tag(source: str) -> str:
    """The tag of a run that read or processed a source: `source:dummyjson.products`."""
    return f"source:{source}"


async def run_child(deployment: str, parameters: dict[str, Any], deadline: float) -> FlowRun:
    """Starts a child run of the current run and returns it once it has completed.

    Raises ChildRunError if the deployment is unknown, or if the child ends otherwise or not before the deadline
    (of `time.monotonic`).
    """
    child = await start_child(deployment, parameters)
    get_run_logger().info("%s runs as %s", deployment, child.name)
    ended = await wait_until_final(child.id, deadline)
    state = ended.state
    if state is None or not state.is_final():
        raise ChildRunError(
            f"{deployment}: {ended.name} ({ended.id}) has not ended in time, it is {state.name if state else 'new'}. "
            "It was left running: cancel it, or give the orchestrator a longer timeout_minutes"
        )
    if not state.is_completed():
        raise ChildRunError(f"{deployment}: {ended.name} ({ended.id}) ended as {state.name}: {state.message}")
    return ended


async def start_child(deployment: str, parameters: dict[str, Any]) -> FlowRun:
    """A child run that was started and is not waited for; ChildRunError if the deployment is unknown."""
    try:
        with translated_errors():
            return await arun_deployment(deployment, parameters=parameters, timeout=0)
    except NotFoundError as error:
        raise ChildRunError(
            f"{deployment}: the server has no such deployment; is it in prefect.yaml, and deployed?"
        ) from error


async def wait_until_final(run_id: UUID, deadline: float) -> FlowRun:
    """The run as soon as its final state is announced, or as it is at the deadline.

    The server's event stream says when. The run itself is read again every ten seconds all the same, because an
    event can be lost and a server can be restarted.
    """
    while True:
        seconds = max(0, min(READ_AGAIN_SECONDS, math.ceil(deadline - time.monotonic())))
        try:
            with translated_errors():
                if ended := await ended_within(run_id, seconds):
                    return ended
                if time.monotonic() >= deadline:
                    async with get_client() as client:
                        return await client.read_flow_run(run_id)
        except (ServerError, OSError) as error:
            if time.monotonic() >= deadline:
                raise
            get_run_logger().warning("waiting for the server: %s", error)
            await asyncio.sleep(1)


async def ended_within(run_id: UUID, seconds: int) -> FlowRun | None:
    """The run if it ends within so many seconds.

    The server announces a state before it commits it, so what is read at the announcement may be the state before.
    """
    try:
        run: FlowRun = await wait_for_flow_run(run_id, timeout=seconds)
    except FlowRunWaitTimeout:
        return None
    if run.state is not None and run.state.is_final():
        return run
    await asyncio.sleep(0.1)
    return None
