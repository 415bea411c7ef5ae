"""Airflow 3.3: one DAG updates an asset, the asset starts the other; LocalExecutor, tuned.

What was set, and why, is in SETTINGS. Its metadata are in Postgres where one answers on 127.0.0.1:5432, else SQLite.
"""

import json
import os
import subprocess
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.handoff import environments, venvs
from flows.settings import PROJECT
from stack.local.processes import answers, free_port, wait_until
from stack.local.processes import start as start_process

SETTINGS = {
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__PARALLELISM": "4",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    # The scheduler looks for work again after 0.1 s, not 1 s.
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
    # The DAG file does not change: it is parsed once, not every 30 s.
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
    "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    # One API server process is enough for one task at a time; more would only cost memory.
    "API__WORKERS": "1",
    "LOGGING__LOGGING_LEVEL": "WARNING",
}
PRELOAD = "import dbt.cli.main\nimport dbt.adapters.duckdb\nimport duckdb\n"


def start(folder: Path, preload: bool = False) -> dict[str, Any]:
    """API server, scheduler (with its LocalExecutor) and DAG processor; no triggerer, as nothing is deferred."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    database, also = metadata_database(folder.name, home)
    settings = SETTINGS | {
        "CORE__DAGS_FOLDER": str(PROJECT / "benchmarks" / "handoff" / "airflow_dags"),
        "CORE__EXECUTION_API_SERVER_URL": f"{base}/execution/",
        "API_AUTH__JWT_SECRET": "for-the-benchmark-on-loopback-only-0123456789abcdef0123456789abcdef",
        "API__SECRET_KEY": "for-the-benchmark-on-loopback-only",
        "API__BASE_URL": base,
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "DATABASE__SQL_ALCHEMY_CONN": database,
    }
    environment = (
        environments.of(folder)
        | {"AIRFLOW_HOME": str(home)}
        | {f"AIRFLOW__{name}": value for name, value in settings.items()}
    )
    environments.build_whole_project(environment)
    airflow = [str(venvs.folder("airflow") / "bin" / "python"), "-m", "airflow"]
    done = subprocess.run([*airflow, "db", "migrate"], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"airflow db migrate: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    start_process(
        "api-server",
        [*airflow, "api-server", "--port", str(port)],
        folder,
        environment,
        ready=lambda: answers(f"{base}/api/v2/version"),
        seconds=180,
    )
    start_process("dag-processor", [*airflow, "dag-processor"], folder, environment)
    scheduler = environment
    if preload:  # The scheduler imports it at its start, and its executor's processes are forked from it.
        (home / "preload").mkdir(exist_ok=True)
        (home / "preload" / "airflow_local_settings.py").write_text(PRELOAD)
        scheduler = environment | {"PYTHONPATH": f"{environment['PYTHONPATH']}:{home / 'preload'}"}
    start_process("scheduler", [*airflow, "scheduler", "--skip-serve-logs"], folder, scheduler)
    ready = {"base": base, "database": database.partition(":")[0], "also": also}
    wait_until(lambda: has_dags(ready), "Airflow's DAGs", 180, every=1)
    return ready


def metadata_database(name: str, home: Path) -> tuple[str, list[int]]:
    """SQLAlchemy's address of an empty database, and the processes that serve it besides Airflow's own."""
    script = f"{drop(name)}; c.execute('create database {database(name)}'); c.execute('show data_directory'); "
    script += "print(c.fetchone()[0])"
    python = str(venvs.folder("airflow") / "bin" / "python")
    done = subprocess.run([python, "-c", script], capture_output=True, text=True)
    if done.returncode or os.environ.get("BENCH_AIRFLOW_SQLITE"):
        return f"sqlite:///{home}/airflow.db", []
    postmaster = Path(done.stdout.strip()) / "postmaster.pid"
    return f"postgresql+psycopg2://root@127.0.0.1:5432/{database(name)}", [int(postmaster.read_text().splitlines()[0])]


def database(system: str) -> str:
    """The name of its database."""
    return "baton_benchmark_" + system.replace("-", "_")


def drop(system: str) -> str:
    """Python, for Airflow's own interpreter, that drops the database and goes on with a cursor `c`."""
    return (
        "import psycopg2; c = psycopg2.connect('host=127.0.0.1 user=root dbname=postgres'); c.autocommit = True; "
        f"c = c.cursor(); c.execute('drop database if exists {database(system)} with (force)')"
    )


def drop_database(system: str) -> None:
    """What would be left after the end, if it is in Postgres."""
    subprocess.run([str(venvs.folder("airflow") / "bin" / "python"), "-c", drop(system)], capture_output=True)


def call(ready: dict[str, Any], method: str, path: str, body: object = None) -> Any:
    """The REST API."""
    if "token" not in ready:
        with urllib.request.urlopen(f"{ready['base']}/auth/token", timeout=10) as response:
            ready["token"] = json.load(response)["access_token"]
    request = urllib.request.Request(
        f"{ready['base']}/api/v2{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {ready['token']}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def has_dags(ready: dict[str, Any]) -> bool:
    """Whether both DAGs have been parsed."""
    return {dag["dag_id"] for dag in call(ready, "GET", "/dags")["dags"]} == {"extract", "transform"}


def hand_off(ready: dict[str, Any], folder: Path, variant: str, seconds: float) -> dict[str, float]:
    """One run of extract, one of transform."""
    stamps = environments.Stamps(folder)
    asked = time.time()
    call(ready, "POST", "/dags/extract/dagRuns", {"logical_date": None})
    moments = stamps.until("queryable", variant, seconds)

    def run() -> dict[str, Any]:
        runs = call(ready, "GET", "/dags/transform/dagRuns?order_by=-run_after&limit=1")["dag_runs"]
        return runs[0] if runs and moment(runs[0]["queued_at"]) >= asked else {}

    wait_until(lambda: run().get("state") == "success", f"{variant}: a transform", seconds, every=1)
    found = run()
    (task,) = call(ready, "GET", f"/dags/transform/dagRuns/{found['dag_run_id']}/taskInstances")["task_instances"]
    (event,) = call(ready, "GET", f"/dags/transform/dagRuns/{found['dag_run_id']}/upstreamAssetEvents")["asset_events"]
    return moments | {
        "event": moment(event["timestamp"]),
        "created": moment(found["queued_at"]),
        "taken": moment(task["queued_when"]),
    }


def moment(text: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()
