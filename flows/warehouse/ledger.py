"""Which batches the warehouse has processed. Knows nothing of Prefect.

Two tables in the warehouse itself, schema `ops`: `ledger` has a row for every batch that is in the marts, and
`quarantine` one for every batch that was set aside. They are written by one transaction each, so a batch is in
one of them or still pending, whatever is killed when.
"""

import contextlib
import fcntl
import functools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

import duckdb

from flows import lake
from flows.landing import Batch
from flows.settings import Settings

Key = tuple[str, str]
"""Source and batch id."""

COLUMNS = {
    "source": "text",
    "batch_id": "text",
    "rows": "bigint",
    "handoff": "text",
    "event_id": "uuid",
    "extract_flow_run_id": "uuid",
    "transform_flow_run_id": "uuid",
    "landed_at": "timestamptz",
    "event_at": "timestamptz",
    "started_at": "timestamptz",
    "dbt_project": "text",
}
TABLES = f"""
create schema if not exists ops;
create table if not exists ops.ledger (
    {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())},
    processed_at timestamptz not null default current_timestamp, announced boolean default false
);
create table if not exists ops.quarantine (
    source text, batch_id text, reason text, held boolean default false, transform_flow_run_id uuid,
    quarantined_at timestamptz not null default current_timestamp, announced boolean default false
);
create table if not exists ops.failures (
    source text, batch_id text, reason text, failed_at timestamptz not null default current_timestamp
);
"""


class WarehouseBusy(Exception):
    """Another process is at work in the warehouse; nothing was changed, and what is pending stays so."""


class Conflict(WarehouseBusy):
    """Another process has changed the same in the lake, and was first; trying again is right."""


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
TRIES = 20


def _again(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Calls the function again if, on the lake, another process was first."""

    @functools.wraps(function)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        for _ in range(TRIES - 1):
            try:
                return function(*arguments, **options)
            except duckdb.Error as error:
                if not lake.is_conflict(error):
                    raise
                time.sleep(random.uniform(0.05, 0.5))
        return function(*arguments, **options)

    return run


def _transaction(
    function: Callable[Concatenate[duckdb.DuckDBPyConnection, Arguments], Result],
) -> Callable[Concatenate[duckdb.DuckDBPyConnection, Arguments], Result]:
    """All of the function or nothing of it."""

    @functools.wraps(function)
    def run(
        connection: duckdb.DuckDBPyConnection, /, *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        connection.execute(TABLES)
        connection.begin()
        try:
            result = function(connection, *arguments, **options)
            connection.commit()
        except BaseException:
            with contextlib.suppress(duckdb.TransactionException):  # A commit that failed has ended it.
                connection.rollback()
            raise
        return result

    return _again(run)


@dataclass(frozen=True)
class Entry:
    """One processed batch: how it came, and when (times with a zone). The fields are COLUMNS, in their order.

    Without `event_id`: the server has no event of this batch, so the sweep or somebody else's event found it.
    """

    source: str
    batch_id: str
    rows: int
    handoff: str | None
    event_id: str | None
    extract_flow_run_id: str | None
    transform_flow_run_id: str | None
    landed_at: datetime | None
    event_at: datetime | None
    started_at: datetime | None
    dbt_project: str | None
    """Fingerprint of the dbt project that processed the batch."""


@contextlib.contextmanager
def opened(settings: Settings, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse: to the lake, or to the file, which has one writing process at a time.

    Waits for a process that holds the file, and raises WarehouseBusy, which names it, after
    `settings.warehouse_wait_seconds`.
    """
    connection = lake.connect(settings) if settings.on_lake else _open_file(settings, read_only)
    try:
        yield connection
    finally:
        connection.close()


def _open_file(settings: Settings, read_only: bool) -> duckdb.DuckDBPyConnection:
    warehouse, wait_seconds = settings.warehouse, settings.warehouse_wait_seconds
    deadline = time.monotonic() + wait_seconds
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            return duckdb.connect(str(warehouse), read_only=read_only)
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise WarehouseBusy(
                    f"{warehouse}: another process held the file for all of {wait_seconds:.0f} seconds; close it, or "
                    f"set BATON_WAREHOUSE_WAIT_SECONDS higher. The batches stay pending. DuckDB says: {error}"
                ) from error
            time.sleep(0.1)


@contextlib.contextmanager
def sole_writer(settings: Settings) -> Iterator[None]:
    """For a whole transform of the file, from reading the ledger to writing it: one at a time, whoever started it.

    DuckDB's own lock does not do that: dbt lets go of the file between two nodes, so two builds would get in each
    other's way and both fail. The system drops this one, on a file beside the warehouse, when its process dies.
    """
    warehouse, wait_seconds = settings.warehouse, settings.warehouse_wait_seconds
    deadline = time.monotonic() + wait_seconds
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    with warehouse.with_name(f"{warehouse.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WarehouseBusy(
                        f"{warehouse}: another transform was at work for all of {wait_seconds:.0f} seconds. "
                        "The batches stay pending; the next transform takes them"
                    ) from None
                time.sleep(0.1)
        yield


@dataclass(frozen=True)
class State:
    """What the ledger holds: the batches that need nothing more, and by which dbt project the last one was built."""

    processed: frozenset[Key]
    quarantined: frozenset[Key]
    failures: dict[Key, int]
    """How many builds failed with the batch pending."""
    dbt_project: str | None
    held: frozenset[str]
    """Sources whose batches are held by a run that tried them one by one; it was ended before it let go of them."""
    untold: bool
    """Whether there is something of which the server has not been told."""

    def pending(self, landed: Iterable[Batch]) -> list[Batch]:
        """The landed batches that are neither processed nor set aside, in their order."""
        return [batch for batch in landed if batch.key not in self.processed and batch.key not in self.quarantined]


EMPTY = State(frozenset(), frozenset(), {}, None, frozenset(), False)


@_again
def read(settings: Settings) -> State:
    """The state of the ledger; of a warehouse that does not exist yet, the empty one."""
    if not settings.on_lake and not settings.warehouse.exists():
        return EMPTY
    with opened(settings, read_only=True) as connection:
        try:
            processed = connection.sql("select source, batch_id from ops.ledger").fetchall()
            quarantine = connection.sql("select source, batch_id, held from ops.quarantine").fetchall()
            failures = connection.sql("select source, batch_id, count(*) from ops.failures group by all").fetchall()
            project = connection.sql("select arg_max(dbt_project, processed_at) from ops.ledger").fetchone()
            finished, set_aside = untold(connection)
        except duckdb.CatalogException as error:
            if lake.is_conflict(error):
                raise
            return EMPTY
    return State(
        frozenset(processed),
        frozenset((source, batch_id) for source, batch_id, held in quarantine if not held),
        {(source, batch_id): count for source, batch_id, count in failures},
        project[0] if project else None,
        frozenset(source for source, _, held in quarantine if held),
        bool(finished or set_aside),
    )


@_transaction
def record(connection: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> None:
    """Enter processed batches, all or none. A batch that is there already stays as it was."""
    _add_missing(connection, "ops.ledger", COLUMNS, [astuple(entry) for entry in entries])
    if connection.execute("select type from duckdb_databases() where database_name = ?", [lake.NAME]).fetchone() == (
        "ducklake",
    ):
        # Two transactions that append do not conflict on the lake; two that replace a table do.
        for source in {entry.source for entry in entries}:
            connection.execute(f"create or replace table ops.{source.replace('.', '__')}__turn as select now() as at")
    connection.execute(
        "delete from ops.failures where (source, batch_id) in (select (source, batch_id) from ops.ledger)"
    )


@_transaction
def set_aside(connection: duckdb.DuckDBPyConnection, reasons: dict[Key, str], run_id: str | None = None) -> None:
    """Put batches into the quarantine, all or none: dbt leaves them out from now on. `run_id` is the transform's."""
    columns = {"source": "text", "batch_id": "text", "reason": "text", "transform_flow_run_id": "uuid"}
    _add_missing(connection, "ops.quarantine", columns, [(*key, reason, run_id) for key, reason in reasons.items()])


Finished = tuple[str, UUID, dict[str, int]]
"""Source, the transform's flow run, and the rows of each batch that it has processed."""
SetAside = tuple[str, str, str, UUID]
"""Source, batch id, reason, and the transform's flow run."""


@_again
def untold(connection: duckdb.DuckDBPyConnection) -> tuple[list[Finished], list[SetAside]]:
    """What was written and the server is not known to have been told of."""
    finished = connection.sql(
        "select source, transform_flow_run_id, map_from_entries(list((batch_id, rows))) from ops.ledger "
        "where not announced and transform_flow_run_id is not null group by all order by all"
    ).fetchall()
    quarantine = connection.sql(
        "select source, batch_id, reason, transform_flow_run_id from ops.quarantine "
        "where not announced and not held and transform_flow_run_id is not null order by all"
    ).fetchall()
    return finished, quarantine


@_transaction
def told(connection: duckdb.DuckDBPyConnection, runs: Iterable[UUID]) -> None:
    """The server has been told of all that these transform runs wrote."""
    for table in ("ops.ledger", "ops.quarantine"):
        connection.execute(
            f"update {table} set announced = true where not announced and transform_flow_run_id in (select unnest(?))",
            [list(runs)],
        )


@_transaction
def hold(connection: duckdb.DuckDBPyConnection, keys: Sequence[Key], sources: Iterable[str]) -> None:
    """Keep exactly these batches of the sources out of the next build, without setting them aside for good."""
    columns = {"source": "text", "batch_id": "text", "reason": "text", "held": "boolean"}
    rows = [(*key, "held while others are tried one by one", True) for key in keys]
    connection.execute("delete from ops.quarantine where held and source in (select unnest(?))", [list(sources)])
    _add_missing(connection, "ops.quarantine", columns, rows)


@_transaction
def release(connection: duckdb.DuckDBPyConnection, key: Key) -> bool:
    """Make a batch that was set aside pending again, its failures forgotten; False if it was not set aside."""
    found = connection.execute(
        "select source from ops.quarantine where source = ? and batch_id = ? and not held", key
    ).fetchall()
    connection.execute("delete from ops.quarantine where source = ? and batch_id = ? and not held", key)
    connection.execute("delete from ops.failures where source = ? and batch_id = ?", key)
    return bool(found)


@_again
def quarantined(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str, datetime]]:
    """Source, batch id, reason and time (UTC) of every batch that was set aside, oldest first."""
    connection.execute(TABLES)
    return connection.sql(
        "select source, batch_id, reason, quarantined_at at time zone 'UTC' from ops.quarantine "
        "where not held order by quarantined_at"
    ).fetchall()


@_transaction
def note_failures(connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch], reason: str) -> None:
    """Remember that a build with these batches pending failed."""
    for batch in batches:
        connection.execute("insert into ops.failures (source, batch_id, reason) values (?, ?, ?)", [*batch.key, reason])


@_again
def base_rows(connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch]) -> dict[Key, int]:
    """Rows that the base model of each batch's source holds of it; 0 where there is no such model or batch."""
    wanted: dict[str, list[str]] = {}
    for batch in batches:
        wanted.setdefault(batch.source, []).append(batch.batch_id)
    counts: dict[Key, int] = {(source, batch_id): 0 for source, ids in wanted.items() for batch_id in ids}
    for source, ids in wanted.items():
        with contextlib.suppress(duckdb.CatalogException):
            counts |= {
                (source, batch_id): rows
                for batch_id, rows in connection.execute(
                    f"select _batch_id, count(*) from base.base_{source.replace('.', '__')} "
                    f"where _batch_id in ({', '.join('?' * len(ids))}) group by 1",
                    ids,
                ).fetchall()
            }
    return counts


def _add_missing(
    connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str], rows: Sequence[tuple[object, ...]]
) -> None:
    """Insert the rows whose source and batch id the table lacks. One statement, however many rows."""
    values = ", ".join(f"unnest(?::{kind}[]) as {name}" for name, kind in columns.items())
    connection.execute(
        f"insert into {table} by name "
        f"select new.* from (select {values}) new anti join {table} using (source, batch_id)",
        [[row[position] for row in rows] for position in range(len(columns))],
    )
