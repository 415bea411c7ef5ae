"""Transforms that wait in the queue for a batch which a build has taken along: they end without a process."""

from collections.abc import Collection

from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.ledger import Key

REASONS = {"source", "batch_id", "event_id"}
"""Parameters that say why a transform exists, and not what it does; see flows/transform.py."""


def end_waiting_for(processed: Collection[Key]) -> int:
    """Sets each transform Completed that waits for nothing but one of these batches; how many there were.

    Of more than 200 that wait those that are next. One that a worker takes in the same moment runs all the same, and
    finds nothing to do.
    """
    waits = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[StateType.SCHEDULED])))
    with get_client(sync_client=True) as client:
        waiting = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["transform"])),
            flow_run_filter=waits,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        )
        without_work = [run for run in waiting if only_for(run) in processed]
        message = f"its batch is in the marts already, by transform {flow_run.id}"
        state: State[None] = Completed(name="NothingToDo", message=message)
        for run in without_work:
            client.set_flow_run_state(run.id, state)
    return len(without_work)


def only_for(run: FlowRun) -> Key | None:
    """The batch that a transform exists for; None if it is to do anything else."""
    does = {name: value for name, value in run.parameters.items() if name not in REASONS and value}
    if does.get("command", "build") != "build" or does.keys() - {"command"}:
        return None
    return str(run.parameters.get("source")), str(run.parameters.get("batch_id"))
