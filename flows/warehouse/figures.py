"""Figures of the ledger for people to look at: so many statements, however many sources and batches there are."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.settings import Settings
from flows.warehouse import freshness
from flows.warehouse.connection import retry_conflicts
from flows.warehouse.freshness import Freshness
from flows.warehouse.ledger import Key, connect_migrated
from flows.warehouse.publishing import untested_marts

RECENT = 20
"""So many batches of a source are in its percentiles."""
LONGEST_BUILD = timedelta(hours=1)
MOST_BATCHES = 50_000
"""The history holds so many, the newest."""

SECONDS = """
epoch(started_at) - epoch(coalesce(event_at, landed_at)) as handoff_seconds,
epoch(processed_at) - epoch(started_at) as build_seconds,
epoch(processed_at) - epoch(coalesce(landed_at, event_at)) as total_seconds
"""
"""Null where a time is not known. A clock that was set back may make one negative."""
BY_SOURCE = f"""
with numbered as (
    select *, {SECONDS}, row_number() over (partition by source order by batch_id desc) as age from ops.ledger
)
select
    source, max(batch_id), max(landed_at) filter (age = 1),
    max(rows) filter (age = 1), max(rows) filter (age = 2),
    quantile_cont(handoff_seconds, 0.5), quantile_cont(handoff_seconds, 0.95),
    quantile_cont(total_seconds, 0.5), quantile_cont(total_seconds, 0.95)
from numbered where age <= {RECENT} group by source
"""
QUARANTINED = """
select source, count(*), min(quarantined_at), arg_min(reason, quarantined_at)
from ops.quarantine where not held and dropped_at is null group by source
"""
FAILURES = """
with by_batch as (
    select source, batch_id, count(*) as number, min(failed_at) as first, max(failed_at) as last,
        arg_max(reason, failed_at) as reason
    from ops.failures
    where (source, batch_id) not in (select (source, batch_id) from ops.quarantine where not held)
    group by source, batch_id
)
select source, max(number), min(first), max(last), arg_max(reason, last) from by_batch group by source
"""
SETTLED = """
select source, batch_id from ops.ledger union all select source, batch_id from ops.quarantine where not held
"""
HISTORY = f"""
select source, batch_id, rows, processed_at, handoff_seconds, build_seconds
from (select *, {SECONDS} from ops.ledger)
order by processed_at desc limit {MOST_BATCHES}
"""


@dataclass(frozen=True)
class Percentiles:
    """Seconds that half of the batches, and nineteen of twenty, took at most."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Processed:
    """What the ledger says of a source: its newest batch, and how long the last ones took."""

    batch_id: str
    landed_at: datetime | None
    rows: int
    rows_before: int | None
    """Of the batch before; None if there is none."""
    handoff: Percentiles | None
    """From the extract's event to the start of the transform."""
    total: Percentiles | None
    """From the landing to the ledger."""


@dataclass(frozen=True)
class InQuarantine:
    """How many batches of a source are in quarantine, since when, and why the first one is."""

    number: int
    since: datetime
    reason: str


@dataclass(frozen=True)
class FailedBuilds:
    """The failed builds of the pending batch that has seen the most of them."""

    number: int
    since: datetime
    last: datetime
    reason: str


@dataclass(frozen=True)
class LedgerFigures:
    """The schema `ops`, by source."""

    processed: dict[str, Processed]
    quarantined: dict[str, InQuarantine]
    failed_builds: dict[str, FailedBuilds]
    unpublished: dict[str, datetime]
    """Marts whose last build has not passed its tests, with when that build began."""
    freshness: dict[str, Freshness]
    """What dbt said at the last sweep."""
    settled: frozenset[Key]
    """The batches that are in the ledger or in quarantine: every other one is pending."""


@dataclass(frozen=True)
class ProcessedBatch:
    """One batch in the ledger, with the seconds from its event to the transform and of the transform."""

    source: str
    batch_id: str
    rows: int
    processed_at: datetime
    handoff: float | None
    build: float | None


NO_FIGURES = LedgerFigures({}, {}, {}, {}, {}, frozenset())


@retry_conflicts
def read_figures(settings: Settings) -> LedgerFigures:
    """The figures as they are now; none for a warehouse that does not exist yet."""
    if not settings.on_lake and not settings.warehouse.exists():
        return NO_FIGURES
    with connect_migrated(settings) as connection:
        return LedgerFigures(
            {source: _processed(row) for source, *row in connection.sql(BY_SOURCE).fetchall()},
            {source: InQuarantine(*row) for source, *row in connection.sql(QUARANTINED).fetchall()},
            {source: FailedBuilds(*row) for source, *row in connection.sql(FAILURES).fetchall()},
            {mart: began for mart, began in untested_marts(connection).items() if is_over(settings, began)},
            freshness.read(connection),
            frozenset(connection.sql(SETTLED).fetchall()),
        )


@retry_conflicts
def read_history(settings: Settings) -> list[ProcessedBatch]:
    """The newest processed batches, the oldest of them first."""
    if not settings.on_lake and not settings.warehouse.exists():
        return []
    with connect_migrated(settings) as connection:
        return [ProcessedBatch(*row) for row in reversed(connection.sql(HISTORY).fetchall())]


def is_over(settings: Settings, began: datetime) -> bool:
    """Whether a build that began then has surely ended: on the lake it may be at work beside this."""
    return not settings.on_lake or datetime.now(UTC) - began > LONGEST_BUILD


def _processed(row: list[Any]) -> Processed:
    batch_id, landed_at, rows, rows_before, handoff50, handoff95, total50, total95 = row
    handoff, total = _percentiles(handoff50, handoff95), _percentiles(total50, total95)
    return Processed(batch_id, landed_at, rows, rows_before, handoff, total)


def _percentiles(p50: float | None, p95: float | None) -> Percentiles | None:
    return None if p50 is None or p95 is None else Percentiles(p50, p95)
