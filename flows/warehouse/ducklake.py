"""What DuckDB needs beyond one machine: object storage, and DuckLake as a warehouse that many processes write.

A DuckLake (https://ducklake.select) has its catalog in Postgres and its data as Parquet files in a folder or an object
store. Its transactions span both. Knows nothing of Prefect. Every password goes into a DuckDB secret, which is shown
nowhere; none is in a statement that dbt would log.
"""

import os
import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

import duckdb

from flows.errors import WarehouseError
from flows.settings import Settings
from flows.warehouse.extensions import load

NAME = "warehouse"
"""What the lake is attached as; the DuckDB file of one machine goes by the same name, so models are the same."""

CONFLICTS = (
    "Transaction conflict",  # Another transaction has changed what this one changes, and was first.
    "Failed to commit DuckLake",  # The same, found by Postgres.
    "could not serialize access",
    "Failed to load DuckLake",  # The catalog could not be read just now.
)
CATALOG_AWAY = re.compile(
    r"Unable to connect to Postgres|authentication failed|no pg_hba\.conf entry|(?:role|database) \".+\" does not exist"
)
"""Postgres let nobody in, or is not there: trying again at once would only hide it."""

STORE_AWAY = re.compile(r"^\s*(HTTP Error: |IO Error: Could not connect to server)", re.MULTILINE)


def is_conflict(error: object) -> bool:
    """Whether an error, or a message, says that another process was first. Nothing was changed then; try again."""
    return any(words in str(error) for words in CONFLICTS) and not is_catalog_away(error)


def is_catalog_away(error: object) -> bool:
    """Whether an error, or a message, says that the lake's catalog could not be reached or let us in."""
    return CATALOG_AWAY.search(str(error)) is not None


def is_store_away(error: object) -> bool:
    """Whether an error, or a message, says that the object store did not do what DuckDB asked of it."""
    return STORE_AWAY.search(str(error)) is not None


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """A connection of its own to the lake, which is made if it does not exist.

    WarehouseError if it cannot be opened; a conflict with another process stays DuckDB's own error.
    """
    connection = duckdb.connect(":memory:")
    try:
        prepare(connection, settings)
        connection.execute(f"attach 'ducklake:{NAME}' as {NAME}")
        connection.execute(f"use {NAME}")
    except BaseException as error:
        connection.close()
        if is_catalog_away(error):
            raise catalog_error(error) from None
        if isinstance(error, duckdb.Error) and not is_conflict(error):
            raise WarehouseError(
                f"the lake could not be opened; the batches stay pending. DuckDB says: {error}"
            ) from None
        raise
    return connection


def catalog_error(error: object) -> WarehouseError:
    """The lake's catalog is away, in one message; Postgres never repeats a password in its own."""
    return WarehouseError(
        f"the lake's catalog could not be opened; look at BATON_LAKE_CATALOG and at its Postgres. The batches stay "
        f"pending. Postgres says: {str(error).strip()}"
    )


def prepare(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Loads the extensions and makes the secrets that the settings ask for; nothing for one machine's folders."""
    places = [str(settings.landing_root)]
    if settings.on_lake:
        catalog, data = settings.lake
        places.append(data)
        load(connection, "postgres_scanner", "ducklake")
        make_secret(connection, f"{NAME}_catalog", "postgres", **postgres_parts(catalog))
        parameters = f"map {{'TYPE': 'postgres', 'SECRET': '{NAME}_catalog'}}"
        connection.execute(
            f"create secret {NAME} (type ducklake, metadata_path '', data_path {quoted(data)}, "
            f"metadata_parameters {parameters})"
        )
    if any(place.startswith("s3://") for place in places):
        load(connection, "httpfs")
        # A store that is busy (503) is asked again for 8.6 seconds; with the default of 3 times for half a second.
        connection.execute("set global http_retries = 5")
        make_secret(connection, "object_store", "s3", **s3_parts(os.environ.get("AWS_ENDPOINT_URL")))


def s3_parts(endpoint: str | None) -> dict[str, str]:
    """The environment that boto3 and s3fs read, in DuckDB's words."""
    parts = {
        "key_id": os.environ.get("AWS_ACCESS_KEY_ID", ""),
        "secret": os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        "session_token": os.environ.get("AWS_SESSION_TOKEN", ""),
        "region": os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or "us-east-1",
    }
    if endpoint:
        url = urlsplit(endpoint)
        parts |= {"endpoint": url.netloc, "url_style": "path", "use_ssl": str(url.scheme == "https").lower()}
    return parts


def postgres_parts(url: str) -> dict[str, str]:
    """A postgresql:// URL in DuckDB's words. libpq reads PGSSLMODE and its like by itself."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname or "127.0.0.1",
        "port": str(parts.port or 5432),
        "database": parts.path.lstrip("/"),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
    }


def maintain(connection: duckdb.DuckDBPyConnection, days: float, pinned: Collection[int]) -> None:
    """Rows that are still in the catalog become files, small files larger ones, and old snapshots are forgotten.

    Those that published views read, `pinned`, stay. Queries that began on a snapshot which is forgotten here fail, so
    give them the days that they may take.
    """
    before = f"now() - interval '{round(days * 86400)} seconds'"
    connection.execute(f"call ducklake_flush_inlined_data('{NAME}')")
    connection.execute(f"call ducklake_merge_adjacent_files('{NAME}')")
    snapshots = connection.execute(
        f"select snapshot_id, snapshot_time < {before} from ducklake_snapshots('{NAME}') order by snapshot_id"
    ).fetchall()
    # The newest is the lake itself.
    expired = [snapshot for snapshot, is_old in snapshots[:-1] if is_old and snapshot not in pinned]
    if expired:
        connection.execute(f"call ducklake_expire_snapshots('{NAME}', versions => {expired})")
    connection.execute(f"call ducklake_cleanup_old_files('{NAME}', older_than => {before})")


def make_secret(connection: duckdb.DuckDBPyConnection, name: str, kind: str, **parts: str) -> None:
    """A secret that lives as long as the connection's database; empty parts are left out."""
    given = ", ".join(f"{part} {quoted(value)}" for part, value in parts.items() if value)
    connection.execute(f"create secret {name} (type {kind}, {given})")


def quoted(text: str) -> str:
    """As an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
