"""What the server knows of this project: schedules, failed runs and successes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prefect.client.orchestration import SyncPrefectClient

from flows.server.client import translated_errors
from flows.server.failed_runs import FailedRun, last_successes, read_failed_runs
from flows.server.schedules import ScheduledDeployment, read_schedules


@dataclass(frozen=True)
class ProjectFacts:
    """Deployments with their next runs, failed runs newest first, and the last success of each flow that has failed."""

    deployments: tuple[ScheduledDeployment, ...] = ()
    failed_runs: tuple[FailedRun, ...] = ()
    last_success: Mapping[str, datetime] = field(default_factory=dict)


def read_facts(client: SyncPrefectClient, now: datetime) -> ProjectFacts:
    """Some six requests for up to 200 deployments, whatever the number of runs; ServerError if one fails."""
    with translated_errors():
        failed = read_failed_runs(client, now)
        flows = {run.flow for run in failed if run.source is None}
        return ProjectFacts(tuple(read_schedules(client, now)), tuple(failed), last_successes(client, flows))
