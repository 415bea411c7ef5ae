"""One dbt build, the rows of each batch counted, then the ledger in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from prefect.events import Event

from flows.errors import BuildError, ServerError, some_lines
from flows.landing.batch import Batch, Manifest, Reading
from flows.processing.dbt_runs import run_dbt
from flows.processing.result import ProcessingResult, TransformRun
from flows.server import events
from flows.settings import Settings
from flows.warehouse import dbt, ledger
from flows.warehouse.connection import connect
from flows.warehouse.ledger import Entry

STAGING_VIEWS = "config.materialized:view,config.schema:staging"


def build_arguments(
    sources: Iterable[str], everything: bool, full_refresh: bool = False, keep_views: bool = False
) -> list[str]:
    """dbt's arguments: build what the sources feed, or the whole project; or leave the staging views as they are.

    Unit tests are left out: they say something about a change of a model, and nothing about data. dbt's own JSON files
    are left to the builds of everything: they hold the whole project, twice, and took a third of a small build.
    """
    select = None if everything else " ".join(f"source:{source}+" for source in sorted(set(sources)))
    json_files = [] if everything else ["--no-write-json"]
    views = ["--exclude", STAGING_VIEWS] if keep_views else []
    return [*dbt.arguments("build", select, full_refresh), "--exclude-resource-type", "unit_test", *json_files, *views]


def build_and_record(
    arguments: Sequence[str], manifests: Mapping[Batch, Manifest], project: str, settings: Settings, run: TransformRun
) -> ProcessingResult:
    """The result of a build that succeeded; all batches are in the ledger then, or none.

    Raises BuildError if dbt fails, or if the warehouse lacks rows of a batch; DataError if a batch is to blame.
    """
    nodes = tuple(run_dbt(arguments, settings, run))
    known = known_events(manifests.values(), run)
    entries = tuple(
        ledger_entry(manifest, known.get(sent_event_id(manifest)), project, run) for manifest in manifests.values()
    )
    with connect(settings) as connection:
        loaded = ledger.base_rows(connection, manifests)
        differing = [
            f"{batch.folder}: {loaded[batch.key]} rows in the warehouse, {manifest.rows} in the manifest"
            for batch, manifest in manifests.items()
            if loaded[batch.key] != manifest.rows
        ]
        if differing:
            error = BuildError(f"rows do not agree with the manifests; all stay pending:\n{some_lines(differing)}")
            error.nodes = nodes
            raise error
        ledger.record(connection, entries)
        arrivals = ledger.arrivals(connection, (batch.key for batch in manifests))
    return ProcessingResult(entries, nodes=nodes, arrivals=arrivals)


def sent_event_id(manifest: Manifest) -> UUID:
    """The id of the event that the batch's extract sent, whether or not it arrived."""
    return events.event_id(events.EXTRACT_FINISHED, manifest.source, manifest.batch_id)


def known_events(manifests: Iterable[Manifest], run: TransformRun) -> dict[UUID, Event]:
    """The batches' events as the server has them; lineage only, so a server that does not answer stops nothing."""
    extracted = {sent_event_id(manifest): manifest.extracted_at for manifest in manifests}
    if not extracted:
        return {}
    try:
        return events.received(extracted, min(extracted.values()) - timedelta(hours=1))
    except ServerError as error:
        run.logger.warning("the ledger will not say by which events the batches came: %s", error)
        return {}


def ledger_entry(manifest: Manifest, event: Event | None, project: str, run: TransformRun) -> Entry:
    """What the ledger says of one batch that this run has processed."""
    return Entry(
        source=manifest.source,
        batch_id=manifest.batch_id,
        rows=manifest.rows,
        handoff=event.resource.get("handoff") if event else None,
        event_id=str(event.id) if event else None,
        extract_flow_run_id=str(manifest.flow_run_id),
        transform_flow_run_id=run.id,
        landed_at=manifest.extracted_at,
        event_at=event.occurred if event else None,
        started_at=run.started_at,
        dbt_project=project,
        reading=manifest.model_dump_json(include=set(Reading.model_fields)),
    )
