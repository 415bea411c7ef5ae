"""dbt-duckdb loads this (dbt/profiles.yml): dbt's connections get what the ledger's have."""

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from flows import lake
from flows.settings import Settings


class Plugin(BasePlugin):
    """Extensions and secrets by the environment, see `flows.lake`."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Before the databases are attached."""
        lake.prepare(conn, Settings())

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """So that `ops.ledger` means the lake's."""
        if Settings().on_lake:
            cursor.execute(f"use {lake.NAME}")
