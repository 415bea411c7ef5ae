"""Who may take which source's batches into the warehouse, and when.

A DuckDB file has one writer: one transform at a time, by a lock beside the file. On the lake, different sources are
transformed side by side, and each source by one transform at a time: whoever holds the lock `transform:<source>` in
the Postgres of the lake's catalog.

The lock is where the catalog is, so nobody can lose one and keep the other for long, and a killed transform has none.
(Prefect's global concurrency limits count their slots in one database and keep who has them in another: when Redis
was killed or emptied, slots stayed taken.) Should two transforms work at once all the same, dbt/macros/lake.sql keeps
them apart.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from flows.errors import WarehouseBusyError
from flows.landing.batch import list_batches
from flows.settings import Settings
from flows.warehouse import advisory_locks
from flows.warehouse.connection import exclusive_writer


@contextmanager
def lock_all_sources(settings: Settings) -> Iterator[None]:
    """The warehouse for one process; WarehouseBusyError if others hold some of it for longer than the setting."""
    if not settings.on_lake:
        with exclusive_writer(settings):
            yield
        return
    sources = sorted({batch.source for batch in list_batches(settings.landing_root)})
    with lock_groups(settings, [sources], settings.warehouse_wait_seconds) as locked:
        if locked != sources:
            raise busy(sources, settings)
        yield


@contextmanager
def lock_sources(settings: Settings, sources: Collection[str], seconds: float) -> Iterator[list[str]]:
    """Those of the sources whose locks are free, locked; if none is, it waits for one for so many seconds."""
    with lock_groups(settings, [[source] for source in sorted(sources)], seconds) as locked:
        yield locked


@contextmanager
def lock_groups(settings: Settings, groups: Sequence[Sequence[str]], seconds: float) -> Iterator[list[str]]:
    """The sources of every group whose locks are all free, locked; none if that does not happen in time."""
    catalog, _ = settings.lake
    deadline = time.monotonic() + seconds
    with advisory_locks.session(catalog) as lock:
        while not (locked := [group for group in groups if lock([lock_name(source) for source in group])]):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.5)
        yield [source for group in locked for source in group]


def lock_name(source: str) -> str:
    """The name of its lock."""
    return f"transform:{source}"


def busy(sources: Collection[str], settings: Settings) -> WarehouseBusyError:
    """The error for whoever has waited in vain."""
    return WarehouseBusyError(
        f"{', '.join(sorted(sources))}: another transform was at work for all of {settings.warehouse_wait_seconds:.0f} "
        "seconds. The batches stay pending; the next transform takes them"
    )
