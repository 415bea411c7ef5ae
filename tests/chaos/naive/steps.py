"""What the naive flows are made of. The harness puts its points around these, from outside."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from prefect.deployments import run_deployment
from prefect.events import emit_event

FILE = Path(os.environ.get("NAIVE_FILE", "products.jsonl"))
EVENT = "naive.extract.finished"


def write_page(file: TextIO, records: Iterable[dict[str, Any]], batch_id: str) -> None:
    """Records, a line each, with the reading that they belong to: by it they are counted."""
    file.writelines(json.dumps({"batch_id": batch_id, "id": record["id"]}) + "\n" for record in records)


def close(file: TextIO, batch_id: str) -> None:
    """The file is complete."""
    file.close()


def emit(batch_id: str) -> None:
    """As the documentation shows it."""
    emit_event(event=EVENT, resource={"prefect.resource.id": "naive.products"}, payload={"batch_id": batch_id})


def launch(batch_id: str) -> None:
    """As the original post has it."""
    run_deployment("transform/naive", timeout=0)


def build() -> None:
    """dbt on that file."""
    from prefect_dbt import PrefectDbtRunner, PrefectDbtSettings

    folder = Path(__file__).parent / "dbt"
    PrefectDbtRunner(settings=PrefectDbtSettings(project_dir=folder, profiles_dir=folder)).invoke(["build"])
