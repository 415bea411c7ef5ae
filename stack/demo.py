"""The demo: the three chainings one after the other on a stack of its own, with tables of its measurements and checks.

The imperative chaining runs all sources of dummyjson, so at the end a question that needs all of them can be asked.
Then a second system is read by changes, on two days.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import duckdb
import requests
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun

from flows.landing.batch import Batch, Manifest, list_batches
from flows.server.events import Handoff
from flows.warehouse.connection import connect
from stack.local.processes import StackError, free_port, stop, stop_all, wait_until
from stack.local.profiles import ProfileName, Stack
from stack.local.up import client, days_ago, profile_named, start_sample_api, start_stack

TIMEOUT_SECONDS = 120.0
"""The time-out of one chaining."""


@dataclass(frozen=True)
class Chaining:
    """One of the three chainings, and what has to be true after a run of it."""

    name: str
    deployment: str
    handoff: Handoff
    started_by: str
    sources: tuple[str, ...] = ("dummyjson.products",)


OF_DUMMYJSON = {
    "dummyjson.products": ("dim_products", "product_id"),
    "dummyjson.carts": ("fct_cart_items", "cart_id"),
    "dummyjson.users": ("dim_users", "user_id"),
}
MARTS = OF_DUMMYJSON | {"shop.orders": ("dim_orders", "order_id")}
"""Source -> the mart with its current records, and that mart's key."""

TRIGGERED = "automation transform_when_extract_finishes"
CHAININGS = (
    Chaining("triggered", "extract/dummyjson-products", "event", TRIGGERED),
    Chaining("imperative", "orchestrate/dummyjson", "caller", "parent run of orchestrate", tuple(OF_DUMMYJSON)),
    Chaining("launch-and-leave", "extract/dummyjson-products-launch", "deployment", "parent run of extract"),
)
BY_CHANGES = Chaining("by changes", "extract/shop-orders", "event", TRIGGERED, ("shop.orders",))

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
class Measurement:
    """What one chaining did, in seconds by the runs and the ledger.

    Of several extracts side by side the slowest counts, and the last event.
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


def run_demo(profile: ProfileName, api: str | None) -> int:
    """Runs the chainings and prints the tables; returns 0 if every number is as expected, else 1."""
    folder = Path(tempfile.mkdtemp(prefix="baton-demo-"))
    kept = False
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    try:
        stack = start_stack(folder, profile=profile, api=api, port=free_port(), schedules=False, say=say)
        # The key of the object store, for what this process itself reads there.
        os.environ |= {name: value for name, value in stack.environment.items() if name.startswith("AWS_")}
        measurements = [run_chaining(stack, chaining, say) for chaining in CHAININGS]
        readings = [read_by_changes(stack, say)]
        a_day_later(stack)
        readings += [read_by_changes(stack, say)]
        counts = [count(stack, source) for source in MARTS]
        print(f"\n{table(measurements)}\n\n{table_of_counts(counts)}")
        print(f"\n{table_of_readings(readings)}\n\n{best_selling(stack)}\n")
        faults = [f"{each.chaining.name}: {fault}" for each in measurements for fault in each.faults]
        faults += [fault for counted in counts for fault in counted.faults()] + faults_of_the_join(stack)
        faults += faults_of_readings(*readings)
        for fault in faults:
            print(f"FAULT  {fault}")
        print(f"{len(measurements)} chainings, {len(faults)} faults, {time.monotonic() - began:.0f} seconds")
        return 1 if faults else 0
    except StackError as error:
        kept = True
        print(f"the demo did not run: {error}\nThe logs are kept in {folder}")
        return 1
    finally:
        stop_all(folder)
        try:
            profile_named(profile).remove(folder)
        except StackError as error:
            print(f"the databases were not removed: {error}")
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def warehouse_of(stack: Stack) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """A read-only connection to the stack's warehouse."""
    return connect(stack.settings, read_only=True)


def run_chaining(stack: Stack, chaining: Chaining, say: Callable[[str], None]) -> Measurement:
    """Starts the first run of a chaining, waits until its transform has ended, and measures both."""
    known_batches = set(list_batches(stack.landing))
    known_transforms = {run.id for run in runs_of(stack, "transform")}
    say(f"{chaining.name}: {chaining.deployment}")
    with client(stack) as api:
        deployment = api.read_deployment_by_name(chaining.deployment)
        first = api.create_flow_run_from_deployment(deployment.id)
    follow(chaining.deployment, lambda: [read_run(stack, first.id)], say)
    follow("transform", lambda: [run for run in runs_of(stack, "transform") if run.id not in known_transforms], say)
    new_batches = set(list_batches(stack.landing)) - known_batches
    new_transforms = [run for run in runs_of(stack, "transform") if run.id not in known_transforms]
    faults = []
    if sorted(batch.source for batch in new_batches) != sorted(chaining.sources):
        raise StackError(f"{chaining.name}: expected a batch each of {chaining.sources}, found {new_batches}")
    if len(new_transforms) != 1:
        faults.append(f"expected one transform run, found {len(new_transforms)}")
    return measure(stack, chaining, new_batches, new_transforms[0], faults)


def follow(name: str, runs: Callable[[], Sequence[FlowRun]], say: Callable[[str], None]) -> None:
    """Reports each new state of the runs until there is one and all have ended; StackError if one failed."""
    reported: dict[UUID, str | None] = {}

    def ended() -> bool:
        found = runs()
        for run in found:
            state = run.state.name if run.state else "new"
            if reported.get(run.id) != state:
                reported[run.id] = state
                say(f"  {run.name}: {state}")
            if run.state and run.state.is_final() and not run.state.is_completed():
                raise StackError(f"{run.name} ended as {run.state.name}: {run.state.message}")
        return bool(found) and all(run.state and run.state.is_final() for run in found)

    wait_until(ended, f"a run of {name} to end", TIMEOUT_SECONDS, every=0.25)


def measure(
    stack: Stack, chaining: Chaining, batches: Collection[Batch], run: FlowRun, faults: list[str]
) -> Measurement:
    """Compares the ledger's rows of the batches with the manifests, the marts and the runs."""
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
    return Measurement(
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


@dataclass(frozen=True)
class ReadByChanges:
    """One reading of shop.orders by changes, and how dim_orders compares with the shop after it."""

    manifest: Manifest
    in_mart: int
    in_shop: int
    different: int
    """Orders that one of the two has not, or has otherwise."""
    faults: tuple[str, ...]


def read_by_changes(stack: Stack, say: Callable[[str], None]) -> ReadByChanges:
    """Reads what has changed in the shop, has it transformed, and compares the mart with the shop."""
    faults = run_chaining(stack, BY_CHANGES, say).faults
    manifest = newest(stack, "shop.orders").manifest()
    with warehouse_of(stack) as warehouse:
        rows = warehouse.sql("select order_id, status, total from marts.dim_orders").fetchall()
    shop = orders_of_the_shop(stack)
    return ReadByChanges(manifest, len(rows), len(shop), len(shop ^ set(rows)), faults)


def orders_of_the_shop(stack: Stack) -> set[tuple[str, str, Decimal]]:
    """Id, status and total of every order, read page by page in the plainest way."""
    url = json.loads(stack.environment["BATON_API_URLS"])["shop"]
    headers = {"Authorization": f"Bearer {stack.environment['SHOP_TOKEN']}"}
    found: set[tuple[str, str, Decimal]] = set()
    page: dict[str, Any] = {"next_cursor": None, "has_more": True}
    while page["has_more"]:
        query = {"cursor": page["next_cursor"]}
        answer = requests.get(f"{url}/orders", params=query, headers=headers, timeout=30)
        answer.raise_for_status()
        body = answer.json(parse_float=Decimal)
        found |= {(order["order_id"], order["status"], order["total"]) for order in body["data"]["items"]}
        page = body["paging"]
    return found


def a_day_later(stack: Stack) -> None:
    """Starts the sample API again at the same place, with orders that have changed since."""
    port = urlsplit(json.loads(stack.environment["BATON_API_URLS"])["shop"]).port
    stop(stack.folder, "sample-api")
    start_sample_api(stack.folder, stack.environment, days_ago(1), port)


def faults_of_readings(first: ReadByChanges, second: ReadByChanges) -> list[str]:
    """What is wrong with two readings by changes that follow each other."""
    faults = [f"shop.orders: {fault}" for fault in (*first.faults, *second.faults)]
    for reading in (first, second):
        if reading.different:
            faults.append(f"dim_orders: {reading.different} orders are not as the shop has them")
    if second.manifest.follows != first.manifest.batch_id or not 0 < second.manifest.rows < first.manifest.rows:
        faults.append(f"shop.orders: expected what has changed since {first.manifest.batch_id}, got {second.manifest}")
    return faults


def ledger_row(warehouse: duckdb.DuckDBPyConnection, batch: Batch) -> dict[str, Any]:
    """The ledger's row of a batch, and as `in_mart` how many of its records are in the source's mart."""
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
    """The records of a source's latest batch, counted in the landing, the ledger, the base layer and the mart."""

    source: str
    reading: str
    landed: int
    in_ledger: int
    in_base: int
    in_mart: int

    def faults(self) -> list[str]:
        """One fault if the counts differ."""
        different = len({self.landed, self.in_ledger, self.in_base, self.in_mart}) > 1
        return [f"{self.source}: rows are missing or doubled: {self}"] if different else []


def count(stack: Stack, source: str) -> Counts:
    """Counts the records of the source's latest batch."""
    latest = newest(stack, source)
    manifest = latest.manifest()
    with warehouse_of(stack) as warehouse:
        row = ledger_row(warehouse, latest)
        ((in_base,),) = warehouse.execute(
            f"select count(*) from base.base_{source.replace('.', '__')} where _batch_id = ?", [latest.batch_id]
        ).fetchall()
    return Counts(source, manifest.reading, manifest.rows, row["rows"], in_base, row["in_mart"])


def newest(stack: Stack, source: str) -> Batch:
    """The newest batch of a source; ids sort by time."""
    return max(list_batches(stack.landing, [source]), key=lambda batch: batch.batch_id)


def faults_of_the_join(stack: Stack) -> list[str]:
    """Cart items without a product or user, and carts whose items do not add up to the cart's total."""
    with warehouse_of(stack) as warehouse:
        ((items, joined),) = warehouse.sql(
            f"select (select count(*) from marts.fct_cart_items), (select count(*) {JOINED})"
        ).fetchall()
        different = warehouse.sql(
            "select cart_id from staging.stg_dummyjson__carts as carts join marts.fct_cart_items as items "
            "using (cart_id, _batch_id) group by cart_id, carts.discounted_total, carts.unit_count "
            "having sum(items.discounted_total) <> carts.discounted_total or sum(items.quantity) <> carts.unit_count"
        ).fetchall()
    faults = [f"cart {cart_id}: its items do not add up to its totals" for (cart_id,) in different]
    return faults + ([f"{items} cart items, but {joined} with product and user"] if items != joined else [])


def who_started(stack: Stack, run: FlowRun) -> str:
    """What created the run: an automation, another run, or something else."""
    if run.parent_task_run_id:
        with client(stack) as api:
            task = api.read_task_run(run.parent_task_run_id)
            flow_id = read_run(stack, task.flow_run_id).flow_id if task.flow_run_id else None
            return f"parent run of {api.read_flow(flow_id).name}" if flow_id else "a task without a run"
    if run.created_by and run.created_by.type == "AUTOMATION":
        return f"automation {run.created_by.display_value}"
    return "something else"


def runs_of(stack: Stack, flow: str) -> list[FlowRun]:
    """Every run of a flow, without those of a schedule."""
    with client(stack) as api:
        runs = api.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
    return [run for run in runs if not run.auto_scheduled]


def read_run(stack: Stack, run_id: UUID) -> FlowRun:
    """The present state of one flow run."""
    with client(stack) as api:
        return api.read_flow_run(run_id)


def seconds(start: datetime | None, end: datetime | None) -> float:
    """Seconds from start to end; NaN if one of them is unknown."""
    return (end - start).total_seconds() if start and end else float("nan")


def table(measurements: Sequence[Measurement]) -> str:
    """One line a measurement, in columns."""
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
        for o in measurements
    ]
    return in_columns([head, under, *lines], left=2)


def table_of_counts(counts: Sequence[Counts]) -> str:
    """One line a source; all counts of a line are equal unless there is a fault."""
    head = ("source", "reading", "mart", "rows landed", "in the ledger", "in the base layer", "in the mart")
    lines = [
        (c.source, c.reading, MARTS[c.source][0], *map(str, (c.landed, c.in_ledger, c.in_base, c.in_mart)))
        for c in counts
    ]
    return in_columns([head, *lines], left=3)


def table_of_readings(readings: Sequence[ReadByChanges]) -> str:
    """One line a reading by changes; the last two counts of a line are equal unless there is a fault."""
    head = ("changes of shop.orders", "asked from", "rows read", "in dim_orders", "in the shop")
    lines = [
        (name, str(r.manifest.cursor_from), *map(str, (r.manifest.rows, r.in_mart, r.in_shop)))
        for name, r in zip(("first reading", "a day later"), readings, strict=True)
    ]
    return in_columns([head, *lines], left=2)


def best_selling(stack: Stack) -> str:
    """A table that needs the marts of all three sources."""
    with warehouse_of(stack) as warehouse:
        answer = warehouse.sql(BEST_SELLING)
        rows = [tuple(answer.columns), *(tuple(str(value) for value in row) for row in answer.fetchall())]
    title = "fct_cart_items with dim_products and dim_users: the best-selling categories, and who buys them"
    return f"{title}\n{in_columns(rows, left=1)}"


def in_columns(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows as aligned text; the first `left` columns flush left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
