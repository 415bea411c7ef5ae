"""The control: the chain as it is mostly written. One file, one event or one call, and dbt on that file."""

import json
import os
import uuid
from typing import Any

from prefect import flow

from flows.sources.reader.files import find_source
from flows.sources.reader.reading import read_source
from tests.chaos.naive import steps


@flow(name="extract")
def extract(source: str = "dummyjson.products", page_size: int = 5, handoff: str = "event") -> dict[str, Any]:
    """All records into one file, then the hand-over. It reads the API as carefully as the other arm."""
    batch_id = uuid.uuid4().hex
    file = steps.FILE.open("w")
    declared = find_source(source, base_urls={"dummyjson": os.environ["NAIVE_API"]})
    for page in read_source(declared, page_size=page_size):
        steps.write_page(file, [json.loads(bytes(record)) for record in page.records], batch_id)
    steps.close(file, batch_id)
    if os.environ["NAIVE_HANDOFF"] == "event":
        steps.emit(batch_id)
    else:
        steps.launch(batch_id)
    return {"batch_id": batch_id}


@flow(name="transform")
def transform() -> None:
    """The file's records, after those that are there."""
    steps.build()
