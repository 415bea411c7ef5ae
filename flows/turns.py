"""Who may take which source's batches into the warehouse, and when.

A DuckDB file has one writer: one transform at a time, by a lock beside the file. On the lake, different sources are
transformed side by side, and each source by one transform at a time: whoever holds the lock `transform:<source>` in
the Postgres of the lake's catalog. A transform that an event has started does not wait for a lock that is taken. It
may leave, because whoever has the lock looks again after giving it back.

The lock is where the catalog is, so nobody can lose one and keep the other for long, and a killed transform has none.
(Prefect's global concurrency limits count their slots in one database and keep who has them in another: when Redis
was killed or emptied, slots stayed taken for ever.) Should two be at work all the same, dbt/macros/lake.sql keeps them
apart.
"""

import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import duckdb
from prefect import get_run_logger

from flows import build, lake, ledger, locks
from flows.landing import landed
from flows.processing import Sources
from flows.settings import Settings

TRIES = 5
Work = Callable[[Sources], None]
"""Does what there is to do for these sources."""


class LeftToAnother(Exception):
    """Sources have pending batches, and another transform has their turn; it takes them."""


def take(settings: Settings, work: Work, *, everything: bool, wait: bool) -> None:
    """Does the work for every source that has pending batches and whose turn is free, and looks again.

    `everything` is one turn of all sources. `wait` is for whoever must know that nothing is pending afterwards: it
    waits for a turn that another transform has, as long as it would wait for the file.

    Raises WarehouseBusy if that takes too long, LeftToAnother if there was nothing to do but what others have taken,
    BuildFailed once every source that can be built has been.
    """
    if not settings.on_lake:
        with alone(settings):
            work(None)
        return
    seconds = settings.warehouse_wait_seconds if wait else 0.0
    failed: dict[str, build.BuildFailed] = {}
    state = ledger.read(settings)
    worked = everything or build.fingerprint() != state.dbt_project
    if worked:  # A project that has changed is built whole, with every source's models.
        with alone(settings):
            without_conflicts(work, None)
    elif state.untold:
        work([])
    while sources := pending_sources(settings) - failed.keys():
        with turns(settings, [[source] for source in sorted(sources)], seconds) as mine:
            if not mine:
                break
            worked = True
            failed |= work_for(mine, work)
    if failed:
        raise build.BuildFailed("\n".join(map(str, failed.values())))
    if sources and wait:
        raise busy(sources, settings)
    if sources and not worked:
        raise LeftToAnother(
            f"another transform has the turn of {', '.join(sorted(sources))}, and takes what is pending"
        )


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """The turn of every source, for a dbt run of somebody's own; WarehouseBusy if others have one of them for long."""
    if not settings.on_lake:
        with ledger.sole_writer(settings):
            yield
        return
    sources = sorted(known_sources(settings))
    with turns(settings, [sources], settings.warehouse_wait_seconds) as mine:
        if mine != sources:
            raise busy(sources, settings)
        yield


def work_for(sources: list[str], work: Work) -> dict[str, build.BuildFailed]:
    """Does the work for all the sources at once or, where that fails, for each; the errors of those that failed."""
    try:
        without_conflicts(work, sources)
    except build.BuildFailed as error:
        if len(sources) == 1:
            return {sources[0]: error}
        get_run_logger().warning("a build of %d sources failed; building each alone: %s", len(sources), error)
        failed: dict[str, build.BuildFailed] = {}
        for source in sources:
            failed |= work_for([source], work)
        return failed
    return {}


def known_sources(settings: Settings) -> set[str]:
    """Every source that has a batch in the landing."""
    return {batch.source for batch in landed(settings.landing_root)}


def pending_sources(settings: Settings) -> set[str]:
    """Every source with a batch that the ledger does not hold."""
    batches = landed(settings.landing_root)
    return {batch.source for batch in ledger.read(settings).pending(batches)}


def without_conflicts(work: Work, sources: Sources) -> None:
    """Does the work again if another process was first in the lake; Conflict if it always is."""
    for tries_left in reversed(range(TRIES)):
        try:
            work(sources)
            return
        except (ledger.Conflict, duckdb.Error) as error:
            if not (tries_left and lake.is_conflict(error)):
                raise
            get_run_logger().warning("another process was first in the lake; trying again: %s", error)
            time.sleep(random.uniform(0.5, 2.0))


def busy(sources: Collection[str], settings: Settings) -> ledger.WarehouseBusy:
    """The error for whoever has waited in vain."""
    return ledger.WarehouseBusy(
        f"{', '.join(sorted(sources))}: another transform was at work for all of {settings.warehouse_wait_seconds:.0f} "
        "seconds. The batches stay pending; the next transform takes them"
    )


@contextmanager
def turns(settings: Settings, groups: Sequence[Sequence[str]], seconds: float) -> Iterator[list[str]]:
    """Holds the turns of every group of sources that is free as a whole, and yields these sources.

    If none is free, it waits for one for so many seconds.
    """
    catalog, _ = settings.lake
    deadline = time.monotonic() + seconds
    with locks.session(catalog) as lock:
        while not (mine := [group for group in groups if lock([name_of(source) for source in group])]):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.5)
        yield list(chain(*mine))


def name_of(source: str) -> str:
    """The name of its lock."""
    return f"transform:{source}"
