"""The demo: the three chainings one after the other on a stack of its own, and a table of what was measured."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun

from flows import ledger
from flows.events import Handoff
from flows.landing import landed
from stack.local import Stack, client, start_stack
from stack.processes import StackError, free_port, stop_all, wait_until

SECONDS = 120.0
"""What one chaining may take before the demo gives up on it."""


@dataclass(frozen=True)
class Chaining:
    """One of the three ways, and how to see that it was this way that worked."""

    name: str
    deployment: str
    handoff: Handoff
    started_by: str


CHAININGS = (
    Chaining("triggered", "extract/dummyjson-products", "event", "automation transform_when_extract_finishes"),
    Chaining("imperative", "orchestrate/dummyjson", "caller", "parent run of orchestrate"),
    Chaining("launch-and-leave", "extract/dummyjson-products-launch", "deployment", "parent run of extract"),
)


@dataclass(frozen=True)
class Outcome:
    """What one chaining did: seconds as measured by the runs themselves and the ledger."""

    chaining: Chaining
    started_by: str
    extract_seconds: float
    handoff_seconds: float
    dbt_seconds: float
    total_seconds: float
    rows_landed: int
    rows_in_mart: int
    faults: tuple[str, ...]


def demo(api: str | None) -> int:
    """Runs everything and prints it; 0 only if every number was as it must be."""
    folder = Path(tempfile.mkdtemp(prefix="baton-demo-"))
    kept = False
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    try:
        stack = start_stack(folder, api=api, port=free_port(), schedules=False, say=say)
        outcomes = [run_chaining(stack, chaining, say) for chaining in CHAININGS]
        print(f"\n{table(outcomes)}\n\n{first_rows(stack)}\n")
        for outcome in outcomes:
            for fault in outcome.faults:
                print(f"FAULT  {outcome.chaining.name}: {fault}")
        faults = sum(len(outcome.faults) for outcome in outcomes)
        print(f"{len(outcomes)} chainings, {faults} faults, {time.monotonic() - began:.0f} seconds")
        return 1 if faults else 0
    except StackError as error:
        kept = True
        print(f"the demo could not be run: {error}\nThe logs are kept in {folder}")
        return 1
    finally:
        stop_all(folder)
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def run_chaining(stack: Stack, chaining: Chaining, say: Callable[[str], None]) -> Outcome:
    """Starts the first run of a chaining and looks on until a transform of it has ended."""
    known_batches = set(landed(stack.landing))
    known_transforms = {run.id for run in runs_of(stack, "transform")}
    say(f"{chaining.name}: {chaining.deployment}")
    with client(stack) as api:
        deployment = api.read_deployment_by_name(chaining.deployment)
        first = api.create_flow_run_from_deployment(deployment.id)
    follow(stack, lambda: [read_run(stack, first.id)], say)
    follow(stack, lambda: [run for run in runs_of(stack, "transform") if run.id not in known_transforms], say)
    new_batches = set(landed(stack.landing)) - known_batches
    new_transforms = [run for run in runs_of(stack, "transform") if run.id not in known_transforms]
    faults = []
    if len(new_batches) != 1:
        raise StackError(f"{chaining.name}: expected one new batch, found {len(new_batches)}")
    if len(new_transforms) != 1:
        faults.append(f"expected one transform run, found {len(new_transforms)}")
    return measure(stack, chaining, new_batches.pop().batch_id, new_transforms[0], faults)


def follow(stack: Stack, runs: Callable[[], Sequence[FlowRun]], say: Callable[[str], None]) -> None:
    """Says each change of state of the runs until there are some and all have ended; StackError if one failed."""
    said: dict[UUID, str | None] = {}

    def ended() -> bool:
        found = runs()
        for run in found:
            state = run.state.name if run.state else "new"
            if said.get(run.id) != state:
                said[run.id] = state
                say(f"  {run.name}: {state}")
            if run.state and run.state.is_final() and not run.state.is_completed():
                raise StackError(f"{run.name} ended as {run.state.name}: {run.state.message}")
        return bool(found) and all(run.state and run.state.is_final() for run in found)

    wait_until(ended, "a run to end", SECONDS, every=0.25)


def measure(stack: Stack, chaining: Chaining, batch_id: str, run: FlowRun, faults: list[str]) -> Outcome:
    """Reads the ledger's row of the batch and holds it against everything else that is known of it."""
    with ledger.opened(stack.warehouse, 10, read_only=True) as warehouse:
        row = warehouse.execute(
            "select rows, handoff, extract_flow_run_id, transform_flow_run_id, event_at, started_at, processed_at "
            "from ops.ledger where batch_id = ?",
            [batch_id],
        ).fetchone()
        in_mart = warehouse.sql("select count(*) from marts.dim_products").fetchall()[0][0]
    if row is None:
        raise StackError(f"{chaining.name}: batch {batch_id} is not in the ledger")
    rows, handoff, extract_id, transform_id, event_at, started_at, processed_at = row
    extract = read_run(stack, extract_id)
    started_by = who_started(stack, run)
    expectations: dict[str, tuple[Any, Any]] = {
        "started by": (chaining.started_by, started_by),
        "hand-off": (chaining.handoff, handoff),
        "rows in dim_products": (rows, in_mart),
        "run in the ledger": (run.id, transform_id),
    }
    if chaining.handoff != "caller":
        expectations["batch in the run's parameters"] = (batch_id, run.parameters.get("batch_id"))
    faults += [f"{what}: expected {want}, found {got}" for what, (want, got) in expectations.items() if want != got]
    return Outcome(
        chaining=chaining,
        started_by=started_by,
        extract_seconds=extract.total_run_time.total_seconds(),
        handoff_seconds=seconds(event_at, started_at),
        dbt_seconds=seconds(started_at, processed_at),
        total_seconds=seconds(extract.start_time, processed_at),
        rows_landed=rows,
        rows_in_mart=in_mart,
        faults=tuple(faults),
    )


def who_started(stack: Stack, run: FlowRun) -> str:
    """Whoever created the run: an automation, another run, or somebody else."""
    if run.parent_task_run_id:
        with client(stack) as api:
            task = api.read_task_run(run.parent_task_run_id)
            flow_id = read_run(stack, task.flow_run_id).flow_id if task.flow_run_id else None
            return f"parent run of {api.read_flow(flow_id).name}" if flow_id else "a task without a run"
    if run.created_by and run.created_by.type == "AUTOMATION":
        return f"automation {run.created_by.display_value}"
    return "somebody else"


def runs_of(stack: Stack, flow: str) -> list[FlowRun]:
    """Every run of a flow that the server knows, scheduled ones left out."""
    with client(stack) as api:
        runs = api.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
    return [run for run in runs if not run.auto_scheduled]


def read_run(stack: Stack, run_id: UUID) -> FlowRun:
    """One flow run as the server has it now."""
    with client(stack) as api:
        return api.read_flow_run(run_id)


def seconds(start: datetime | None, end: datetime | None) -> float:
    """From start to end; not a number where one of them is not known."""
    return (end - start).total_seconds() if start and end else float("nan")


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes, a line each, in columns."""
    head = ("chaining", "transform started by", "extract s", "event to", "dbt and", "total s", "rows", "rows in")
    under = ("", "", "", "1st line s", "ledger s", "", "landed", "dim_products")
    lines = [
        (
            o.chaining.name,
            o.started_by,
            f"{o.extract_seconds:.2f}",
            f"{o.handoff_seconds:.2f}",
            f"{o.dbt_seconds:.2f}",
            f"{o.total_seconds:.2f}",
            str(o.rows_landed),
            str(o.rows_in_mart),
        )
        for o in outcomes
    ]
    return in_columns([head, under, *lines], left=2)


def first_rows(stack: Stack) -> str:
    """The first rows of a mart, as anybody would query it."""
    with duckdb.connect(str(stack.warehouse), read_only=True) as warehouse:
        mart = warehouse.sql("from marts.category_summary limit 5")
        rows = [tuple(mart.columns), *(tuple(str(value) for value in row) for row in mart.fetchall())]
    return "from marts.category_summary limit 5\n" + in_columns(rows, left=1)


def in_columns(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows as aligned text, a rule under the header; the first `left` columns flush left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
