"""Artifacts: what a flow run leaves for a person to read. None of them can fail a run whose work is done."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from logging import Logger, LoggerAdapter
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.utilities.urls import url_for

from flows.errors import counted
from flows.landing.batch import Batch, Manifest
from flows.server.client import translated_errors
from flows.warehouse.dbt import Node
from flows.warehouse.ledger import Arrival, Entry, Key

BATCHES_SHOWN = 100
"""So many processed batches are in a table: a first run may have thousands."""


def create(artifact: Callable[..., object], **parts: Any) -> None:
    """Makes an artifact if the server takes it; whatever goes wrong is a warning."""
    try:
        with translated_errors():
            artifact(**parts)
    except Exception as error:
        get_run_logger().warning("the artifact %s could not be made: %s", parts["key"], error)


def show_batch(batch: Batch, manifest: Manifest, seconds: float) -> None:
    """One landed batch: how much, how fast, and where it is."""
    rate = manifest.rows / seconds if seconds else 0
    create(
        create_markdown_artifact,
        key=f"batch-{manifest.source.replace('.', '-').replace('_', '-')}",
        description=f"{counted(manifest.rows, 'row', 'rows')} of {manifest.source}",
        markdown=(
            f"| | |\n|---|---|\n| source | `{manifest.source}` |\n| batch | `{manifest.batch_id}` |\n"
            f"| rows | {manifest.rows:,} |\n| bytes | {manifest.bytes:,} |\n| seconds | {seconds:.2f} |\n"
            f"| rows/s | {rate:,.0f} |\n| landed at | `{batch.folder}` |\n"
        ),
    )


def show_progress(artifact: UUID | None, percent: float, text: str, logger: Logger | LoggerAdapter[Any]) -> UUID | None:
    """How far dbt is, in a new artifact or in the one that there is; its id, or None if there is none yet.

    Outside a flow run there is no artifact, because nobody would look for it.
    """
    if FlowRunContext.get() is None:
        return None
    try:
        with translated_errors():
            if artifact is None:
                made: Any = create_progress_artifact(percent, key="dbt-progress", description=text)
                return UUID(str(made))  # No coroutine, because no event loop runs in this thread.
            update_progress_artifact(artifact, percent, description=text)
    except Exception as error:
        logger.warning("the artifact dbt-progress could not be written: %s", error)
    return artifact


def show_nodes(nodes: Sequence[Node]) -> None:
    """The results of one dbt invocation, those that failed first; nothing if dbt has done nothing."""
    if not nodes:
        return
    failed = sum(node.failed for node in nodes)
    create(
        create_table_artifact,
        key="dbt-nodes",
        description=counted(len(nodes), "dbt node", "dbt nodes") + (f", {failed:,} failed" if failed else ""),
        table=[
            {
                "node": node.name,
                "kind": node.kind,
                "status": node.status,
                "seconds": node.seconds,
                "message": node.message,
            }
            for node in sorted(nodes, key=lambda node: not node.failed)
        ],
    )


def show_batches(entries: Sequence[Entry], arrivals: Mapping[Key, Arrival], cause: str | None) -> None:
    """Each processed batch, with the event and the runs that it came by; `cause` is the event that started this run.

    The ids are in the links and below the table: in its columns they would leave no room for anything else.
    """
    shown = entries[:BATCHES_SHOWN]
    rows = [batch_row(entry, arrivals.get((entry.source, entry.batch_id), Arrival(None, None))) for entry in shown]
    more = [f"\nAnd {len(entries) - len(shown):,} more; `ops.ledger` has all."] if len(entries) > len(shown) else []
    create(
        create_markdown_artifact,
        key="processed-batches",
        description=counted(len(entries), "batch", "batches"),
        markdown="\n".join(
            [
                f"This run was started by the event `{cause}`." if cause else "No event started this run.",
                "",
                "| source | landed (UTC) | rows | against the one before | seconds to the ledger | hand-off | links |",
                "|---|---|--:|--:|--:|---|---|",
                *rows,
                *more,
                "",
                "Batch ids: " + ", ".join(f"`{entry.batch_id}`" for entry in shown),
            ]
        ),
    )


def batch_row(entry: Entry, arrival: Arrival) -> str:
    """One line of the table."""
    before = "first batch" if arrival.rows_before is None else f"{entry.rows - arrival.rows_before:+,}"
    seconds = "" if arrival.seconds is None else f"{arrival.seconds:,.1f}"
    landed = f"{entry.landed_at:%Y-%m-%d %H:%M:%S}" if entry.landed_at else ""
    links = [
        *([link("event", "received-event", entry.event_id, occurred=entry.event_at)] if entry.event_id else []),
        link("extract", "flow-run", entry.extract_flow_run_id),
        link("transform", "flow-run", entry.transform_flow_run_id),
    ]
    columns = (entry.source, landed, f"{entry.rows:,}", before, seconds, entry.handoff or "no event", ", ".join(links))
    return f"| {' | '.join(columns)} |"


def link(text: str, kind: str, identifier: str | None, occurred: datetime | None = None) -> str:
    """A link into the UI that PREFECT_UI_URL or PREFECT_API_URL names; the id itself where there is no UI."""
    url = url_for(kind, identifier, occurred=f"{occurred:%Y-%m-%d}" if occurred else "") if identifier else None
    return f"[{text}]({url})" if url else f"{text} `{identifier}`"
