"""Transforms that wait in the queue: which is next, and those that wait for nothing end without a process."""

from collections.abc import Collection
from datetime import datetime

from prefect import State
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed

from flows.server.client import prefect_client
from flows.server.flow_runs import describe_run, of_this_project
from flows.warehouse.ledger import Key

REASONS = {"source", "batch_id", "event_id"}
"""Parameters that say why a transform exists, and not what it does; see flows/transform.py."""


def complete_waiting_transforms(processed: Collection[Key], run_id: str) -> int:
    """Sets each transform Completed that waits for nothing but one of these batches; returns how many.

    Of more than 200 that wait those that are next. One that a worker takes in the same moment runs all the same, and
    finds nothing to do. Raises ServerError.
    """
    with prefect_client() as client:
        without_work = [run for run in waiting_transforms(client) if only_for(run) in processed]
        state: State[None] = Completed(
            name="NothingToDo", message=f"its batch is in the marts already, by transform {run_id}"
        )
        for run in without_work:
            client.set_flow_run_state(run.id, state)
            source = str(run.parameters["source"])
            describe_run(client, run, f"transform {source}: nothing to do", [source])
    return len(without_work)


def next_transform() -> datetime | None:
    """When the next transform is due that takes what is pending: the sweep, or one that waits already.

    None if none is scheduled. Raises ServerError.
    """
    with prefect_client() as client:
        due = (run.expected_start_time for run in waiting_transforms(client) if not is_ad_hoc(run))
        return next(due, None)


def waiting_transforms(client: SyncPrefectClient) -> list[FlowRun]:
    """The transforms that have not started, the next first; no more than 200."""
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["transform"])),
        flow_run_filter=of_this_project(StateType.SCHEDULED),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )


def is_ad_hoc(run: FlowRun) -> bool:
    """Whether a transform is a dbt run of somebody's own, which takes nothing that is pending."""
    return run.parameters.get("command", "build") != "build" or run.parameters.get("select") is not None


def only_for(run: FlowRun) -> Key | None:
    """The batch that a transform exists for; None if it is to do anything else."""
    does = {name: value for name, value in run.parameters.items() if name not in REASONS and value}
    if does.get("command", "build") != "build" or does.keys() - {"command"}:
        return None
    return str(run.parameters.get("source")), str(run.parameters.get("batch_id"))
