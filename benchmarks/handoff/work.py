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

from flows import api
from flows.landing import Batch, new_batch_id, writing

SOURCE = "dummyjson.products"


def stamp(stage: str) -> None:
    """One line: the stage is reached now."""
    with Path(os.environ["BENCH_STAMPS"]).open("a") as file:
        file.write(json.dumps({"stage": stage, "at": time.time()}) + "\n")


def land() -> str:
    """Read all products of the sample API into one batch; its id."""
    run_id = uuid4()
    batch = Batch(Path(os.environ["BATON_LANDING_ROOT"]), SOURCE, new_batch_id(datetime.now(UTC), run_id))
    base_url = json.loads(os.environ["BATON_API_URLS"])["dummyjson"]
    with writing(batch) as writer:
        for page in api.read_pages(base_url, "products", 100):
            writer.write(page.records)
        writer.publish(total=page.total, extracted_at=datetime.now(UTC), flow_run_id=run_id)
    return batch.batch_id


def dbt_arguments() -> list[str]:
    """The same for every system; what ours uses after an event."""
    return json.loads(os.environ["BENCH_DBT"])


def build() -> None:
    """`dbt build` in this process: no second interpreter to start."""
    from dbt.cli.main import dbtRunner

    result = dbtRunner().invoke(dbt_arguments())
    if not result.success:
        raise SystemExit(f"dbt failed: {result.exception or result.result}")
