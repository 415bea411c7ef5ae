"""Imports and sets up, once in the prefork engine, what flow runs with prefect-dbt and dbt-duckdb need.

The first dbt invocation of a process generates and compiles several hundred functions for dbt's data structures. A
small project triggers that here, so that a flow run starts with the second invocation.
"""

import contextlib
import gc
import os
import tempfile
from multiprocessing import resource_tracker
from pathlib import Path

import asyncpg
import cronsim
import dbt_common.clients.agate_helper
import duckdb
import prefect_dbt
import requests
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.factory import FACTORY
from dbt.cli.main import dbtRunner

PROJECT = {
    "dbt_project.yml": "{name: warm_up, profile: warm_up, flags: {send_anonymous_usage_stats: false}}",
    "profiles.yml": "warm_up: {target: dev, outputs: {dev: {type: duckdb, path: ':memory:', threads: 2}}}",
    "models/as_table.sql": "{{ config(materialized='table') }} select 1 as id",
    "models/as_view.sql": "{{ config(materialized='view') }} select id from {{ ref('as_table') }}",
    "models/as_incremental.sql": "{{ config(materialized='incremental') }} select id from {{ ref('as_view') }}",
    "models/models.yml": """
models:
- name: as_table
  config: {contract: {enforced: true}}
  columns: [{name: id, data_type: integer, data_tests: [not_null, unique]}]
sources: [{name: source, tables: [{name: table, columns: [{name: id}]}]}]
exposures: [{name: exposure, type: dashboard, owner: {name: none}, depends_on: [ref('as_view')]}]
""",
    "tests/assert_true.sql": "select id from {{ ref('as_incremental') }} where id <> 1",
}


def warm_up(folder: Path) -> None:
    """Parses and builds the project; RuntimeError if dbt fails."""
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    # dbt's static parser starts threads that do not end, and its log file would stay open.
    flags = ["--quiet", "--no-static-parser", "--log-level-file", "none", "--project-dir", ".", "--profiles-dir", "."]
    with contextlib.chdir(folder):
        for command in ("parse", "build"):
            result = dbtRunner().invoke([command, *flags])
            if not result.success:
                raise RuntimeError(f"dbt {command}: {result.exception or result.result}")
    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
        DuckDBConnectionManager._ENV = None
    # The locks of dbt's adapter started a resource tracker process; forks would write to a pipe that they do not have.
    FACTORY.adapters.clear()
    gc.collect()
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


for name in [name for name in os.environ if name.startswith("DBT_")]:
    del os.environ[name]  # Of the runs' project, not of this one; each run brings its own.
with tempfile.TemporaryDirectory() as folder:
    warm_up(Path(folder))
# The default connection of duckdb has a thread; its next user gets a new one.
duckdb.default_connection().close()
