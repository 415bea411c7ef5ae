"""Who may take which source's batches into the warehouse, and when.

A DuckDB file has one writer: one transform at a time, by a lock beside the file. On the lake, different sources are
transformed side by side, and each source by one transform at a time: whoever holds the one slot of Prefect's global
concurrency limit `transform:<source>`. A transform that an event has started does not wait for a slot that is taken.
It may leave, because whoever has the slot looks again after giving it back.

A slot is a lease of 60 seconds that is renewed until it is given back, so a killed transform blocks its sources for
a minute. A lease that is lost stops nobody: dbt/macros/lake.sql is what then keeps two transforms apart.
"""

import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain

import duckdb
import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from flows import build, lake, ledger
from flows.landing import landed
from flows.processing import Sources
from flows.settings import Settings

LEASE_SECONDS = 60.0
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
        with turns([[source] for source in sorted(sources)], seconds) as mine:
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
    with turns([sources], settings.warehouse_wait_seconds) as mine:
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
def turns(groups: Sequence[Sequence[str]], seconds: float) -> Iterator[list[str]]:
    """Holds the turns of every group of sources that is free as a whole, and yields these sources.

    If none is free, it waits for one for so many seconds.
    """
    with get_client(sync_client=True) as client:
        for source in chain(*groups):
            with suppress(ObjectAlreadyExists):  # Another transform makes it at the same time.
                client.upsert_global_concurrency_limit_by_name(limit_of(source), 1)
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        while not (mine := [group for group in groups if acquire(stack, group)]) and time.monotonic() < deadline:
            time.sleep(0.5)
        yield list(chain(*mine))


def acquire(stack: ExitStack, sources: Sequence[str]) -> bool:
    """Takes one slot of each source's limit until the stack unwinds, or none; whether it got them."""
    try:
        # The slot is asked for once: Prefect itself would wait for as long as slots were held on average.
        slots = concurrency(
            [limit_of(source) for source in sources],
            strict=True,
            max_retries=0,
            lease_duration=LEASE_SECONDS,
            raise_on_lease_renewal_failure=False,
        )
        stack.enter_context(slots)
    except Exception as error:
        if is_taken(error):
            return False
        raise
    return True


def limit_of(source: str) -> str:
    """The name of its global concurrency limit."""
    return f"transform:{source}"


def is_taken(error: Exception) -> bool:
    """Whether Prefect says that somebody else has the slot."""
    cause = error.__cause__
    return isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == httpx.codes.LOCKED
