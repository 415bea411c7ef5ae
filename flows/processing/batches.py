"""What a person does by hand: replay and drop quarantined batches, prune the landing, maintain the lake, roll back."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.errors import BatchError, InvalidInputError
from flows.landing import batch as landing
from flows.landing.batch import list_batches
from flows.landing.names import check_batch_id
from flows.processing import source_locks
from flows.settings import Settings, split_source
from flows.warehouse import ducklake, ledger, publishing
from flows.warehouse.connection import connect

LEFTOVER_SECONDS = 86400.0
"""Objects of an extract that was killed are removed when they are a day old: a slow extract may still write."""


@dataclass(frozen=True)
class QuarantinedBatch:
    """A batch that no build takes, and why: until it is replayed, or for good because it was dropped."""

    source: str
    batch_id: str
    reason: str
    at: datetime
    """When it was quarantined, or dropped. In UTC, without a time zone, as the ledger holds it."""


@dataclass(frozen=True)
class Pruned:
    """What `prune` removed, or would remove."""

    before: datetime
    removed: list[Path | str]
    """The folders of the removed batches."""
    kept: list[str]
    """Why a batch was kept although it may be old enough: its manifest cannot be read."""
    leftovers: int
    """How many objects of killed extracts were removed."""


def list_quarantined(settings: Settings) -> list[QuarantinedBatch]:
    """Every quarantined batch, oldest first; none if there is no warehouse yet."""
    if not settings.on_lake and not settings.warehouse.exists():
        return []
    with connect(settings) as connection:
        return [QuarantinedBatch(*row) for row in ledger.list_quarantined(connection)]


def replay(settings: Settings, source: str, batch_id: str) -> bool:
    """Makes a quarantined batch pending again, for the next transform; False if it is not in the quarantine.

    InvalidInputError for what is no source name or no batch id.
    """
    split_source(source)
    check_batch_id(batch_id)
    with connect(settings) as connection:
        return ledger.unquarantine(connection, (source, batch_id))


def drop_quarantined(settings: Settings, source: str, batch_id: str) -> bool:
    """Gives up a quarantined batch that can never be processed; False if it is not in the quarantine.

    It is never pending again, and stays in `ops.quarantine` with its reason. InvalidInputError for what is no source
    name or no batch id.
    """
    split_source(source)
    check_batch_id(batch_id)
    with connect(settings) as connection:
        return ledger.drop(connection, (source, batch_id))


def list_dropped(settings: Settings) -> list[QuarantinedBatch]:
    """Every batch that was given up, oldest first, with the reason for the quarantine; none without a warehouse."""
    if not settings.on_lake and not settings.warehouse.exists():
        return []
    with connect(settings) as connection:
        return [QuarantinedBatch(*row) for row in ledger.list_dropped(connection)]


def prune(settings: Settings, days: float, *, dry_run: bool = False) -> Pruned:
    """Removes the landed batches that were extracted more than `days` ago and that the ledger holds, or were dropped.

    A full refresh rebuilds the warehouse from the landing: it refuses to run once batches are pruned.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    with source_locks.lock_all_sources(settings):  # A full refresh reads what this removes.
        old, kept = _processed_before(settings, before)
        if not dry_run:
            for batch in old:
                landing.remove(batch)
        leftovers = 0 if dry_run else landing.remove_leftovers(settings.landing_root, LEFTOVER_SECONDS)
    return Pruned(before, [batch.folder for batch in old], kept, leftovers)


def _processed_before(settings: Settings, before: datetime) -> tuple[list[landing.Batch], list[str]]:
    """The processed and the dropped batches extracted before then, and a message for each whose age is unknown."""
    done = ledger.read(settings).processed | {(batch.source, batch.batch_id) for batch in list_dropped(settings)}
    old, unknown = [], []
    for batch in list_batches(settings.landing_root):
        if batch.key in done:
            try:
                if batch.manifest().extracted_at < before:
                    old.append(batch)
            except BatchError as error:
                unknown.append(str(error))
    return old, unknown


def maintain(settings: Settings, days: float) -> None:
    """Merges the lake's small files and removes what only snapshots older than `days` need.

    InvalidInputError if the warehouse is a DuckDB file.
    """
    if not settings.on_lake:
        raise InvalidInputError("maintain: expected BATON_TARGET=lake; a DuckDB file needs no maintenance")
    # Merging while another process deletes loses rows (https://github.com/duckdb/ducklake/issues/1094).
    with source_locks.lock_all_sources(settings), connect(settings) as connection:
        ducklake.maintain(connection, days, publishing.pinned_snapshots(connection))


def roll_back(settings: Settings, transform_run_id: str) -> publishing.Publication:
    """Shows readers what a kept publication holds, until something new is built and published.

    InvalidInputError, which names the kept publications, for the run of none.
    """
    with source_locks.lock_all_sources(settings):  # A transform would publish over it at once.
        return publishing.roll_back(settings, transform_run_id)
