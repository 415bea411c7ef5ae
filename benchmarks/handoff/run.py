"""Measures hand-offs, idle cost, memory and bursts of the systems, interleaved, one system moving at a time."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.handoff import accounting, airflow, venvs
from benchmarks.handoff.running import Running, settle, start
from benchmarks.handoff.systems import SYSTEMS
from flows.landing import Batch
from flows.processing import processing_arguments
from stack.local import start_sample_api
from stack.processes import stop_all

LONGEST = 240.0
"""Seconds that a hand-off may take before the benchmark gives up on it."""
CALM = 4.0
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
    batch = Batch(Path(), "dummyjson.products", "20260101T000000Z-000000000000")
    return processing_arguments([batch], everything=False)


@contextmanager
def started(names: Sequence[str], folder: Path, say: Callable[[str], None]) -> Iterator[list[Running]]:
    """The systems, each up, warmed by two hand-offs a variant, and held still."""
    for name in names:
        if (venv := SYSTEMS[name].venv) is not None:
            venvs.make(venv)
    with ExitStack() as stack:
        stack.callback(stop_all, folder / "sample-api")
        shared = environment(folder)
        every = []
        for name in names:
            say(f"starting {name}")
            running = start(name, folder / name, shared)
            stack.callback(running.stop)
            if name == "airflow":
                stack.callback(airflow.drop_database)
            for variant in running.system.variants:
                for _ in range(2):
                    moments = hand_off(running, variant)
                    say(f"  warming {variant}: {describe(moments)}")
            running.pause()
            every.append(running)
        yield every


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
                rows.append({"round": position, "system": running.name, "variant": variant, **moments})
                say(f"round {position + 1} of {number}: {variant}: {describe(moments)}")
    return rows


def idle(running: Running, seconds: float) -> dict[str, float]:
    """CPU of a system that nobody asks for anything, in shares of one core."""
    with turn(running):
        time.sleep(CALM)
        cpu, began = running.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        return {"cores": (running.cpu_seconds() - cpu) / passed, "seconds": passed, "processes": running.processes()}


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
