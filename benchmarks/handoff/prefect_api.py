"""What the hand-offs of ours and of stock Prefect are read from: a server's runs, their states and events."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort


def start_run(api: str, deployment: str, parameters: dict[str, Any] | None = None) -> UUID:
    """Ask for a run of a deployment; its id."""
    with SyncPrefectClient(api) as client:
        deployment_id = client.read_deployment_by_name(deployment).id
        return client.create_flow_run_from_deployment(deployment_id, parameters=parameters).id


def newest_run(api: str, flow: str, since: float) -> FlowRun | None:
    """The last run of a flow that was created after a moment."""
    runs = runs_of(api, flow, since, 2)
    return runs[0] if runs else None


def runs_of(api: str, flow: str, since: float, limit: int) -> list[FlowRun]:
    """So many runs of a flow that were created after a moment, newest first, scheduled ones left out.

    Asks for no more than that, because the server's answer costs CPU that is being measured.
    """
    now = datetime.now(UTC)
    expected = FlowRunFilterExpectedStartTime.model_validate(
        {"after_": datetime.fromtimestamp(since, UTC), "before_": now}
    )
    with SyncPrefectClient(api) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=FlowRunFilter(expected_start_time=expected),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=limit,
        )
    return [run for run in runs if not run.auto_scheduled]


def ended(run: FlowRun | None) -> bool:
    """Whether a run is final; an error if it is final and did not complete."""
    if run is None or run.state is None or not run.state.is_final():
        return False
    if not run.state.is_completed():
        raise RuntimeError(f"{run.name} ended as {run.state.name}: {run.state.message}")
    return True


def stages(api: str, run: FlowRun) -> dict[str, float]:
    """When the run was created and when a worker took it."""
    with SyncPrefectClient(api) as client:
        states = client.request("GET", "/flow_run_states/", params={"flow_run_id": str(run.id)}).json()
    taken = [state["timestamp"] for state in states if state["type"] == "PENDING"]
    return {"created": run.created.timestamp(), "taken": datetime.fromisoformat(min(taken)).timestamp()}  # type: ignore[union-attr]
