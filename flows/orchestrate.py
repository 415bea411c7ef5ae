"""orchestrate(): run_deployment(extract) -> run_deployment(transform)."""

import asyncio
import math
import time
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import arun_deployment
from prefect.exceptions import FlowRunWaitTimeout, ObjectNotFound
from prefect.flow_runs import wait_for_flow_run

from flows.settings import split_source

LOOK_AGAIN_SECONDS = 10
TRANSFORM = "transform/warehouse"


class ChildFailed(Exception):
    """A child run did not complete; the message names it, its state and what the state says."""


@flow(flow_run_name="orchestrate {sources}")
async def orchestrate(
    sources: list[str] = ["dummyjson.products"],  # noqa: B006 (Prefect shows it as the parameter's default)
    wait: bool = True,
    timeout_minutes: float = 30,
) -> None:
    """Run the extracts of the sources side by side, then one transform, each as a child run of this one.

    Raises ChildFailed for every child that does not complete, and for one that has not ended after
    `timeout_minutes` for the whole chain. With `wait=False` the transform is started and left to itself.
    """
    if not sources:
        raise ValueError("sources: expected one or more, such as ['dummyjson.products'], got none")
    deadline = time.monotonic() + timeout_minutes * 60
    deployments = [extract_deployment(source) for source in sources]
    extracts = [
        run_child(deployment, {"source": source, "handoff": "caller"}, deadline)
        for source, deployment in zip(sources, deployments, strict=True)
    ]
    raise_failures(await asyncio.gather(*extracts, return_exceptions=True))
    reason = {"source": sources[0]} if len(sources) == 1 else {}
    if wait:
        await run_child(TRANSFORM, reason, deadline)
    else:
        await arun_deployment(TRANSFORM, parameters=reason, timeout=0)


def extract_deployment(source: str) -> str:
    """`dummyjson.products` -> `extract/dummyjson-products`, as prefect.yaml names them."""
    return "extract/" + "-".join(split_source(source)).replace("_", "-")


async def run_child(deployment: str, parameters: dict[str, Any], deadline: float) -> FlowRun:
    """The child's run once it has completed; ChildFailed if it ends otherwise or not before the deadline."""
    try:
        child = await arun_deployment(deployment, parameters=parameters, timeout=0)
    except ObjectNotFound as error:
        raise ChildFailed(
            f"{deployment}: the server has no such deployment; is it in prefect.yaml, and deployed?"
        ) from error
    get_run_logger().info("%s runs as %s", deployment, child.name)
    ended = await wait_until_final(child.id, deadline)
    state = ended.state
    if state is None or not state.is_final():
        raise ChildFailed(
            f"{deployment}: {ended.name} ({ended.id}) has not ended in time, it is {state.name if state else 'new'}. "
            "It was left running: cancel it, or give the orchestrator a longer timeout_minutes"
        )
    if not state.is_completed():
        raise ChildFailed(f"{deployment}: {ended.name} ({ended.id}) ended as {state.name}: {state.message}")
    return ended


async def wait_until_final(run_id: UUID, deadline: float) -> FlowRun:
    """The run as soon as its final state is announced, or as it is at the deadline.

    The server's event stream says when; the run itself is read again every ten seconds all the same, because an
    event can be lost and a server can be restarted.
    """
    while True:
        patience = max(0, min(LOOK_AGAIN_SECONDS, math.ceil(deadline - time.monotonic())))
        try:
            return await wait_for_flow_run(run_id, timeout=patience)
        except FlowRunWaitTimeout:
            if time.monotonic() >= deadline:
                async with get_client() as client:
                    return await client.read_flow_run(run_id)
        except (httpx.HTTPError, OSError) as error:
            if time.monotonic() >= deadline:
                raise
            get_run_logger().warning("waiting for the server: %r", error)
            await asyncio.sleep(1)


def raise_failures(outcomes: list[FlowRun | BaseException]) -> None:
    """One ChildFailed for all the failures among the outcomes, so that none hides behind another."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise ChildFailed("\n".join(str(failure) or repr(failure) for failure in failures)) from failures[0]
