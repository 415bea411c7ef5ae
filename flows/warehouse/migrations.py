"""The schema `ops` has a version: an older warehouse is migrated in one transaction, a newer one is refused.

A migration that was released is never edited: what changes is a new one at the end.
"""

import contextlib
from collections.abc import Callable

import duckdb

from flows.errors import SchemaVersionError

Connection = duckdb.DuckDBPyConnection

UNVERSIONED = """
create schema if not exists ops;
create table if not exists ops.ledger (
    source text, batch_id text, rows bigint, handoff text, event_id uuid, extract_flow_run_id uuid,
    transform_flow_run_id uuid, landed_at timestamptz, event_at timestamptz, started_at timestamptz, dbt_project text,
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

# dbt may have made the first two: dbt/macros/publishing.
PUBLICATIONS = """
create table if not exists ops.mart_builds (invocation_id text, mart text, started_at timestamptz);
create table if not exists ops.tested_builds (invocation_id text, tested_at timestamptz);
create table ops.publications (
    transform_flow_run_id uuid, published_at timestamptz, place text, bytes bigint, marts text, rolled_back boolean,
    kept boolean
);
"""


def adopt_unversioned(connection: Connection) -> None:
    """Every warehouse made before there were versions: tables of the oldest lack columns, and are copied into new ones.

    Not by adding columns: DuckDB lets a table be altered twice in one transaction at the most.
    """
    wanted = {"ledger": {"announced"}, "quarantine": {"announced", "transform_flow_run_id"}}
    found = {table: _columns(connection, table) for table in wanted}
    older = [table for table, columns in found.items() if columns and not wanted[table] <= columns]
    for table in older:
        connection.execute(f"alter table ops.{table} rename to {table}_unversioned")
    connection.execute(UNVERSIONED)
    for table in older:
        # The transforms of that time sent their events themselves.
        announced = "" if "announced" in found[table] else ", true as announced"
        connection.execute(f"insert into ops.{table} by name select *{announced} from ops.{table}_unversioned")
        connection.execute(f"drop table ops.{table}_unversioned")


def add_publications(connection: Connection) -> None:
    """What was published, and which marts have passed their tests."""
    connection.execute(PUBLICATIONS)


def add_dropped(connection: Connection) -> None:
    """A quarantined batch that can never be processed is dropped, and stays in the table with its reason."""
    connection.execute("alter table ops.quarantine add column dropped_at timestamptz")


def add_reading(connection: Connection) -> None:
    """How the source was read; not known of what older code has processed."""
    connection.execute("alter table ops.ledger add column reading text")


def add_freshness(connection: Connection) -> None:
    """What dbt said of the age of each source, at the last sweep."""
    connection.execute(
        "create table ops.freshness (source text, status text, loaded_at timestamptz, warn_after interval, "
        "error_after interval, checked_at timestamptz)"
    )


def add_views(connection: Connection) -> None:
    """The staging views as the last build of everything left them."""
    connection.execute("create table ops.views (definitions text, dbt_project text, built_at timestamptz)")


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    adopt_unversioned,
    add_publications,
    add_dropped,
    add_reading,
    add_freshness,
    add_views,
)


def is_current(connection: Connection) -> bool:
    """Whether the schema `ops` is as this code expects it; SchemaVersionError if newer code has been here."""
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise SchemaVersionError(
            f"the warehouse's schema `ops` has version {version}, made by newer code; this code knows versions up to "
            f"{len(MIGRATIONS)}. Nothing was changed and the batches stay pending: update this installation"
        )
    return version == len(MIGRATIONS)


def migrate(connection: Connection) -> None:
    """Brings the schema `ops` to the newest version, all of it or nothing; makes it in a new warehouse."""
    if is_current(connection):
        return
    connection.begin()
    try:
        for migration in MIGRATIONS[schema_version(connection) :]:
            migration(connection)
        connection.execute(
            "create table if not exists ops.schema_version (version integer, migrated_at timestamptz);"
            f"insert into ops.schema_version values ({len(MIGRATIONS)}, now())"
        )
        connection.commit()
    except BaseException:
        with contextlib.suppress(duckdb.TransactionException):  # A commit that failed has ended it.
            connection.rollback()
        raise


def schema_version(connection: Connection) -> int:
    """The version of the schema `ops`; 0 for a warehouse that has none, or none yet."""
    if not _columns(connection, "schema_version"):
        return 0
    return int(connection.execute("select coalesce(max(version), 0) from ops.schema_version").fetchall()[0][0])


def _columns(connection: Connection, table: str) -> set[str]:
    """The columns of a table of the schema `ops`; none if it does not exist."""
    rows = connection.execute(
        "select column_name from duckdb_columns() "
        "where database_name = current_database() and schema_name = 'ops' and table_name = ?",
        [table],
    ).fetchall()
    return {name for (name,) in rows}
