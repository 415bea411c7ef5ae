"""The status as a value. It knows no server, no database and no terminal, so whatever shows it only reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from flows.errors import counted, some
from flows.processing.pending import FAILURES_BEFORE_ISOLATION
from flows.server.failed_runs import FailedRun
from flows.status.words import as_span, as_time, in_short
from flows.warehouse.figures import FailedBuilds, InQuarantine, Percentiles

TRANSFORM = "transform/warehouse"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be: what, since when, and what to do or what comes next."""

    kind: Literal["server", "warehouse", "run", "marts", "late", "build", "pending", "quarantine", "gaps"]
    subject: str
    """A source, a flow, `warehouse` or `server`."""
    what: str
    since: datetime | None
    next_step: str

    def __str__(self) -> str:
        since = f", since {as_time(self.since)}" if self.since else ""
        return f"{self.subject}: {self.what}{since}. {self.next_step}"


@dataclass(frozen=True)
class SourceStatus:
    """One source."""

    source: str
    last_batch: str | None
    """The id of the newest one in landing or ledger."""
    landed_at: datetime | None
    age: timedelta | None
    due: timedelta | None
    """The age from which a newer batch is missing; None if neither dbt nor a schedule says."""
    due_by: Literal["dbt", "schedule"] | None
    rows: int | None
    """Of the newest processed batch."""
    rows_before: int | None
    handoff: Percentiles | None
    total: Percentiles | None
    pending: int
    pending_since: datetime | None
    quarantined: InQuarantine | None
    failed_builds: FailedBuilds | None
    deployment: str | None
    next_extract: datetime | None
    next_try: datetime | None
    """When what is pending is built at the latest, or else when the next extract starts."""
    gaps: int = 0
    """Readings by changes that are missing between two batches."""

    @property
    def is_late(self) -> bool:
        """Whether a newer batch is missing."""
        return self.age is not None and self.due is not None and self.age > self.due

    @property
    def row_change(self) -> int | None:
        """Rows more than in the batch before."""
        return None if self.rows is None or self.rows_before is None else self.rows - self.rows_before

    def problems(self, sweep: timedelta, now: datetime) -> Iterator[Problem]:
        """What is not as it should be; `sweep` is how long a batch may be pending."""
        if self.is_late and self.age and self.due:
            yield Problem(
                "late",
                self.source,
                f"the last batch is {as_span(self.age)} old, due after {as_span(self.due)}",
                self.landed_at and self.landed_at + self.due,
                self._extract_next(),
            )
        if self.failed_builds:
            number, allowed = self.failed_builds.number, FAILURES_BEFORE_ISOLATION
            tried = "the next build tries its batches one by one" if number >= allowed else self._build_next()
            what = f"{number} of {allowed} failed builds: {in_short(self.failed_builds.reason)}"
            yield Problem("build", self.source, what, self.failed_builds.since, tried)
        elif self.pending_since and now - self.pending_since > sweep:
            yield Problem("pending", self.source, f"{self.pending} pending", self.pending_since, self._build_next())
        if self.quarantined:
            what = f"{self.quarantined.number} in quarantine: {in_short(self.quarantined.reason)}"
            advice = "`baton quarantine` lists the reasons, `baton replay` tries again"
            yield Problem("quarantine", self.source, what, self.quarantined.since, advice)
        if self.gaps:
            what = f"{counted(self.gaps, 'gap', 'gaps')} in its readings by changes"
            yield Problem("gaps", self.source, what, None, "`baton replay` the batch, or extract with `since`")

    def _extract_next(self) -> str:
        if self.next_extract:
            return f"Its next extract starts at {as_time(self.next_extract)}"
        return f"No schedule runs it: prefect deployment run {self.deployment or 'extract/...'}"

    def _build_next(self) -> str:
        later = f"; the next try is at {as_time(self.next_try)}" if self.next_try else ""
        return f"prefect deployment run {TRANSFORM} tries now{later}"


@dataclass(frozen=True)
class Status:
    """All sources, and what concerns none of them in particular."""

    at: datetime
    sources: tuple[SourceStatus, ...]
    failed_runs: tuple[FailedRun, ...]
    """Since the last success of the same source or flow, newest first."""
    recovered_runs: tuple[FailedRun, ...]
    """The others of the last 14 days."""
    unpublished: dict[str, datetime]
    """Marts whose last build has not passed its tests, with when it began."""
    sweep: timedelta
    """A batch that is pending for longer was overlooked."""
    next_sweep: datetime | None
    warehouse_problem: str | None
    """Why nothing is known of the ledger."""
    warehouse_busy: bool
    """A transform that is at work is the reason; nothing needs to be done."""
    server_problem: str | None
    """Why nothing is known of runs and schedules."""

    @property
    def problems(self) -> list[Problem]:
        """Everything that is not as it should be, the common causes first."""
        found = []
        if self.server_problem:
            found.append(Problem("server", "server", self.server_problem, None, "make up, or correct PREFECT_API_URL"))
        if self.warehouse_problem and not self.warehouse_busy:
            found.append(Problem("warehouse", "warehouse", self.warehouse_problem, None, "`baton doctor` says more"))
        found += [self._of_runs(runs) for runs in by_cause(self.failed_runs)]
        if self.unpublished:
            number = counted(len(self.unpublished), "mart is", "marts are")
            what = f"{number} not published, because the build or its tests failed: {some(sorted(self.unpublished))}"
            advice = "Readers see them as they were before; the next transform that succeeds publishes them"
            found.append(Problem("marts", "marts", what, min(self.unpublished.values()), advice))
        for source in self.sources:
            found += source.problems(self.sweep, self.at)
        return found

    @property
    def summary(self) -> str:
        """`3 sources, nothing to do (2026-11-24 00:15 UTC)`."""
        number = len(self.problems)
        found = counted(number, "problem", "problems") if number else "nothing to do"
        return f"{counted(len(self.sources), 'source', 'sources')}, {found} ({as_time(self.at)})"

    @property
    def ok(self) -> bool:
        """Whether nothing needs to be done."""
        return not self.problems

    def _of_runs(self, runs: list[FailedRun]) -> Problem:
        newest, oldest = runs[0], runs[-1]
        times = f"{len(runs)} runs ended badly, the last" if len(runs) > 1 else "its last run"
        what = f"{times} {newest.state} ({newest.name}, {newest.id}): {in_short(newest.message)}"
        return Problem("run", newest.source or newest.flow, what, oldest.ended_at, self._next_run(newest))

    def _next_run(self, run: FailedRun) -> str:
        if run.flow == "transform":
            at = f"; the sweep tries again at {as_time(self.next_sweep)}" if self.next_sweep else ""
            return f"Its batches stay pending. prefect deployment run {TRANSFORM} tries now{at}"
        source = next((each for each in self.sources if each.source == run.source), None)
        if source is None:
            return "Its page in the UI has the log"
        at = f"; its schedule tries again at {as_time(source.next_extract)}" if source.next_extract else ""
        return f"prefect deployment run {source.deployment or 'extract/...'} tries now{at}"


def by_cause(runs: tuple[FailedRun, ...]) -> list[list[FailedRun]]:
    """The runs of each source, or of each flow for those of none, in their order."""
    found: dict[tuple[str, str | None], list[FailedRun]] = {}
    for run in runs:
        found.setdefault((run.flow, run.source), []).append(run)
    return list(found.values())
