"""The chain as Prefect's and prefect-dbt's documentation show it."""

import os

from prefect import flow
from prefect.events import emit_event
from prefect_dbt import PrefectDbtRunner, PrefectDbtSettings

from benchmarks.handoff import work


@flow
def extract() -> None:
    """Land a batch, then say so."""
    batch_id = work.land()
    work.stamp("event")
    emit_event("extract.finished", resource={"prefect.resource.id": work.SOURCE}, payload={"batch_id": batch_id})


@flow
def transform() -> None:
    """dbt build, by prefect-dbt's runner."""
    work.stamp("first_line")
    settings = PrefectDbtSettings(
        project_dir=os.environ["DBT_PROJECT_DIR"], profiles_dir=os.environ["DBT_PROFILES_DIR"]
    )
    PrefectDbtRunner(settings=settings).invoke(work.dbt_arguments())
    work.stamp("queryable")
