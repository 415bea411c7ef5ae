"""What flow runs with prefect-dbt and dbt-duckdb import, for the prefork engine to have imported."""

import dbt.adapters.duckdb.environments.local
import dbt.cli.main
import dbt.parser.sql
import dbt.task.build
import dbt_common.clients.agate_helper
import duckdb
import prefect_dbt
import requests

# The connection that importing duckdb opens has a thread; whoever uses it next gets a new one.
duckdb.default_connection().close()
