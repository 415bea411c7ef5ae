"""The systems that are measured, behind one plain interface.

`start(folder)` runs in a keeper and answers what is needed to talk to the system; `hand_off(ready, folder, variant,
seconds)` runs in the benchmark, makes the system do one chain and answers its moments, in seconds since 1970:

    event       the extract says that it is done (Airflow, Dagster: when that has been recorded)
    created     the run of the transform exists
    taken       a worker or executor has it
    first_line  of the transform's own code
    queryable   dbt build is done and its data can be read (ours: and checked, and in the ledger)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.handoff import airflow, dagster, ours, stock

STAGES = ("event", "created", "taken", "first_line", "queryable")


@dataclass(frozen=True)
class System:
    """One system: how to start it, how to make it chain, and which chainings it has."""

    variants: tuple[str, ...]
    start: Callable[[Path], dict[str, Any]]
    hand_off: Callable[[dict[str, Any], Path, str, float], dict[str, float]]
    venv: str | None = None


SYSTEMS = {
    "ours": System(tuple(ours.RUNS), ours.start, ours.hand_off),
    "stock": System(("stock Prefect",), partial(stock.start, worker_seconds=None), stock.hand_off),
    "stock-tuned": System(("stock Prefect tuned",), partial(stock.start, worker_seconds=1), stock.hand_off),
    "airflow": System(("Airflow tuned",), airflow.start, airflow.hand_off, "airflow"),
    "airflow-preloaded": System(
        ("Airflow, dbt preloaded",), partial(airflow.start, preload=True), airflow.hand_off, "airflow"
    ),
    "dagster": System(("Dagster tuned",), dagster.start, dagster.hand_off, "dagster"),
}
