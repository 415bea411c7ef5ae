"""The demo: the three chainings one after the other on a stack of its own, and tables of what was measured and checked.

The imperative chaining runs all three sources, so at the end a question that needs all of them can be asked.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
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
from flows.landing import Batch, landed
from stack.local import client, start_stack
from stack.processes import StackError, free_port, stop_all, wait_until
from stack.profiles import Stack, named

SECONDS = 120.0
"""What one chaining may take before the demo gives up on it."""


@dataclass(frozen=True)
class Chaining:
    """One of the three ways, and how to see that it was this way that worked."""

    name: str
    deployment: str
    handoff: Handoff
    started_by: str
    sources: tuple[str, ...] = ("dummyjson.products",)


MARTS = {
    "dummyjson.products": ("dim_products", "product_id"),
    "dummyjson.carts": ("fct_cart_items", "cart_id"),
    "dummyjson.users": ("dim_users", "user_id"),
}
"""Source -> the mart that has its current records, and the column that tells them apart."""

CHAININGS = (
    Chaining("triggered", "extract/dummyjson-products", "event", "automation transform_when_extract_finishes"),
    Chaining("imperative", "orchestrate/dummyjson", "caller", "parent run of orchestrate", tuple(MARTS)),
    Chaining("launch-and-leave", "extract/dummyjson-products-launch", "deployment", "parent run of extract"),
)

JOINED = """
from marts.fct_cart_items
join marts.dim_products using (product_id)
join marts.dim_users using (user_id)
"""
BEST_SELLING = f"""
select category, count(distinct cart_id) as carts, round(avg(age))::int as average_age, sum(quantity)::int as units,
    sum(discounted_total) as revenue {JOINED}
group by category order by revenue desc limit 5
"""


@dataclass(frozen=True)
class Outcome:
    """What one chaining did: seconds as measured by the runs themselves and the ledger.

    Of several extracts side by side the slowest counts, and the event that came last.
    """

    chaining: Chaining
    started_by: str
    extract_seconds: float
    handoff_seconds: float
    dbt_seconds: float
    total_seconds: float
    rows_landed: int
    rows_in_marts: int
    faults: tuple[str, ...]


def demo(profile: str, api: str | None) -> int:
    """Runs everything and prints it; 0 only if every number was as it must be."""
    folder = Path(tempfile.mkdtemp(prefix="baton-demo-"))
    kept = False
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    try:
        stack = start_stack(folder, profile=profile, api=api, port=free_port(), schedules=False, say=say)
        # The key of the object store, for what this process itself reads there.
        os.environ |= {name: value for name, value in stack.environment.items() if name.startswith("AWS_")}
        outcomes = [run_chaining(stack, chaining, say) for chaining in CHAININGS]
        counts = [count(stack, source) for source in MARTS]
        print(f"\n{table(outcomes)}\n\n{table_of_counts(counts)}\n\n{best_selling(stack)}\n")
        faults = [f"{outcome.chaining.name}: {fault}" for outcome in outcomes for fault in outcome.faults]
        faults += [fault for counted in counts for fault in counted.faults()] + faults_of_the_join(stack)
        for fault in faults:
            print(f"FAULT  {fault}")
        print(f"{len(outcomes)} chainings, {len(faults)} faults, {time.monotonic() - began:.0f} seconds")
        return 1 if faults else 0
    except StackError as error:
        kept = True
        print(f"the demo could not be run: {error}\nThe logs are kept in {folder}")
        return 1
    finally:
        stop_all(folder)
        try:
            named(profile).remove(folder)
        except StackError as error:
            print(f"nothing was cleaned up: {error}")
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def warehouse_of(stack: Stack) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """A connection to the stack's warehouse, to read."""
    return ledger.opened(stack.settings, read_only=True)


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
    if sorted(batch.source for batch in new_batches) != sorted(chaining.sources):
        raise StackError(f"{chaining.name}: expected a batch each of {chaining.sources}, found {new_batches}")
    if len(new_transforms) != 1:
        faults.append(f"expected one transform run, found {len(new_transforms)}")
    return measure(stack, chaining, new_batches, new_transforms[0], faults)


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


def measure(stack: Stack, chaining: Chaining, batches: Collection[Batch], run: FlowRun, faults: list[str]) -> Outcome:
    """Reads the ledger's rows of the batches and holds them against everything else that is known of them."""
    with warehouse_of(stack) as warehouse:
        rows = [ledger_row(warehouse, batch) for batch in batches]
    extracts = [read_run(stack, row["extract_flow_run_id"]) for row in rows]
    started_by = who_started(stack, run)
    expectations: dict[str, tuple[Any, Any]] = {
        "started by": (chaining.started_by, started_by),
        "hand-off": ({chaining.handoff}, {row["handoff"] for row in rows}),
        "run in the ledger": ({run.id}, {row["transform_flow_run_id"] for row in rows}),
    }
    for row, batch in zip(rows, batches, strict=True):
        expectations[f"rows of {batch.source} in the ledger"] = (batch.manifest().rows, row["rows"])
        expectations[f"rows of {batch.source} in {MARTS[batch.source][0]}"] = (row["rows"], row["in_mart"])
        if chaining.handoff != "caller":
            expectations["batch in the run's parameters"] = (batch.batch_id, run.parameters.get("batch_id"))
    faults += [f"{what}: expected {want}, found {got}" for what, (want, got) in expectations.items() if want != got]
    started_at, processed_at = rows[0]["started_at"], rows[0]["processed_at"]
    return Outcome(
        chaining=chaining,
        started_by=started_by,
        extract_seconds=max(extract.total_run_time.total_seconds() for extract in extracts),
        handoff_seconds=min(seconds(row["event_at"], started_at) for row in rows),
        dbt_seconds=seconds(started_at, processed_at),
        total_seconds=max(seconds(extract.start_time, processed_at) for extract in extracts),
        rows_landed=sum(batch.manifest().rows for batch in batches),
        rows_in_marts=sum(row["in_mart"] for row in rows),
        faults=tuple(faults),
    )


def ledger_row(warehouse: duckdb.DuckDBPyConnection, batch: Batch) -> dict[str, Any]:
    """What the ledger says of a batch, and as `in_mart` how many of its records the source's mart has."""
    mart, key = MARTS[batch.source]
    found = warehouse.execute(
        "select rows, handoff, extract_flow_run_id, transform_flow_run_id, event_at, started_at, processed_at, "
        f"(select count(distinct {key}) from marts.{mart} where _batch_id = batch_id) as in_mart "
        "from ops.ledger where source = ? and batch_id = ?",
        [batch.source, batch.batch_id],
    )
    row = found.fetchone()
    if row is None:
        raise StackError(f"{batch.source} {batch.batch_id} is not in the ledger")
    return dict(zip([column[0] for column in found.description or ()], row, strict=True))


@dataclass(frozen=True)
class Counts:
    """The records of a source's latest batch, counted at each place on their way."""

    source: str
    landed: int
    in_ledger: int
    in_base: int
    in_mart: int

    def faults(self) -> list[str]:
        """One if they are not all the same."""
        different = len({self.landed, self.in_ledger, self.in_base, self.in_mart}) > 1
        return [f"{self.source}: rows were lost or came twice: {self}"] if different else []


def count(stack: Stack, source: str) -> Counts:
    """Counts the records of the source's latest batch."""
    latest = max((batch for batch in landed(stack.landing) if batch.source == source), key=lambda batch: batch.batch_id)
    with warehouse_of(stack) as warehouse:
        row = ledger_row(warehouse, latest)
        ((in_base,),) = warehouse.execute(
            f"select count(*) from base.base_{source.replace('.', '__')} where _batch_id = ?", [latest.batch_id]
        ).fetchall()
    return Counts(source, latest.manifest().rows, row["rows"], in_base, row["in_mart"])


def faults_of_the_join(stack: Stack) -> list[str]:
    """Items that found no product or user, and carts whose items do not add up to the cart's own total."""
    with warehouse_of(stack) as warehouse:
        ((items, joined),) = warehouse.sql(
            f"select (select count(*) from marts.fct_cart_items), (select count(*) {JOINED})"
        ).fetchall()
        wrong = warehouse.sql(
            "select cart_id from staging.stg_dummyjson__carts as carts join marts.fct_cart_items as items "
            "using (cart_id, _batch_id) group by cart_id, carts.discounted_total, carts.unit_count "
            "having sum(items.discounted_total) <> carts.discounted_total or sum(items.quantity) <> carts.unit_count"
        ).fetchall()
    faults = [f"cart {cart_id}: its items do not add up to its totals" for (cart_id,) in wrong]
    return faults + ([f"{items} cart items, but {joined} with product and user"] if items != joined else [])


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
    under = ("", "", "", "1st line s", "ledger s", "", "landed", "the marts")
    lines = [
        (
            o.chaining.name,
            o.started_by,
            f"{o.extract_seconds:.2f}",
            f"{o.handoff_seconds:.2f}",
            f"{o.dbt_seconds:.2f}",
            f"{o.total_seconds:.2f}",
            str(o.rows_landed),
            str(o.rows_in_marts),
        )
        for o in outcomes
    ]
    return in_columns([head, under, *lines], left=2)


def table_of_counts(counts: Sequence[Counts]) -> str:
    """The counts, a line a source; they are all the same in a line, or something is wrong."""
    head = ("source", "mart", "rows landed", "in the ledger", "in the base layer", "in the mart")
    lines = [
        (c.source, MARTS[c.source][0], *(str(n) for n in (c.landed, c.in_ledger, c.in_base, c.in_mart))) for c in counts
    ]
    return in_columns([head, *lines], left=2)


def best_selling(stack: Stack) -> str:
    """A question that needs all three sources, asked as anybody would."""
    with warehouse_of(stack) as warehouse:
        answer = warehouse.sql(BEST_SELLING)
        rows = [tuple(answer.columns), *(tuple(str(value) for value in row) for row in answer.fetchall())]
    title = "fct_cart_items with dim_products and dim_users: the best-selling categories, and who buys them"
    return f"{title}\n{in_columns(rows, left=1)}"


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
