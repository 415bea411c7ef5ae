"""How old dbt found each source at the last sweep: `ops.freshness`, which is replaced each time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from flows.warehouse.ledger import transaction

STALE = ("warn", "error")


@dataclass(frozen=True)
class Freshness:
    """What dbt said of a source, and the ages at which it warns and fails."""

    status: str
    """`pass`, `warn` or `error`."""
    loaded_at: datetime
    warn_after: timedelta | None
    error_after: timedelta | None


def read(connection: duckdb.DuckDBPyConnection) -> dict[str, Freshness]:
    """The freshness of each source, as of the last sweep; needs a migrated warehouse."""
    rows = connection.sql("select source, status, loaded_at, warn_after, error_after from ops.freshness").fetchall()
    return {source: Freshness(*row) for source, *row in rows}


@transaction
def record(connection: duckdb.DuckDBPyConnection, found: Mapping[str, Freshness]) -> None:
    """Keeps what dbt has just said, in place of what it said before."""
    connection.execute("delete from ops.freshness")
    rows = [(source, each.status, each.loaded_at, each.warn_after, each.error_after) for source, each in found.items()]
    if rows:
        connection.executemany("insert into ops.freshness values (?, ?, ?, ?, ?, now())", rows)


def became_stale(before: Mapping[str, Freshness], now: Mapping[str, Freshness]) -> dict[str, Freshness]:
    """The sources that dbt warns of, or fails, and did not at the sweep before."""
    return {
        source: each
        for source, each in now.items()
        if each.status in STALE and (source not in before or before[source].status != each.status)
    }
