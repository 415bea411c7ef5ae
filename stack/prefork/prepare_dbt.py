"""What flow runs with prefect-dbt and dbt-duckdb import, for the prefork engine to have imported."""

import dbt.adapters.duckdb
import dbt.cli.main  # noqa: F401
import duckdb
import prefect_dbt  # noqa: F401
import requests  # noqa: F401

# The connection that importing duckdb opens has a thread; whoever uses it next gets a new one.
duckdb.default_connection().close()
