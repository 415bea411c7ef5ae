"""The work that every system hands off: land a batch, build it with dbt, and write down when.

Imported by Airflow's and Dagster's own Pythons too, so it knows only this project's landing and API reader.
Where things are comes from the environment, as for the flows.
"""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from flows.landing.batch import Batch
from flows.landing.names import new_batch_id
from flows.landing.writer import open_writer
from flows.sources.reader.files import find_source
from flows.sources.reader.reading import read_source

SOURCE = "dummyjson.products"


def stamp(stage: str) -> None:
    """One line: the stage is reached now."""
    with Path(os.environ["BENCH_STAMPS"]).open("a") as file:
        file.write(json.dumps({"stage": stage, "at": time.time()}) + "\n")


def land() -> str:
    """Read all products of the sample API into one batch; its id."""
    run_id = uuid4()
    batch = Batch(Path(os.environ["BATON_LANDING_ROOT"]), SOURCE, new_batch_id(datetime.now(UTC), run_id))
    source = find_source(SOURCE, base_urls=json.loads(os.environ["BATON_API_URLS"]))
    with open_writer(batch) as writer:
        for page in read_source(source):
            writer.write(page.records)
        writer.publish(total=page.total, extracted_at=datetime.now(UTC), flow_run_id=run_id)
    return batch.batch_id


def dbt_arguments() -> list[str]:
    """The same for every system; what ours uses after an event."""
    arguments: list[str] = json.loads(os.environ["BENCH_DBT"])
    return arguments


def build() -> None:
    """`dbt build` in this process: no second interpreter to start."""
    from dbt.cli.main import dbtRunner

    result = dbtRunner().invoke(dbt_arguments())
    if not result.success:
        raise SystemExit(f"dbt failed: {result.exception or result.result}")
