"""extract(): API -> one landed batch -> one event."""

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from flows import api, events
from flows.landing import Batch, Manifest, new_batch_id, published, writing
from flows.settings import Settings, split_source

LOG_EVERY_SECONDS = 10.0


@flow(flow_run_name="extract {source}")
def extract(
    source: str = "dummyjson.products",
    page_size: int = 100,
    handoff: events.Handoff = "event",
    allow_empty: bool = False,
) -> dict[str, Any]:
    """Read all of a source into one immutable batch, then hand over. Returns the batch's manifest.

    `handoff` says who starts the transform: `event` the automation, `deployment` this run itself (launch and
    leave), `caller` whoever started this run. A retry of the same run goes on with the batch it has published.
    """
    settings = Settings()
    base_url = api_url(settings, source)
    batch = this_runs_batch(settings, source)
    started = time.monotonic()
    if published(batch):
        get_run_logger().info("%s %s was published by an earlier try of this run", source, batch.batch_id)
        manifest = batch.manifest()
    else:
        manifest = land(batch, base_url, page_size, allow_empty)
    seconds = time.monotonic() - started
    announce(manifest, handoff)
    if handoff == "deployment":
        launch_transform(manifest)
    describe(batch, manifest, seconds)
    return manifest.model_dump(mode="json")


def api_url(settings: Settings, source: str) -> str:
    """The base URL of the source's API; ValueError naming the known ones if there is none."""
    system, _ = split_source(source)
    if system not in settings.api_urls:
        raise ValueError(
            f"source: {source!r} belongs to {system!r}, whose API is not known; known are "
            f"{sorted(settings.api_urls)}. Add it to BATON_API_URLS"
        )
    return settings.api_urls[system]


def this_runs_batch(settings: Settings, source: str) -> Batch:
    """The batch of the current flow run: the same one in every retry of it."""
    return Batch(settings.landing_root, source, new_batch_id(flow_run.scheduled_start_time, UUID(flow_run.id)))


def changed_while_reading(_task: Any, _run: Any, state: Any) -> bool:
    """Whether reading once more is likely to help; an API that is down has been waited for already."""
    return isinstance(state.result(raise_on_failure=False), api.ApiChanged)


@task(retries=2, retry_delay_seconds=2, retry_condition_fn=changed_while_reading, cache_policy=NO_CACHE)
def land(batch: Batch, base_url: str, page_size: int, allow_empty: bool) -> Manifest:
    """Read every page and publish the batch, whole or not at all."""
    logger = get_run_logger()
    _, entity = split_source(batch.source)
    logged = time.monotonic()
    with writing(batch) as writer:
        for page in api.read_pages(base_url, entity, page_size):
            writer.write(page.records)
            if time.monotonic() - logged > LOG_EVERY_SECONDS:
                logged = time.monotonic()
                logger.info("%s: %d of %d rows read", batch.source, writer.rows, page.total)
        if writer.rows == 0 and not allow_empty:
            raise api.ApiError(
                f"{base_url}/{entity}: expected records, got none; nothing was landed. "
                "If an empty source is right, run with allow_empty=True"
            )
        manifest = writer.publish(total=page.total, extracted_at=datetime.now(UTC), flow_run_id=UUID(flow_run.id))
    logger.info("%s %s: %d rows published at %s", batch.source, batch.batch_id, manifest.rows, batch.folder)
    return manifest


class NotHandedOver(Exception):
    """The batch is published, but nobody could be told, or started; the message says that it is safe."""

    def __init__(self, manifest: Manifest, reason: str) -> None:
        super().__init__(
            f"{manifest.source} {manifest.batch_id}: the batch is safe in the landing and will be picked up by the "
            f"next transform, but {reason}"
        )


@task(retries=4, retry_delay_seconds=[1, 2, 4, 8], cache_policy=NO_CACHE)
def announce(manifest: Manifest, handoff: events.Handoff) -> None:
    """Send `extract.finished` and know that the server has it."""
    try:
        events.send([events.extract_finished(manifest, handoff)])
    except httpx.HTTPError as error:
        raise NotHandedOver(manifest, f"the Prefect server did not take the event: {error!r}") from error


def launch_transform(manifest: Manifest) -> None:
    """Launch and leave: start the transform as a child of this run, and do not wait for it."""
    lineage = {"source": manifest.source, "batch_id": manifest.batch_id}
    try:
        run_deployment("transform/warehouse", parameters=lineage, timeout=0)
    except (httpx.HTTPError, ObjectNotFound) as error:
        raise NotHandedOver(manifest, f"transform/warehouse could not be started: {error!r}") from error


def describe(batch: Batch, manifest: Manifest, seconds: float) -> None:
    """One artifact a batch: how much, how fast, and where it is."""
    rate = manifest.rows / seconds if seconds else 0
    create_markdown_artifact(
        key=f"batch-{manifest.source.replace('.', '-').replace('_', '-')}",
        description=f"{manifest.rows} rows of {manifest.source}",
        markdown=(
            f"| | |\n|---|---|\n| source | `{manifest.source}` |\n| batch | `{manifest.batch_id}` |\n"
            f"| rows | {manifest.rows:,} |\n| bytes | {manifest.bytes:,} |\n| seconds | {seconds:.2f} |\n"
            f"| rows/s | {rate:,.0f} |\n| landed at | `{batch.folder}` |\n"
        ),
    )
