"""The standing artifact `baton-status`: what a person reads first, written anew whenever a transform has ended."""

from datetime import UTC, datetime
from logging import Logger, LoggerAdapter
from typing import Any

from prefect import State
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger

from flows.processing.freshness import check_freshness
from flows.processing.result import TransformRun
from flows.server.client import prefect_client, translated_errors
from flows.server.project_facts import read_facts
from flows.settings import Settings
from flows.status.collect import collect
from flows.status.markdown import in_markdown

KEY = "baton-status"
SCHEDULED = "auto-scheduled"
"""Prefect's tag of a run that a schedule made; a transform with it is the sweep."""
UNCHANGED = ("NothingToDo", "SourcesLocked")
"""Names of states after which the status is what it was."""
WAIT_SECONDS = 2.0
"""Another transform that is at work writes the artifact when it has ended."""


def after_transform(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook of the transform: the sweep asks dbt how old the sources are, then the status is written. Fails no run.

    A hook is called when the server has the run's final state. So the status counts this run, and the work queue has
    its slot back already.
    """
    logger = flow_run_logger(flow_run, flow)
    is_sweep = SCHEDULED in flow_run.tags
    if state.name in UNCHANGED and not is_sweep:
        return
    try:
        settings = Settings()
        if is_sweep:
            check_freshness(settings, TransformRun(str(flow_run.id), datetime.now(UTC), logger))
        write_status(settings, logger)
    except Exception as error:
        logger.warning("the artifact %s could not be written: %s", KEY, error)


def write_status(settings: Settings, logger: Logger | LoggerAdapter[Any]) -> None:
    """Writes the artifact, unless another transform is at work. ServerError if the server does not take it."""
    with prefect_client() as client:
        status = collect(settings.waiting_at_most(WAIT_SECONDS), read_facts(client, datetime.now(UTC)))
    if status.warehouse_busy:
        logger.info("the artifact %s is left to the transform that is at work", KEY)
        return
    with translated_errors():
        create_markdown_artifact(key=KEY, markdown=in_markdown(status), description=status.summary)
