"""transform(): unprocessed batches -> one dbt build -> ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run
from prefect.states import Completed

from flows import build, processing, turns
from flows.landing import BatchError, check_batch_id
from flows.processing import Outcome
from flows.settings import Settings, split_source


def run_name() -> str:
    """`transform dummyjson.products` where an event or a person named the source, else `transform`."""
    return f"transform {flow_run.parameters.get('source') or ''}".strip()[:80]


@flow(flow_run_name=run_name)
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
    started_at = datetime.now(UTC)
    log_reason(source, batch_id, event_id)
    settings = Settings()
    if command != "build" or select is not None:
        with turns.alone(settings):
            return run_dbt(build.arguments(command, select, full_refresh), settings)
    outcome = Outcome()
    work = partial(processing.work, settings=settings, started_at=started_at, full_refresh=full_refresh, done=outcome)
    try:
        turns.take(settings, work, everything=full_refresh, wait=event_id is None)
    except turns.LeftToAnother as reason:
        return Completed(name="LeftToAnother", message=str(reason))
    if not outcome and not full_refresh:
        return Completed(name="NothingToDo", message=f"every batch under {settings.landing_root} is in the ledger")
    report(outcome, event_id)
    if outcome.set_aside:
        raise BatchError("set aside, everything else was processed:\n" + "\n".join(outcome.set_aside.values()))
    rows = sum(entry.rows for entry in outcome.entries)
    return Completed(message=f"{len(outcome.entries)} batches with {rows} rows processed")


def log_reason(source: str | None, batch_id: str | None, event_id: str | None) -> None:
    """Log why this run exists; ValueError for a reason that is no source name, batch id or event id."""
    reason = {
        "source": source and ".".join(split_source(source)),
        "batch": batch_id and check_batch_id(batch_id),
        "event": event_id and check_event_id(event_id),
    }
    given = ", ".join(f"{name} {value}" for name, value in reason.items() if value)
    get_run_logger().info("started for %s", given or "whatever is pending")


def check_event_id(event_id: str) -> str:
    """The id itself; ValueError if it is no UUID."""
    try:
        return str(UUID(event_id))
    except ValueError:
        raise ValueError(f"event_id: expected a UUID, got {event_id[:80]!r}") from None


def run_dbt(arguments: Sequence[str], settings: Settings) -> State[None]:
    """An ad-hoc dbt run: any command, any selection, no ledger."""
    nodes = build.invoke(arguments, settings)
    create_node_table(nodes)
    return Completed(message=f"dbt {' '.join(arguments)}: {len(nodes)} nodes; the ledger was not touched")


def report(outcome: Outcome, cause: str | None) -> None:
    """Two artifacts: the results of the dbt nodes, and each batch with the event and the runs that it came by."""
    create_node_table(outcome.nodes)
    lines = [
        f"| `{entry.source}` | `{entry.batch_id}` | {entry.rows:,} | {entry.handoff or 'no event'} | "
        f"`{entry.event_id}` | [extract](/runs/flow-run/{entry.extract_flow_run_id}) | "
        f"[transform](/runs/flow-run/{entry.transform_flow_run_id}) |"
        for entry in outcome.entries
    ]
    create_markdown_artifact(
        key="processed-batches",
        description=f"{len(outcome.entries)} batches",
        markdown="\n".join(
            [
                f"This run was started by the event `{cause}`." if cause else "No event started this run.",
                "",
                "| source | batch | rows | hand-off | event | from | by |",
                "|---|---|---|---|---|---|---|",
                *lines,
            ]
        ),
    )


def create_node_table(nodes: Sequence[build.Node]) -> None:
    """The results of one dbt invocation, as a table artifact."""
    create_table_artifact(
        key="dbt-nodes",
        description=f"{len(nodes)} dbt nodes",
        table=[
            {
                "node": node.name,
                "kind": node.kind,
                "status": node.status,
                "seconds": node.seconds,
                "message": node.message,
            }
            for node in nodes
        ],
    )
