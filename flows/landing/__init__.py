"""Records -> immutable batches, in a folder or in an object store. Knows nothing of Prefect and of DuckDB."""
