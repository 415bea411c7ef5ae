"""Pending batches -> one dbt build -> ledger; a batch that can never get there is set aside.

The policy for batches that stop a build:

- A file that is not what its manifest says is set aside at once, because it will never be right again.
- A failed build changes nothing: all its batches stay pending and the failure is noted for each.
- When a pending batch has seen three failures, the batches are tried one by one. A build without any of them comes
  first: if that fails too, the fault is the project's, and nothing is set aside. A batch whose build alone fails is
  set aside, the others go into the ledger.

Set aside means a row in `ops.quarantine`, which the base models leave out, and an event `batch.quarantined`.
`python -m flows replay` makes such a batch pending again.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.events import Event
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from flows import build, events, ledger
from flows.landing import Batch, BatchError, Manifest, landed
from flows.settings import Settings
from flows.waiting import end_waiting_for

FAILURES_BEFORE_ISOLATION = 3
Sources = Collection[str] | None
"""Names of the sources whose turn it is, so that no other may be touched; None is every source there is."""


@dataclass(frozen=True)
class Pending:
    """The work there is: whole batches with their manifests, and what is wrong with each damaged one."""

    sources: Sources
    manifests: dict[Batch, Manifest]
    damaged: dict[Batch, str]
    state: ledger.State

    def __bool__(self) -> bool:
        return bool(self.manifests or self.damaged)


@dataclass
class Outcome:
    """What was done: the ledger's new entries, the batches set aside with the reason, and the last build's nodes."""

    entries: list[ledger.Entry] = field(default_factory=list)
    set_aside: dict[Batch, str] = field(default_factory=dict)
    nodes: Sequence[build.Node] = ()

    def __bool__(self) -> bool:
        return bool(self.entries or self.set_aside)


class LandingPruned(Exception):
    """A full refresh would lose batches that the warehouse holds and the landing no longer does."""


def work(sources: Sources, settings: Settings, started_at: datetime, full_refresh: bool, done: Outcome) -> None:
    """Takes everything that is pending of the sources into the marts, and adds what was done to the outcome."""
    pending = find_pending(settings, sources, full_refresh)
    if pending.state.untold:
        announce(settings)
    if pending or full_refresh:
        known = len(done.entries)
        process(pending, started_at, full_refresh, settings, done)
        announce(settings)
        end_others({(entry.source, entry.batch_id) for entry in done.entries[known:]})


def find_pending(settings: Settings, sources: Sources, full_refresh: bool = False) -> Pending:
    """Every landed batch of the sources that is in neither the ledger nor the quarantine, its file verified.

    Raises LandingPruned for a full refresh, which rebuilds from the landing, if the landing is not whole.
    """
    state = ledger.read(settings)
    batches = landed(settings.landing_root, sources)
    if full_refresh and (lost := state.processed - {batch.key for batch in batches}):
        raise LandingPruned(
            f"full_refresh: {len(lost)} processed batches are no longer in the landing, the oldest is "
            f"{min(lost, key=lambda key: key[1])}; rebuilding would lose their rows. Restore them, or full-refresh "
            "single models with command='run' and select"
        )
    pending = Pending(sources, {}, {}, state)
    for batch in state.pending(batches):
        try:
            pending.manifests[batch] = batch.verify()
        except BatchError as error:
            pending.damaged[batch] = str(error)
    return pending


def process(pending: Pending, started_at: datetime, full_refresh: bool, settings: Settings, outcome: Outcome) -> None:
    """Takes the pending batches into the marts and the ledger.

    Raises build.BuildFailed, all batches still pending, if dbt fails or the warehouse lacks rows of a batch.
    """
    logger = get_run_logger()
    logger.info("pending: %s", ", ".join(f"{b.source} {b.batch_id}" for b in pending.manifests) or "nothing")
    if pending.damaged:
        set_aside(pending.damaged, outcome, settings)
    if held := [source for source in pending.state.held if pending.sources is None or source in pending.sources]:
        hold([], held, settings)
    if any(pending.state.failures.get(batch.key, 0) >= FAILURES_BEFORE_ISOLATION for batch in pending.manifests):
        logger.warning(
            "%d failed builds with a batch that is still pending: trying the batches one by one",
            FAILURES_BEFORE_ISOLATION,
        )
        isolate(pending, started_at, outcome, settings)
    elif pending.manifests or full_refresh:
        try:
            everything = full_refresh or build.fingerprint() != pending.state.dbt_project
            arguments = processing_arguments(pending.manifests, everything, full_refresh)
            build_and_record(arguments, pending.manifests, started_at, outcome, settings)
        except build.BuildFailed as error:
            with ledger.opened(settings) as connection:
                ledger.note_failures(connection, pending.manifests, str(error))
            raise


def processing_arguments(batches: Iterable[Batch], everything: bool, full_refresh: bool = False) -> list[str]:
    """dbt's arguments: build what the batches' sources feed, or the whole project.

    Unit tests are left out: they say something about a change of a model, and nothing about data. dbt's own JSON files
    are left to the builds of everything: they hold the whole project, twice, and took a third of a small build.
    """
    sources = sorted({batch.source for batch in batches})
    select = None if everything else " ".join(f"source:{source}+" for source in sources)
    json_files = [] if everything else ["--no-write-json"]
    return [*build.arguments("build", select, full_refresh), "--exclude-resource-type", "unit_test", *json_files]


def build_and_record(
    arguments: Sequence[str],
    manifests: dict[Batch, Manifest],
    started_at: datetime,
    outcome: Outcome,
    settings: Settings,
) -> None:
    """One dbt build, the rows of each batch counted, then the ledger in one transaction."""
    project = build.fingerprint()
    outcome.nodes = build.invoke(arguments, settings)
    known = known_events(manifests.values())
    entries = [
        ledger_entry(manifest, known.get(sent_event_id(manifest)), started_at, project)
        for manifest in manifests.values()
    ]
    with ledger.opened(settings) as connection:
        loaded = ledger.base_rows(connection, manifests)
        wrong = [
            f"{batch.folder}: {loaded[batch.key]} rows in the warehouse, {manifest.rows} in the manifest"
            for batch, manifest in manifests.items()
            if loaded[batch.key] != manifest.rows
        ]
        if wrong:
            raise build.BuildFailed("rows do not agree with the manifests; all stay pending:\n" + "\n".join(wrong))
        ledger.record(connection, entries)
    outcome.entries += entries


def isolate(pending: Pending, started_at: datetime, outcome: Outcome, settings: Settings) -> None:
    """Finds the batches that no build can take, by building with none of them and then with each alone.

    A second round tries again what failed in the first, because a batch may need what another one brought.
    Ends with a build without the batches set aside, so that no model stays as a failed build left it.
    """
    suspects = dict(pending.manifests)
    sources = {batch.source for batch in suspects}
    without_suspects = processing_arguments(suspects, everything=pending.sources is None)
    reasons: dict[Batch, str] = {}
    try:
        hold(suspects, sources, settings)
        build.invoke(without_suspects, settings)
        for batch in [*suspects, *suspects]:
            if batch not in suspects:
                continue
            hold([other for other in suspects if other != batch], sources, settings)
            try:
                alone = {batch: suspects[batch]}
                build_and_record(processing_arguments(alone, everything=False), alone, started_at, outcome, settings)
                del suspects[batch]
            except build.BuildFailed as error:
                reasons[batch] = str(error)
    finally:
        hold([], sources, settings)
    if suspects:
        set_aside({batch: reasons[batch] for batch in suspects}, outcome, settings)
        outcome.nodes = build.invoke(without_suspects, settings)


def set_aside(reasons: dict[Batch, str], outcome: Outcome, settings: Settings) -> None:
    """Into the quarantine with these, so that they stop nobody else."""
    with ledger.opened(settings) as connection:
        ledger.set_aside(connection, {batch.key: reason for batch, reason in reasons.items()}, flow_run.id)
    outcome.set_aside |= reasons


def announce(settings: Settings) -> None:
    """Tell the server of what the ledger and the quarantine hold since the last time, whichever run wrote it.

    One `transform.finished` a run and source, so that a third step is chained as this one was, and one
    `batch.quarantined` a batch. What was processed stays processed if the server does not answer, so that fails no run:
    the next transform tells it, with the same event ids.
    """
    with ledger.opened(settings) as connection:
        finished, quarantine = ledger.untold(connection)
    told = [events.transform_finished(source, batches, run_id) for source, run_id, batches in finished]
    told += [events.batch_quarantined(*entry) for entry in quarantine]
    if not told:
        return
    try:
        events.send(told)
    except httpx.HTTPError as error:
        get_run_logger().warning("%d events could not be sent; the next transform sends them: %r", len(told), error)
        return
    with ledger.opened(settings) as connection:
        ledger.told(connection, {run_id for _, run_id, *_ in finished} | {run_id for *_, run_id in quarantine})


def end_others(processed: Collection[ledger.Key]) -> None:
    """Ends the transforms that wait for what was processed here; what the server makes of it fails no run."""
    try:
        ended = end_waiting_for(processed)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("transforms that wait for nothing were left to find out themselves: %r", error)
        return
    if ended:
        get_run_logger().info("%d transforms waited for what is processed now, and were ended", ended)


def hold(batches: Iterable[Batch], sources: Iterable[str], settings: Settings) -> None:
    """Keep exactly these batches of the sources out of the next build; with none, undoes what a killed run held."""
    with ledger.opened(settings) as connection:
        ledger.hold(connection, [batch.key for batch in batches], sources)


def sent_event_id(manifest: Manifest) -> UUID:
    """The id of the event that the batch's extract sent, whether or not it arrived."""
    return events.event_id(events.EXTRACT_FINISHED, manifest.source, manifest.batch_id)


def known_events(manifests: Iterable[Manifest]) -> dict[UUID, Event]:
    """The batches' events as the server has them; lineage only, so a server that does not answer stops nothing."""
    extracted = {sent_event_id(manifest): manifest.extracted_at for manifest in manifests}
    if not extracted:
        return {}
    try:
        return events.received(extracted, min(extracted.values()) - timedelta(hours=1))
    except httpx.HTTPError as error:
        get_run_logger().warning("the ledger will not say by which events the batches came: %r", error)
        return {}


def ledger_entry(manifest: Manifest, event: Event | None, started_at: datetime, dbt_project: str) -> ledger.Entry:
    """What the ledger says of one batch that this run has processed."""
    return ledger.Entry(
        source=manifest.source,
        batch_id=manifest.batch_id,
        rows=manifest.rows,
        handoff=event.resource.get("handoff") if event else None,
        event_id=str(event.id) if event else None,
        extract_flow_run_id=str(manifest.flow_run_id),
        transform_flow_run_id=flow_run.id,
        landed_at=manifest.extracted_at,
        event_at=event.occurred if event else None,
        started_at=started_at,
        dbt_project=dbt_project,
    )
