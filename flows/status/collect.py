"""Collects the status from ledger, landing and server."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from flows.errors import BatchError, LandingError, WarehouseBusyError, WarehouseError
from flows.landing.batch import Batch, list_batches
from flows.landing.names import batch_time
from flows.server.failed_runs import FailedRun
from flows.server.project_facts import ProjectFacts
from flows.server.schedules import ScheduledDeployment
from flows.settings import Settings
from flows.status.model import TRANSFORM, SourceStatus, Status
from flows.warehouse.figures import NO_FIGURES, LedgerFigures, read_figures
from flows.warehouse.gaps import gaps
from flows.warehouse.ledger import Key

SWEEP = timedelta(minutes=15)
"""How often the sweep runs, where the server does not say."""
GAPS_UNTIL_LATE = 1.5
"""A scheduled source is late when so many times the longest gap between two of its runs have passed."""
MOST_MANIFESTS = 20
"""So many manifests of batches that seem to be overlooked are read: an extract may have run for an hour."""


def collect(settings: Settings, facts: ProjectFacts | str, now: datetime | None = None) -> Status:
    """The status as it is now. `facts` is what the server said, or why it could not be asked.

    A warehouse or a landing that cannot be read becomes a problem of the status: the rest is shown all the same.
    """
    now = now or datetime.now(UTC)
    known = ProjectFacts() if isinstance(facts, str) else facts
    figures, batches, problem, busy = NO_FIGURES, list[Batch](), None, False
    missing = Counter[str]()
    try:
        batches = list_batches(settings.landing_root)
        figures = read_figures(settings)
        missing.update(gap.source for gap in gaps(settings))
    except (WarehouseError, LandingError) as error:
        problem, busy = str(error), isinstance(error, WarehouseBusyError)
        figures = replace(NO_FIGURES, settled=frozenset(batch.key for batch in batches))
    sweep, next_sweep = sweep_of(known.deployments)
    lines = source_lines(figures, batches, known.deployments, next_sweep, now)
    sources = [replace(each, gaps=missing[each.source]) for each in lines]
    newest = {each.source: each.last_batch for each in sources if each.last_batch}
    recovered = tuple(
        run for run in known.failed_runs if has_recovered(run, newest, figures.settled, known.last_success)
    )
    return Status(
        at=now,
        sources=tuple(with_manifest_times(sources, batches, figures, sweep, now)),
        failed_runs=tuple(run for run in known.failed_runs if run not in recovered),
        recovered_runs=recovered,
        unpublished=figures.unpublished,
        sweep=sweep,
        next_sweep=next_sweep,
        warehouse_problem=problem,
        warehouse_busy=busy,
        server_problem=facts if isinstance(facts, str) else None,
    )


def sweep_of(deployments: Iterable[ScheduledDeployment]) -> tuple[timedelta, datetime | None]:
    """How far the sweeps are apart, and when the next one starts, if it is scheduled."""
    for deployment in deployments:
        if deployment.name == TRANSFORM:
            return deployment.longest_gap or SWEEP, deployment.next_run
    return SWEEP, None


def source_lines(
    figures: LedgerFigures,
    batches: Iterable[Batch],
    deployments: Iterable[ScheduledDeployment],
    next_sweep: datetime | None,
    now: datetime,
) -> list[SourceStatus]:
    """A line for each source that is deployed, has landed or was processed."""
    extracts: dict[str, ScheduledDeployment] = {}
    for deployment in deployments:  # Of several deployments of one source the scheduled one counts.
        if deployment.source and (deployment.source not in extracts or deployment.next_run):
            extracts[deployment.source] = deployment
    newest: dict[str, str] = {}
    pending: dict[str, list[str]] = {}
    for batch in batches:  # The oldest first within a source.
        newest[batch.source] = batch.batch_id
        if batch.key not in figures.settled:
            pending.setdefault(batch.source, []).append(batch.batch_id)
    names = sorted({*extracts, *newest, *figures.processed, *figures.quarantined})
    return [
        source_line(name, figures, newest.get(name), pending.get(name, []), extracts.get(name), next_sweep, now)
        for name in names
    ]


def source_line(
    source: str,
    figures: LedgerFigures,
    landed: str | None,
    pending: list[str],
    extract: ScheduledDeployment | None,
    next_sweep: datetime | None,
    now: datetime,
) -> SourceStatus:
    """The line of one source; `landed` is its newest batch in the landing."""
    processed = figures.processed.get(source)
    last = max(landed or "", processed.batch_id if processed else "") or None
    at = processed.landed_at if processed and last == processed.batch_id else None
    at = at or (batch_time(last) if last else None)
    due, due_by = due_of(source, figures, extract)
    next_extract = extract.next_run if extract else None
    return SourceStatus(
        source=source,
        last_batch=last,
        landed_at=at,
        age=now - at if at else None,
        due=due,
        due_by=due_by,
        rows=processed.rows if processed else None,
        rows_before=processed.rows_before if processed else None,
        handoff=processed.handoff if processed else None,
        total=processed.total if processed else None,
        pending=len(pending),
        pending_since=batch_time(pending[0]) if pending else None,
        quarantined=figures.quarantined.get(source),
        failed_builds=figures.failed_builds.get(source),
        deployment=extract.name if extract else None,
        next_extract=next_extract,
        next_try=next_sweep if pending else next_extract,
    )


def due_of(
    source: str, figures: LedgerFigures, extract: ScheduledDeployment | None
) -> tuple[timedelta | None, Literal["dbt", "schedule"] | None]:
    """The age from which a newer batch is missing: dbt's `warn_after`, or else one and a half times the longest gap."""
    if declared := figures.freshness.get(source):
        return declared.warn_after or declared.error_after, "dbt"
    if extract and extract.longest_gap:
        return extract.longest_gap * GAPS_UNTIL_LATE, "schedule"
    return None, None


def with_manifest_times(
    sources: list[SourceStatus], batches: Iterable[Batch], figures: LedgerFigures, sweep: timedelta, now: datetime
) -> list[SourceStatus]:
    """The sources, with the time of the manifest where a batch seems to be overlooked.

    A batch's id has the time that its extract was scheduled for, which may be long before it has landed.
    """
    first: dict[str, Batch] = {}
    for batch in batches:
        if batch.key not in figures.settled:
            first.setdefault(batch.source, batch)
    suspects = [each.source for each in sources if each.pending_since and now - each.pending_since > sweep]
    found: dict[str, datetime] = {}
    for source in suspects[:MOST_MANIFESTS]:
        try:
            found[source] = first[source].manifest().extracted_at
        except (BatchError, LandingError):  # The transform says what is the matter with it.
            continue
    return [replace(each, pending_since=found.get(each.source, each.pending_since)) for each in sources]


def has_recovered(
    run: FailedRun, newest: Mapping[str, str], settled: Collection[Key], last_success: Mapping[str, datetime]
) -> bool:
    """Whether a later run of the same source has landed a batch, or a later run of the same flow has succeeded.

    A run that failed after it had published its batch is made good by the transform that takes the batch.
    """
    if run.source is None:
        return run.flow in last_success and last_success[run.flow] > run.ended_at
    last = newest.get(run.source)
    if last is None:
        return False
    if last.endswith(run.id[-12:]):
        return (run.source, last) in settled
    return batch_time(last) >= run.scheduled_at.replace(microsecond=0)
