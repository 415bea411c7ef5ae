"""Pending batches -> one dbt build -> ledger -> published marts; a batch that can never get there goes into quarantine.

The policy for batches that stop a build:

- A file that is not what its manifest says goes into quarantine at once, because it will never be right again.
- A failed build changes nothing: all its batches stay pending.
- Where the data made it fail, the failure is noted for each of its batches. When a pending batch has seen three, the
  batches are tried one by one. Nothing else counts against a batch: no full disk, no broken model, no lost network.

Quarantine is a row in `ops.quarantine`, whose batches the base models leave out, and an event `batch.quarantined`.
`baton replay` makes such a batch pending again.
"""

import random
import time
from dataclasses import replace

from flows.errors import BuildError, ConflictError, DataError, WarehouseError
from flows.processing.announcements import announce
from flows.processing.isolation import hold_back, isolate, quarantine
from flows.processing.pending import FAILURES_BEFORE_ISOLATION, Pending, Sources, find_pending, pending_sources
from flows.processing.record import build_and_record, build_arguments
from flows.processing.result import ProcessingResult, TransformRun, failed, some_names
from flows.processing.source_locks import lock_all_sources, lock_sources
from flows.settings import Settings
from flows.warehouse import dbt, ledger
from flows.warehouse.connection import connect, move_unreadable_log
from flows.warehouse.publishing import delete_untested, publish_if_changed

TRIES = 5


def process_pending(settings: Settings, run: TransformRun, *, full_refresh: bool, wait: bool) -> ProcessingResult:
    """Takes every pending batch into the marts and the ledger. On the lake, those whose sources are not locked.

    `wait` is for a run that must know that nothing is pending when it ends: on the lake, it waits for locks that other
    transforms hold. Raises WarehouseBusyError if that takes too long.
    """
    project = dbt.fingerprint(settings.dbt_project)
    if settings.on_lake:
        return process_lake(settings, run, project, full_refresh, wait)
    with lock_all_sources(settings):
        if log := move_unreadable_log(settings):
            run.logger.warning(
                "%s: DuckDB could not read the log after a full disk, so it is here now; what it held is built again",
                log,
            )
        return process_sources(settings, run, project, None, full_refresh)


def process_lake(
    settings: Settings, run: TransformRun, project: str, full_refresh: bool, wait: bool
) -> ProcessingResult:
    """Source by source, and again for what has landed meanwhile: whoever held no lock then has left it to this run.

    A full refresh, and the first build of a project that has changed, hold the locks of all sources, once.
    """
    result, snapshot = ProcessingResult(), ledger.read(settings)
    if full_refresh or project != snapshot.dbt_project:
        with lock_all_sources(settings):
            result += process_sources(settings, run, project, None, full_refresh)
    elif snapshot.unannounced:
        announce(settings, run)
    seconds = settings.warehouse_wait_seconds if wait else 0.0
    while waiting := pending_sources(settings) - result.failed_sources:
        with lock_sources(settings, waiting, seconds) as locked:
            if not locked:
                return replace(result, locked=frozenset(waiting))
            try:
                result += process_together(settings, run, project, locked)
            except Exception as error:  # What was processed before is reported all the same.
                return result + failed(locked, error)
    return result if result.nodes else result + publish(settings, run)


def process_together(settings: Settings, run: TransformRun, project: str, sources: list[str]) -> ProcessingResult:
    """All the sources by one build or, where that fails, each by its own."""
    result = process_sources(settings, run, project, sources)
    if not result.failures or len(sources) == 1:
        return result
    run.logger.warning("a build of %d sources failed; building each by itself: %s", len(sources), result.failures[0])
    each = (process_sources(settings, run, project, [source]) for source in sources)
    return sum(each, replace(result, failures=()))


def process_sources(
    settings: Settings, run: TransformRun, project: str, sources: Sources, full_refresh: bool = False
) -> ProcessingResult:
    """Processes what is pending of the locked sources; again, up to five times, if another process was first."""
    result = ProcessingResult()
    for tries_left in reversed(range(TRIES)):
        pending = find_pending(settings, sources, project, full_refresh)
        result += quarantine(pending.damaged, settings, run)
        try:
            result += build_pending(pending, settings, run)
            break
        except ConflictError as error:
            if not tries_left:
                result += failed({batch.source for batch in pending.manifests}, error)
                break
            run.logger.warning("another process was first in the lake; trying again: %s", error)
            time.sleep(random.uniform(0.5, 2.0))
    result += publish(settings, run)
    if result.entries or result.quarantined or pending.snapshot.unannounced:
        announce(settings, run)
    return result


def publish(settings: Settings, run: TransformRun) -> ProcessingResult:
    """Shows readers the marts that have passed their tests since; what was built stays built if that fails."""
    try:
        if publication := publish_if_changed(settings, run.id):
            run.logger.info("published: %s", publication.place)
    except WarehouseError as error:
        return failed((), error)
    return ProcessingResult()


def build_pending(pending: Pending, settings: Settings, run: TransformRun) -> ProcessingResult:
    """Builds with the pending batches and records them, or says why they stay pending."""
    if pending.held_back:
        hold_back([], pending.held_back, settings)
    if not pending.manifests and not pending.full_refresh:
        return ProcessingResult()
    run.logger.info("%s", as_line(pending))
    if pending.failed_often:
        run.logger.warning("%d failed builds: trying the batches one by one", FAILURES_BEFORE_ISOLATION)
        return isolate(pending, settings, run)
    sources = {batch.source for batch in pending.manifests}
    arguments = build_arguments(sources, pending.builds_everything, pending.full_refresh, pending.keeps_views)
    try:
        result = build_and_record(arguments, pending.manifests, pending.project, settings, run)
        if pending.builds_everything:
            with connect(settings) as connection:
                delete_untested(connection)
                ledger.record_views(connection, pending.project)
        return result
    except BuildError as error:
        counts = isinstance(error, DataError) and (pending.sources is None or len(pending.sources) == 1)
        if counts:
            with connect(settings) as connection:
                ledger.record_failures(connection, pending.manifests, str(error))
        return failed(sources, error, {key: number + 1 if counts else 0 for key, number in pending.failures.items()})


def as_line(pending: Pending) -> str:
    """`2 batches are pending: dummyjson.carts 2026…, dummyjson.users 2026…`, and of many the first few."""
    keys = [batch.key for batch in pending.manifests]
    return f"{len(keys)} pending: {some_names(keys) or 'nothing'}"
