"""dbt-duckdb loads this (dbt/profiles.yml): dbt's connections get what the ledger's have."""

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from flows.settings import Settings
from flows.warehouse import ducklake


class Plugin(BasePlugin):
    """Extensions and secrets by the environment, see `flows.warehouse.ducklake`."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Before the databases are attached."""
        ducklake.prepare(conn, Settings())

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """So that `ops.ledger` means the lake's."""
        if Settings().on_lake:
            cursor.execute(f"use {ducklake.NAME}")
