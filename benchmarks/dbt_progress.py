"""What it costs that a dbt run says how far it is: `python benchmarks/dbt_progress.py [--nodes 900] [--rounds 5]`.

Builds a project of so many small models in turns: with a listener to dbt's events, a line every ten seconds and a last
one, as the transform does, and without. CPU seconds of the process count, because other processes of the machine change
the time on the clock. One more build times the listener itself. Writes results/dbt_progress.json.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import prefect_dbt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from flows.processing.dbt_runs import run_dbt  # noqa: E402
from flows.processing.result import TransformRun  # noqa: E402
from flows.settings import Settings  # noqa: E402
from flows.warehouse import dbt  # noqa: E402
from flows.warehouse.progress import Progress  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "dbt_progress.json"
RUNNER = prefect_dbt.PrefectDbtRunner
PROJECT = "name: many\nversion: 1.0.0\nprofile: many\nflags: {send_anonymous_usage_stats: false}\n"
PROFILES = "many:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: ':memory:', threads: 2}\n"


def make_project(folder: Path, nodes: int) -> None:
    """As many models as nodes, each with the one ten before it as its parent."""
    (folder / "models").mkdir()
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "profiles.yml").write_text(PROFILES)
    for number in range(nodes):
        parent = f" from {{{{ ref('m{number - 10}') }}}}" if number >= 10 else ""
        (folder / "models" / f"m{number}.sql").write_text(f"select {number} as n{parent}")


def without_listener(**options: Any) -> Any:
    """prefect-dbt's runner as it is without ours: in an empty context it listens to nothing."""
    del options["_force_nodes_as_tasks"]
    return RUNNER(**options)


def silent(settings: Settings) -> None:
    """One build that says nothing."""
    prefect_dbt.PrefectDbtRunner = without_listener
    try:
        dbt.run_dbt(["build"], settings)
    finally:
        prefect_dbt.PrefectDbtRunner = RUNNER


def listening_seconds(build: Callable[[], object]) -> float:
    """What dbt's threads spend in the listener while the build runs, by the processor's time."""
    spent: list[float] = []
    hear = Progress.on_event

    def timed(progress: Progress, event: Any) -> None:
        before = time.thread_time()
        hear(progress, event)
        spent.append(time.thread_time() - before)

    setattr(Progress, "on_event", timed)  # noqa: B010 (mypy refuses the assignment)
    try:
        build()
    finally:
        setattr(Progress, "on_event", hear)  # noqa: B010
    return sum(spent)


def cpu_seconds(build: Callable[[], object]) -> float:
    """Of this process, in all its threads."""
    before = time.process_time()
    build()
    return time.process_time() - before


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"DBT_TARGET_PATH": str(folder / "target"), "DBT_LOG_PATH": str(folder / "logs")}
        make_project(folder, given.nodes)
        settings = Settings(dbt_project=folder, warehouse=folder / "warehouse.duckdb")
        run = TransformRun(str(uuid4()), datetime.now(UTC), logging.getLogger("baton"))
        silent(settings)  # The first build compiles what every later one needs.
        with_, without = [], []
        for _ in range(given.rounds):
            without.append(cpu_seconds(lambda: silent(settings)))
            with_.append(cpu_seconds(lambda: run_dbt(["build"], settings, run)))
        listening = listening_seconds(lambda: run_dbt(["build"], settings, run))
    result = {
        "nodes": given.nodes,
        "cpu_seconds_without": [round(seconds, 2) for seconds in without],
        "cpu_seconds_with": [round(seconds, 2) for seconds in with_],
        "cpu_seconds_in_the_listener": round(listening, 3),
        "cost_percent": round(100 * (statistics.median(with_) / statistics.median(without) - 1), 1),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
