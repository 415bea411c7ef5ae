"""orchestrate(): run_deployment(extract) -> run_deployment(transform)."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from flows.errors import ChildRunError, InvalidInputError, some, some_lines
from flows.landing.watermark import backfilled
from flows.server.flow_runs import LONGEST_NAME, run_child, start_child
from flows.settings import Settings, split_source
from flows.sources.reader.files import find_source
from flows.sources.reader.windows import plan_window, split_window

TRANSFORM = "transform/warehouse"
WINDOWS_AT_ONCE = 4
"""So many windows of a backfill are read side by side."""


def run_name() -> str:
    """`orchestrate dummyjson.products, dummyjson.users`, and of many sources the first few; of a backfill its span."""
    given = flow_run.parameters
    sources = given.get("sources") or []
    names = some([str(source) for source in sources])
    span = f", {given.get('since')} to {given.get('until')}" if given.get("since") or given.get("until") else ""
    return f"orchestrate {names}{span}"[:LONGEST_NAME]


@flow(flow_run_name=run_name)
async def orchestrate(
    sources: list[str] = ["dummyjson.products"],  # noqa: B006 (Prefect shows it as the parameter's default)
    wait: bool = True,
    timeout_minutes: float = 30,
    since: str | None = None,
    until: str | None = None,
    every: str = "1d",
) -> None:
    """Run the extracts of the sources side by side, then one transform, each as a child run of this one.

    The transform runs once all extracts have ended, for those that landed a batch, also if others failed. Raises
    ChildRunError for every child that does not complete, and for one that has not ended after `timeout_minutes` for
    the chain as a whole. With `wait=False` the transform is started and left to itself.

    With `since` and `until` it is a backfill of sources that are read by changes: in windows of the length `every`,
    some at a time, without those that a published batch has already. So one that failed is simply started again.
    """
    if not sources:
        raise InvalidInputError("sources: expected one or more, such as ['dummyjson.products'], got none")
    deadline = time.monotonic() + timeout_minutes * 60
    sources = list(dict.fromkeys(sources))
    if since is None and until is None:
        outcomes = await run_extracts([{"source": source} for source in sources], len(sources), deadline)
    else:
        windows = [window for source in sources for window in windows_to_read(source, since, until, every)]
        outcomes = await run_extracts(windows, WINDOWS_AT_ONCE, deadline)
    reason = {"source": sources[0]} if len(sources) == 1 else {}
    if not outcomes or any(isinstance(outcome, FlowRun) for outcome in outcomes):
        transform = run_child(TRANSFORM, reason, deadline) if wait else start_child(TRANSFORM, reason)
        outcomes += await asyncio.gather(transform, return_exceptions=True)
    raise_failures(outcomes)


async def run_extracts(
    wanted: Sequence[dict[str, Any]], at_once: int, deadline: float
) -> list[FlowRun | BaseException]:
    """A child run for each set of parameters, so many side by side; what became of each."""
    deployments = [extract_deployment(parameters["source"]) for parameters in wanted]
    slots = asyncio.Semaphore(at_once)

    async def run(deployment: str, parameters: dict[str, Any]) -> FlowRun:
        async with slots:
            return await run_child(deployment, {**parameters, "handoff": "caller"}, deadline)

    return await asyncio.gather(*map(run, deployments, wanted), return_exceptions=True)


def windows_to_read(source: str, since: str | None, until: str | None, every: str) -> Iterator[dict[str, str]]:
    """The parameters of an extract for each window of the span that no published batch has."""
    if since is None or until is None:
        raise InvalidInputError(f"since, until: a backfill needs both, got {since!r} and {until!r}")
    settings = Settings()
    table = find_source(source, settings.source_folders, settings.api_urls).table
    done = backfilled(settings.landing_root, source)
    for first, last in split_window(since, until, every):
        window = plan_window(table, since=first, until=last)
        if (window.start, window.end) not in done:
            yield {"source": source, "since": first, "until": last}


def extract_deployment(source: str) -> str:
    """`dummyjson.products` -> `extract/dummyjson-products`, as prefect.yaml names them."""
    return "extract/" + "-".join(split_source(source)).replace("_", "-")


def raise_failures(outcomes: list[FlowRun | BaseException]) -> None:
    """One ChildRunError for all the failures among the outcomes, so that none hides behind another."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        lines = [str(failure) or repr(failure) for failure in failures]
        raise ChildRunError(some_lines(lines)) from failures[0]
