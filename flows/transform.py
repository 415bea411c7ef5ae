"""transform(): pending batches -> one dbt build -> ledger."""

from datetime import UTC, datetime
from uuid import UUID

from prefect import State, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.errors import BatonError, InvalidInputError, counted
from flows.landing.names import check_batch_id
from flows.processing.build import process_pending
from flows.processing.dbt_runs import run_dbt
from flows.processing.report import outcome, report
from flows.processing.result import TransformRun, failed
from flows.processing.source_locks import lock_all_sources
from flows.server.artifacts import show_nodes
from flows.server.flow_runs import LONGEST_NAME
from flows.settings import Settings, split_source
from flows.status.artifact import after_transform
from flows.warehouse import dbt


def run_name() -> str:
    """At the start: `transform dummyjson.products` if an event or a person named the source. The end says more."""
    return f"transform {flow_run.parameters.get('source') or ''}".strip()[:LONGEST_NAME]


@flow(
    flow_run_name=run_name, on_completion=[after_transform], on_failure=[after_transform], on_crashed=[after_transform]
)
def transform(
    source: str | None = None,
    batch_id: str | None = None,
    event_id: str | None = None,
    command: str = "build",
    select: str | None = None,
    full_refresh: bool = False,
) -> State[None]:
    """Take every landed batch that the ledger does not hold into the marts, with one dbt build.

    `source`, `batch_id` and `event_id` say why this run exists. They never say what to read: the landing and the
    ledger do. Another `command`, or a `select`, is a dbt run of its own, which leaves the ledger alone.
    """
    run = TransformRun(flow_run.id, datetime.now(UTC), get_run_logger())
    run.logger.info("started for %s", reason(source, batch_id, event_id) or "whatever is pending")
    settings = Settings()
    if command != "build" or select is not None:
        return run_ad_hoc(dbt.arguments(command, select, full_refresh), settings, run)
    wait = event_id is None  # A transform that an event started leaves a locked source to the transform that has it.
    try:
        result = process_pending(settings, run, full_refresh=full_refresh, wait=wait)
    except BatonError as error:
        result = failed((), error)
    report(result, run, event_id)
    return outcome(result, settings, wait)


def reason(source: str | None, batch_id: str | None, event_id: str | None) -> str:
    """Why this run exists; InvalidInputError for what is no source name, batch id or event id."""
    given = {
        "source": source and ".".join(split_source(source)),
        "batch": batch_id and check_batch_id(batch_id),
        "event": event_id and check_event_id(event_id),
    }
    return ", ".join(f"{name} {value}" for name, value in given.items() if value)


def check_event_id(event_id: str) -> str:
    """The id itself; InvalidInputError if it is no UUID."""
    try:
        return str(UUID(event_id))
    except ValueError:
        raise InvalidInputError(f"event_id: expected a UUID, got {event_id[:80]!r}") from None


def run_ad_hoc(arguments: list[str], settings: Settings, run: TransformRun) -> State[None]:
    """A dbt run of somebody's own: any command, any selection, no ledger."""
    try:
        with lock_all_sources(settings):
            nodes = run_dbt(arguments, settings, run)
    except BatonError as error:
        show_nodes(error.nodes)
        raise
    show_nodes(nodes)
    number = counted(len(nodes), "node", "nodes")
    return Completed(message=f"dbt {' '.join(arguments)}: {number}; the ledger was not touched")
