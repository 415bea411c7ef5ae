"""The idea in one file: an extract says that it has finished, and the server starts the transform.

    prefect server start                          # in a terminal of its own
    prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api
    python docs/one_file.py                       # serves both flows
    prefect deployment run extract/one-file       # the transform follows by itself

Two things make it safe. A batch is published by one rename, so nobody reads half of it. The transform loads every file
that its ledger lacks, so it does not matter whether an event is lost, late or doubled. What it lacks is the rest of
Baton: checks, tests, retries that keep the batch, a quarantine, a proof that the event arrived, killed runs.
"""

import json
import os
from pathlib import Path

import duckdb
import requests
from prefect import flow, serve
from prefect.events import DeploymentEventTrigger, emit_event
from prefect.runtime import flow_run

API = os.environ.get("ONE_FILE_API", "https://dummyjson.com")
DATA = Path(os.environ.get("ONE_FILE_DATA", "data/one_file"))


@flow
def extract() -> None:
    """Read all products into one file, publish it, and send the event."""
    products = requests.get(f"{API}/products", params={"limit": 0}, timeout=30).json()["products"]
    DATA.mkdir(parents=True, exist_ok=True)
    staged = DATA / f"{flow_run.id}.part"
    staged.write_text("".join(json.dumps(product) + "\n" for product in products))
    staged.rename(DATA / f"{flow_run.id}.jsonl")
    emit_event("extract.finished", resource={"prefect.resource.id": "dummyjson.products"})


@flow
def transform() -> int:
    """Load every published batch that the ledger lacks, and enter it there in the same transaction."""
    with duckdb.connect(str(DATA / "warehouse.duckdb")) as warehouse:
        warehouse.execute("create table if not exists ledger (batch text primary key)")
        warehouse.execute(
            "create table if not exists products (batch text, id bigint, title text, price decimal(12, 2))"
        )
        processed = {batch for (batch,) in warehouse.sql("select batch from ledger").fetchall()}
        pending = [path for path in sorted(DATA.glob("*.jsonl")) if path.stem not in processed]
        for path in pending:
            warehouse.begin()
            warehouse.execute(
                "insert into products select ?, id, title, price from read_json(?)", [path.stem, str(path)]
            )
            warehouse.execute("insert into ledger values (?)", [path.stem])
            warehouse.commit()
    return len(pending)


WHEN_EXTRACT_FINISHES = DeploymentEventTrigger(
    name="transform when extract finishes",
    expect={"extract.finished"},
    match={"prefect.resource.id": "dummyjson.products"},
)

if __name__ == "__main__":
    serve(
        extract.to_deployment("one-file"),
        transform.to_deployment(
            "one-file", triggers=[WHEN_EXTRACT_FINISHES], interval=900
        ),  # the sweep, for lost events
        limit=1,  # a DuckDB file has one writing process
    )
