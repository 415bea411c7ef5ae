"""The end of an extract: who starts the transform now, and what is sure if nobody can be reached."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.deployments import run_deployment

from flows.errors import HandoffError, ServerError
from flows.landing.batch import Manifest
from flows.server import events
from flows.server.client import translated_errors
from flows.server.events import Handoff


@task(retries=4, retry_delay_seconds=[1, 2, 4, 8], cache_policy=NO_CACHE)
def send_finished(manifest: Manifest, handoff: Handoff) -> None:
    """Send `extract.finished` and know that the server has it."""
    try:
        events.send([events.extract_finished(manifest, handoff)])
    except ServerError as error:
        raise HandoffError(safe(manifest, f"the Prefect server did not take the event: {error}")) from error


def launch_transform(manifest: Manifest) -> None:
    """Launch and leave: start the transform as a child of this run, and do not wait for it."""
    lineage = {"source": manifest.source, "batch_id": manifest.batch_id}
    try:
        with translated_errors():
            run_deployment("transform/warehouse", parameters=lineage, timeout=0)
    except ServerError as error:
        raise HandoffError(safe(manifest, f"transform/warehouse could not be started: {error}")) from error


def safe(manifest: Manifest, but: str) -> str:
    """What is sure, and what is not."""
    return (
        f"{manifest.source} {manifest.batch_id}: the batch is safe in the landing and will be picked up by the next "
        f"transform, but {but}"
    )
