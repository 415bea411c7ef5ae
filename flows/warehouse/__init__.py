"""The DuckDB file or the DuckLake: connections, the ledger, dbt."""
