"""When this project's deployments run next, from their schedules. No scheduled run is read: 300 cost two requests."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from flows.server.flow_runs import TAG

PAGE = 200
LOOKED_AT = 10
"""So many runs ahead are enough to see a weekend without runs."""


@dataclass(frozen=True)
class ScheduledDeployment:
    """A deployment, the source that it extracts, and its next run; without a run if no schedule of it is active."""

    name: str
    """`extract/dummyjson-products`."""
    source: str | None
    next_run: datetime | None
    longest_gap: timedelta | None
    """Between two of its next runs."""


def read_schedules(client: SyncPrefectClient, now: datetime) -> list[ScheduledDeployment]:
    """Every deployment with this project's tag, by name."""
    filter_ = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found: list[DeploymentResponse] = []
    while len(found) % PAGE == 0:
        page = client.read_deployments(deployment_filter=filter_, limit=PAGE, offset=len(found))
        found += page
        if not page:
            break
    return sorted((_scheduled(deployment, now) for deployment in found), key=lambda each: each.name)


def _scheduled(deployment: DeploymentResponse, now: datetime) -> ScheduledDeployment:
    flow = (deployment.entrypoint or "").rpartition(":")[2].replace("_", "-")
    source = deployment.parameters.get("source") if flow == "extract" else None
    active = [] if deployment.paused else [each.schedule for each in deployment.schedules if each.active]
    runs = list(islice(merge(*(next_runs(schedule, now) for schedule in active)), LOOKED_AT))
    gap = max((later - earlier for earlier, later in pairwise(runs)), default=None)
    return ScheduledDeployment(f"{flow}/{deployment.name}", source, runs[0] if runs else None, gap)


def next_runs(schedule: object, now: datetime) -> Iterator[datetime]:
    """The runs after now of an interval or a cron line; none of a schedule of another kind."""
    if isinstance(schedule, IntervalSchedule):
        anchor = datetime.fromtimestamp(schedule.anchor_date.timestamp(), UTC)  # Prefect's own type divides no spans.
        passed = max((now - anchor) // schedule.interval + 1, 0)
        yield from (anchor + number * schedule.interval for number in range(passed, passed + LOOKED_AT))
    elif isinstance(schedule, CronSchedule):
        zone = ZoneInfo(schedule.timezone or "UTC")
        try:
            runs = CronSim(schedule.cron, now.astimezone(zone))
        except CronSimError:
            return
        yield from (run.astimezone(UTC) for run in islice(runs, LOOKED_AT))
