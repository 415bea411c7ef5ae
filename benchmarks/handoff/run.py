"""Measures hand-offs, idle cost, memory and bursts of the systems, interleaved, one system moving at a time."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.handoff import accounting, airflow, venvs
from benchmarks.handoff.running import Running, settle, start
from benchmarks.handoff.systems import SYSTEMS
from flows.landing.batch import list_batches
from flows.processing.record import build_arguments
from stack.local.processes import stop_all
from stack.local.up import start_sample_api

LONGEST = 240.0
"""Seconds that a hand-off may take before the benchmark gives up on it."""
CALM = 2.0
"""Seconds that a system has, after it was held still, for what it finds overdue; the same for all."""


def environment(folder: Path) -> dict[str, str]:
    """What every keeper is started with: one sample API and one dbt command for all."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "BATON_", "DBT_", "AIRFLOW_", "DAGSTER_"))
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    (folder / "sample-api").mkdir(parents=True)
    api = start_sample_api(folder / "sample-api", clean)
    (folder / "sample-api" / "url").write_text(api)
    return clean | {"BATON_API_URLS": json.dumps({"dummyjson": api}), "BENCH_DBT": json.dumps(dbt_arguments())}


def sample_api(folder: Path) -> str:
    """The URL of the API that all systems read."""
    return (folder / "sample-api" / "url").read_text()


def dbt_arguments() -> list[str]:
    """What ours builds after an event of one batch; the others are given the same."""
    return build_arguments(["dummyjson.products"], everything=False)


@contextmanager
def started(names: Sequence[str], folder: Path, say: Callable[[str], None]) -> Iterator[list[Running]]:
    """The systems, each up, warmed by a hand-off of each kind, and held still."""
    for name in names:
        if (venv := SYSTEMS[name].venv) is not None:
            venvs.make(venv)
    with ExitStack() as stack:
        stack.callback(stop_all, folder / "sample-api")
        shared = environment(folder)
        every: list[Running] = []
        try:
            for name in names:
                say(f"starting {name}")
                if SYSTEMS[name].venv == "airflow":
                    stack.callback(airflow.drop_database, name)
                running = start(name, folder / name, shared)
                every.append(running)
                stack.callback(running.stop)
                for variant in running.system.variants:
                    say(f"  warming {variant}: {describe(hand_off(running, variant))}")
                running.pause()
            yield every
        finally:
            for running in every:  # All at once; then each is waited for.
                running.end()


def hand_off(running: Running, variant: str) -> dict[str, float]:
    """One hand-off; its moments, and CPU seconds and duration from before it was asked for until it had settled."""
    processes = running.processes()
    cpu, began = running.cpu_seconds(), time.time()
    moments = running.system.hand_off(running.ready, running.folder, variant, LONGEST)
    settle(running, processes)
    return moments | {"cpu": running.cpu_seconds() - cpu, "seconds": time.time() - began}


@contextmanager
def turn(running: Running) -> Iterator[None]:
    """Lets one system go on for as long as the block runs."""
    running.resume()
    time.sleep(CALM)
    try:
        yield
    finally:
        running.pause()


def rounds(systems: Sequence[Running], number: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Hand-offs of every variant in turn, A B C ... A B C ...; one row each."""
    rows = []
    for position in range(number):
        for running in systems:
            for variant in running.system.variants:
                with turn(running):
                    moments = hand_off(running, variant)
                check(running)
                rows.append({"round": position, "system": running.name, "variant": variant, **moments})
                say(f"round {position + 1} of {number}: {variant}: {describe(moments)}")
    return rows


def check(running: Running) -> None:
    """Error unless every landed batch is in the warehouse, and the marts show the newest one."""
    batches = [batch.batch_id for batch in list_batches(running.folder / "landing")]
    with duckdb.connect(str(running.folder / "warehouse.duckdb"), read_only=True) as warehouse:
        held = warehouse.sql("select distinct _batch_id from base.base_dummyjson__products order by 1").fetchall()
        shown = warehouse.sql("select distinct _batch_id from marts.dim_products").fetchall()
    if held != [(batch_id,) for batch_id in sorted(batches)] or shown != held[-1:]:
        raise RuntimeError(f"{running.name}: landed {sorted(batches)}, in the warehouse {held}, in the marts {shown}")


def idle(systems: Sequence[Running], seconds: float) -> dict[str, dict[str, float]]:
    """CPU of each system that nobody asks for anything, in shares of one core; all at the same time."""
    with ExitStack() as stack:
        for running in systems:
            stack.enter_context(turn(running))
        time.sleep(2 * CALM)
        before = {running.name: (running.cpu_seconds(), time.monotonic()) for running in systems}
        time.sleep(seconds)
        found = {}
        for running in systems:
            cpu, began = before[running.name]
            passed = time.monotonic() - began
            cores = (running.cpu_seconds() - cpu) / passed
            found[running.name] = {"cores": cores, "seconds": passed, "processes": running.processes()}
        return found


def memory(running: Running) -> dict[str, float]:
    """MB at rest, and the most during one hand-off that is not timed; all processes of the system."""
    with turn(running):
        at_rest = running.memory_mb()
        with accounting.watching_memory(running.roots) as peak:
            hand_off(running, running.system.variants[0])
    return {"at_rest_mb": at_rest, "peak_mb": max(at_rest, peak.mb)}


def describe(moments: dict[str, float]) -> str:
    """For the person who watches."""
    return (
        f"first line {moments['first_line'] - moments['event']:.2f} s, "
        f"queryable {moments['queryable'] - moments['event']:.2f} s, {moments['cpu']:.2f} CPU s"
    )
