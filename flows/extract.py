"""extract(): API -> one landed batch -> one event."""

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.errors import ApiChangedError, ApiError
from flows.landing.batch import Batch, Manifest, Reading, published
from flows.landing.names import new_batch_id
from flows.landing.watermark import previous_reading
from flows.landing.writer import open_writer
from flows.server.artifacts import show_batch
from flows.server.events import Handoff
from flows.server.handoff import launch_transform, send_finished
from flows.server.secrets import read_secret_block
from flows.settings import Settings
from flows.sources.reader.files import Source, find_source
from flows.sources.reader.reading import Page, read_source
from flows.sources.reader.secrets import Secrets
from flows.sources.reader.windows import Window, plan_window
from flows.warehouse.models import refuse_source_without_model


@flow(flow_run_name="extract {source}")
def extract(
    source: str = "dummyjson.products",
    page_size: int | None = None,
    handoff: Handoff = "event",
    allow_empty: bool = False,
    since: str | None = None,
    until: str | None = None,
    full: bool = False,
) -> State[dict[str, Any]]:
    """Read a source into one immutable batch, then hand over. Returns the batch's manifest.

    What is read follows from the source's declaration: everything, or what changed since the batch before. `since` and
    `until` ask for the changes of a span, a backfill; `full` for everything, which finds deletes. `handoff` says who
    starts the transform: `event` the automation, `deployment` this run itself (launch and leave), `caller` whoever
    started this run. A retry of the same run goes on with the batch it has published.
    """
    settings = Settings()
    declared = find_source(source, settings.source_folders, settings.api_urls)
    refuse_source_without_model(settings.dbt_project, source)
    batch = this_runs_batch(settings, source)
    started = time.monotonic()
    if published(batch):
        get_run_logger().info("%s %s was published by an earlier try of this run", source, batch.batch_id)
        manifest = batch.manifest()
    else:
        by_hand = full or since is not None or until is not None
        previous = None if by_hand or declared.table.incremental is None else previous_reading(batch)
        window = plan_window(
            declared.table, previous.cursor_to if previous else None, since=since, until=until, full=full
        )
        follows = previous.batch_id if previous else None
        manifest = land(batch, declared, window, follows, page_size, allow_empty)
    seconds = time.monotonic() - started
    send_finished(manifest, handoff)
    if handoff == "deployment":
        launch_transform(manifest)
    show_batch(batch, manifest, seconds)
    return Completed(message=f"{manifest}", data=manifest.model_dump(mode="json"))


def this_runs_batch(settings: Settings, source: str) -> Batch:
    """The batch of the current flow run: the same one in every retry of it."""
    return Batch(settings.landing_root, source, new_batch_id(flow_run.scheduled_start_time, UUID(flow_run.id)))


def changed_while_reading(_task: Any, _run: Any, state: Any) -> bool:
    """Whether reading once more is likely to help; an API that is down has been waited for already."""
    return isinstance(state.result(raise_on_failure=False), ApiChangedError)


@task(retries=2, retry_delay_seconds=2, retry_condition_fn=changed_while_reading, cache_policy=NO_CACHE)
def land(
    batch: Batch, source: Source, window: Window, follows: str | None, page_size: int | None, allow_empty: bool
) -> Manifest:
    """Read every page and publish the batch, complete or not at all."""
    logger = get_run_logger()
    with open_writer(batch) as writer:
        for page in read_source(source, window, page_size, secrets=Secrets(read_secret_block), log=logger):
            writer.write(page.records, page.replaced)
        if writer.rows == 0 and window.reading == "full" and not allow_empty:
            raise ApiError(
                f"{page.where}: expected records, got none; nothing was landed. "
                "If an empty source is right, run with allow_empty=True"
            )
        manifest = writer.publish(
            total=page.total,
            extracted_at=datetime.now(UTC),
            flow_run_id=UUID(flow_run.id),
            reading=how_it_was_read(source, window, follows, page),
        )
    logger.info("%s, published at %s", manifest, batch.folder)
    return manifest


def how_it_was_read(source: Source, window: Window, follows: str | None, last: Page) -> Reading:
    """What the manifest says of the reading."""
    return Reading(
        reading=window.reading,
        primary_key=source.table.primary_key,
        cursor_from=window.start,
        cursor_until=window.end,
        cursor_to=last.cursor,
        follows=follows,
        backfill=window.backfill,
    )
