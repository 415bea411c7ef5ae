"""What the hand-offs of ours and of stock Prefect are read from: a server's runs, their states and events."""

from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort


def start_run(api: str, deployment: str) -> UUID:
    """Ask for a run of a deployment; its id."""
    with SyncPrefectClient(api) as client:
        return client.create_flow_run_from_deployment(client.read_deployment_by_name(deployment).id).id


def newest_run(api: str, flow: str, since: float) -> FlowRun | None:
    """The last run of a flow that was created after a moment, scheduled ones left out."""
    runs = [run for run in runs_of(api, flow) if run.created and run.created.timestamp() >= since]
    return runs[0] if runs else None


def runs_of(api: str, flow: str) -> list[FlowRun]:
    """The newest 200 runs of a flow, newest first, scheduled ones left out."""
    with SyncPrefectClient(api) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), sort=FlowRunSort.START_TIME_DESC, limit=200
        )
    runs = [run for run in runs if not run.auto_scheduled and run.created]
    return sorted(runs, key=lambda run: run.created, reverse=True)  # type: ignore[arg-type,return-value]


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
