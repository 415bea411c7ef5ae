"""Which batches the warehouse has processed. Knows nothing of Prefect.

Two tables in the warehouse itself, schema `ops`: `ledger` has a row for every batch that is in the marts, and
`quarantine` one for every batch in quarantine. They are written by one transaction each, so a batch is in
one of them or still pending, whatever is killed when.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Concatenate
from uuid import UUID

import duckdb

from flows.errors import cut
from flows.landing.batch import Batch
from flows.settings import Settings
from flows.warehouse import ducklake
from flows.warehouse.connection import Arguments, Result, connect, retry_conflicts
from flows.warehouse.migrations import is_current, migrate
from flows.warehouse.publishing import untested_marts

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
    "reading": "text",
}
VIEWS = (
    "select md5(string_agg(view_name || sql, ' ' order by view_name)) from duckdb_views() "
    "where database_name = current_database() and schema_name = 'staging'"
)
"""Of the staging views as they are; null if there is none."""
FAILURES_KEPT = 5
"""Per batch; more than the failures after which batches are tried one by one."""
REASON_LENGTH = 4000


def transaction(
    function: Callable[Concatenate[duckdb.DuckDBPyConnection, Arguments], Result],
) -> Callable[Concatenate[duckdb.DuckDBPyConnection, Arguments], Result]:
    """All of the function or nothing of it."""

    @functools.wraps(function)
    def run(
        connection: duckdb.DuckDBPyConnection, /, *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        migrate(connection)
        connection.begin()
        try:
            result = function(connection, *arguments, **options)
            connection.commit()
        except BaseException:
            with contextlib.suppress(duckdb.TransactionException):  # A commit that failed has ended it.
                connection.rollback()
            raise
        return result

    return retry_conflicts(run)


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
    reading: str | None = None
    """How the source was read (`flows.landing.batch.Reading`), as JSON; the landing may be pruned."""


@dataclass(frozen=True)
class LedgerSnapshot:
    """What the ledger holds: the batches that need nothing more, and by which dbt project the last one was built."""

    processed: frozenset[Key]
    quarantined: frozenset[Key]
    failures: dict[Key, int]
    """How many builds failed with the batch pending."""
    dbt_project: str | None
    held_back: frozenset[str]
    """Sources whose batches are held by a run that tried them one by one; it was ended before it let go of them."""
    unannounced: bool
    """Whether there is something that the server has no event of."""
    untested_marts: bool = False
    """Whether the last build of a mart failed or was killed; on the lake also while one is at work."""
    views_of: str | None = None
    """The dbt project that made the staging views, if they are as it made them."""

    def pending(self, landed: Iterable[Batch]) -> list[Batch]:
        """The landed batches that are neither processed nor in quarantine, in their order."""
        return [batch for batch in landed if batch.key not in self.processed and batch.key not in self.quarantined]


EMPTY = LedgerSnapshot(frozenset(), frozenset(), {}, None, frozenset(), False)


@retry_conflicts
def read(settings: Settings) -> LedgerSnapshot:
    """The ledger as it is now; an empty one for a warehouse that has none yet."""
    if not settings.on_lake and not settings.warehouse.exists():
        return EMPTY
    with connect_migrated(settings) as connection:
        processed = connection.sql("select source, batch_id from ops.ledger").fetchall()
        quarantine = connection.sql("select source, batch_id, held from ops.quarantine").fetchall()
        failures = connection.sql("select source, batch_id, count(*) from ops.failures group by all").fetchall()
        project = connection.sql("select arg_max(dbt_project, processed_at) from ops.ledger").fetchone()
        finished, quarantined = unannounced(connection)
        untested = untested_marts(connection)
        views = connection.sql(f"select dbt_project from ops.views where definitions = ({VIEWS})").fetchone()
    return LedgerSnapshot(
        frozenset(processed),
        frozenset((source, batch_id) for source, batch_id, held in quarantine if not held),
        {(source, batch_id): count for source, batch_id, count in failures},
        project[0] if project else None,
        frozenset(source for source, _, held in quarantine if held),
        bool(finished or quarantined),
        bool(untested),
        views[0] if views else None,
    )


@contextlib.contextmanager
def connect_migrated(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for reading, to a warehouse that older code may have made; SchemaVersionError for a newer one."""
    with connect(settings, read_only=True) as connection:
        if is_current(connection):
            yield connection
            return
    with connect(settings) as connection:
        migrate(connection)
        yield connection


def has_tables(connection: duckdb.DuckDBPyConnection, schema: str, names: Sequence[str]) -> bool:
    """Whether the warehouse has all of these tables: asked, because an error may have any other cause."""
    found = connection.execute(
        "select count(*) from duckdb_tables() "
        "where database_name = current_database() and schema_name = ? and table_name in (select unnest(?))",
        [schema, list(names)],
    ).fetchone()
    return found == (len(names),)


@transaction
def record(connection: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> None:
    """Enter processed batches, all or none. A batch that is there already stays as it was."""
    _add_missing(connection, "ops.ledger", COLUMNS, [astuple(entry) for entry in entries])
    if connection.execute(
        "select type from duckdb_databases() where database_name = ?", [ducklake.NAME]
    ).fetchone() == ("ducklake",):
        # Two transactions that append do not conflict on the lake; two that replace a table do.
        for source in {entry.source for entry in entries}:
            connection.execute(f"create or replace table ops.{source.replace('.', '__')}__turn as select now() as at")
    connection.execute(
        "delete from ops.failures where (source, batch_id) in (select (source, batch_id) from ops.ledger)"
    )


@transaction
def record_views(connection: duckdb.DuckDBPyConnection, dbt_project: str) -> None:
    """Enter the staging views as they are: a build of everything has just made all of them."""
    connection.execute("delete from ops.views")
    connection.execute(f"insert into ops.views select ({VIEWS}), ?, now()", [dbt_project])


@dataclass(frozen=True)
class Arrival:
    """How a processed batch compares: seconds from its landing to the ledger, and the rows of the batch before."""

    seconds: float | None
    rows_before: int | None


@retry_conflicts
def arrivals(connection: duckdb.DuckDBPyConnection, keys: Iterable[Key]) -> dict[Key, Arrival]:
    """Of those of the batches that the ledger holds; the batch before is the source's, by its id."""
    wanted = set(keys)
    found = connection.execute(
        "select source, batch_id, epoch(processed_at - landed_at), lag(rows) over (partition by source order by "
        "batch_id) from ops.ledger where source in (select unnest(?))",
        [sorted({source for source, _ in wanted})],
    ).fetchall()
    return {
        (source, batch_id): Arrival(seconds, rows)
        for source, batch_id, seconds, rows in found
        if (source, batch_id) in wanted
    }


@transaction
def quarantine(connection: duckdb.DuckDBPyConnection, reasons: dict[Key, str], run_id: str | None = None) -> None:
    """Put batches into the quarantine, all or none: dbt leaves them out from now on. `run_id` is the transform's."""
    columns = {"source": "text", "batch_id": "text", "reason": "text", "transform_flow_run_id": "uuid"}
    rows = [(*key, cut(reason, REASON_LENGTH), run_id) for key, reason in reasons.items()]
    _add_missing(connection, "ops.quarantine", columns, rows)


@dataclass(frozen=True)
class Finished:
    """What one transaction entered of one source: the rows of each batch, and the transform's flow run."""

    source: str
    run_id: UUID
    batches: dict[str, int]


@dataclass(frozen=True)
class Quarantined:
    """A batch that went into quarantine, why, and by which transform's flow run."""

    source: str
    batch_id: str
    reason: str
    run_id: UUID


@retry_conflicts
def unannounced(connection: duckdb.DuckDBPyConnection) -> tuple[list[Finished], list[Quarantined]]:
    """What was written and the server is not known to have an event of."""
    finished = connection.sql(
        "select source, transform_flow_run_id, map_from_entries(list((batch_id, rows))) from ops.ledger "
        "where not announced and transform_flow_run_id is not null "
        "group by source, transform_flow_run_id, processed_at order by source, processed_at"
    ).fetchall()
    quarantined = connection.sql(
        "select source, batch_id, reason, transform_flow_run_id from ops.quarantine "
        "where not announced and not held and transform_flow_run_id is not null order by all"
    ).fetchall()
    return [Finished(*row) for row in finished], [Quarantined(*row) for row in quarantined]


@transaction
def mark_announced(
    connection: duckdb.DuckDBPyConnection, finished: Iterable[Finished], quarantined: Iterable[Quarantined]
) -> None:
    """The server has an event of each of these rows, and of no other."""
    rows = {
        "ops.ledger": [(each.source, batch_id, each.run_id) for each in finished for batch_id in each.batches],
        "ops.quarantine": [(each.source, each.batch_id, each.run_id) for each in quarantined],
    }
    for table, keys in rows.items():
        sources, batch_ids, run_ids = ([key[position] for key in keys] for position in range(3))
        connection.execute(
            f"update {table} set announced = true where (source, batch_id, transform_flow_run_id) in "
            "(select (unnest(?::text[]), unnest(?::text[]), unnest(?::uuid[])))",
            [sources, batch_ids, run_ids],
        )


@transaction
def hold_back(connection: duckdb.DuckDBPyConnection, keys: Sequence[Key], sources: Iterable[str]) -> None:
    """Keep exactly these batches of the sources out of the next build, without setting them aside for good."""
    columns = {"source": "text", "batch_id": "text", "reason": "text", "held": "boolean"}
    rows = [(*key, "held while others are tried one by one", True) for key in keys]
    connection.execute("delete from ops.quarantine where held and source in (select unnest(?))", [list(sources)])
    _add_missing(connection, "ops.quarantine", columns, rows)


@transaction
def unquarantine(connection: duckdb.DuckDBPyConnection, key: Key) -> bool:
    """Make a quarantined batch pending again, its failures forgotten; False if it is not in quarantine."""
    found = _in_quarantine(connection, key)
    if found:
        connection.execute("delete from ops.quarantine where source = ? and batch_id = ? and not held", key)
    connection.execute("delete from ops.failures where source = ? and batch_id = ?", key)
    return found


def _in_quarantine(connection: duckdb.DuckDBPyConnection, key: Key) -> bool:
    return bool(
        connection.execute(
            "select 1 from ops.quarantine where source = ? and batch_id = ? and not held and dropped_at is null", key
        ).fetchall()
    )


@retry_conflicts
def list_quarantined(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str, datetime]]:
    """Source, batch id, reason and time (UTC) of every batch in quarantine, oldest first."""
    migrate(connection)
    return connection.sql(
        "select source, batch_id, reason, quarantined_at at time zone 'UTC' from ops.quarantine "
        "where not held and dropped_at is null order by quarantined_at"
    ).fetchall()


@transaction
def drop(connection: duckdb.DuckDBPyConnection, key: Key) -> bool:
    """Give up a quarantined batch: never pending again, its reason kept; False if it is not in quarantine."""
    found = _in_quarantine(connection, key)
    if found:
        connection.execute(
            "update ops.quarantine set dropped_at = now() where source = ? and batch_id = ? and not held", key
        )
    connection.execute("delete from ops.failures where source = ? and batch_id = ?", key)
    return found


@retry_conflicts
def list_dropped(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str, datetime]]:
    """Source, batch id, reason and time (UTC) of every quarantined batch that was dropped, oldest first."""
    migrate(connection)
    return connection.sql(
        "select source, batch_id, reason, dropped_at at time zone 'UTC' from ops.quarantine "
        "where dropped_at is not null order by dropped_at"
    ).fetchall()


@transaction
def record_failures(connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch], reason: str) -> None:
    """Remember that a build with these batches pending failed; of each batch, the last few failures."""
    for batch in batches:
        connection.execute(
            "insert into ops.failures (source, batch_id, reason) values (?, ?, ?)",
            [*batch.key, cut(reason, REASON_LENGTH)],
        )
    connection.execute(
        "delete from ops.failures where (source, batch_id, failed_at) in (select (source, batch_id, failed_at) "
        "from ops.failures qualify row_number() over (partition by source, batch_id order by failed_at desc) > ?)",
        [FAILURES_KEPT],
    )


@retry_conflicts
def base_rows(connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch]) -> dict[Key, int]:
    """Rows that the base model of each batch's source holds of it; 0 where there is no such model or batch."""
    wanted: dict[str, list[str]] = {}
    for batch in batches:
        wanted.setdefault(batch.source, []).append(batch.batch_id)
    counts: dict[Key, int] = {(source, batch_id): 0 for source, ids in wanted.items() for batch_id in ids}
    for source, ids in wanted.items():
        model = f"base_{source.replace('.', '__')}"
        if has_tables(connection, "base", [model]):
            found = connection.execute(
                f"select _batch_id, count(*) from base.{model} "
                f"where _batch_id in ({', '.join('?' * len(ids))}) group by 1",
                ids,
            ).fetchall()
            counts |= {(source, batch_id): rows for batch_id, rows in found}
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
