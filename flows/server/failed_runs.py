"""Runs of this project that failed lately, and when each of their flows last succeeded."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowFilterName,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.server.flow_runs import of_this_project

LOOKED_BACK = timedelta(days=14)
"""A source that was given up is not red until somebody deletes its runs."""
MOST_RUNS = 200
"""The largest page of runs that the server gives."""
SUCCEEDED = ("Completed", "NothingToDo")
"""Names of states; a transform that ends as SourcesLocked has left its work to another."""


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, crashed or took too long."""

    id: str
    name: str
    flow: str
    source: str | None
    """What an extract should have read."""
    state: str
    scheduled_at: datetime
    ended_at: datetime
    message: str


def read_failed_runs(client: SyncPrefectClient, now: datetime) -> list[FailedRun]:
    """The failed runs of the last 14 days, newest first; of more than 200 the newest."""
    failed = of_this_project(StateType.FAILED, StateType.CRASHED)
    # Not by its start: a run that crashed before it has none.
    failed.expected_start_time = FlowRunFilterExpectedStartTime.model_validate({"after_": now - LOOKED_BACK})
    runs = client.read_flow_runs(flow_run_filter=failed, sort=FlowRunSort.END_TIME_DESC, limit=MOST_RUNS)
    if not runs:
        return []
    flows = client.read_flows(flow_filter=FlowFilter(id=FlowFilterId(any_=list({run.flow_id for run in runs}))))
    names = {flow.id: flow.name for flow in flows}
    return [_failed_run(run, names.get(run.flow_id, "unknown flow")) for run in runs]


def last_successes(client: SyncPrefectClient, flows: Collection[str]) -> dict[str, datetime]:
    """When the last run of each flow ended well; one request a flow."""
    completed = of_this_project(StateType.COMPLETED)
    completed.state = FlowRunFilterState(name=FlowRunFilterStateName(any_=list(SUCCEEDED)))
    found: dict[str, datetime] = {}
    for flow in sorted(flows):
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=completed,
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
        if runs and runs[0].end_time:
            found[flow] = runs[0].end_time
    return found


def _failed_run(run: FlowRun, flow: str) -> FailedRun:
    started = run.expected_start_time or run.start_time or run.created
    ended = run.end_time or started
    assert started is not None and ended is not None, "the server keeps a time of every run"
    source = run.parameters.get("source") if flow == "extract" else None
    state = run.state
    message = ((state.message if state else None) or "").removeprefix("Flow run encountered an exception: ")
    return FailedRun(str(run.id), run.name, flow, source, run.state_name or "Failed", started, ended, message)
