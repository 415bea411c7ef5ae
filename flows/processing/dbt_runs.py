"""One dbt run that says how far it is: in the run's log, and in a progress artifact if it takes long."""

import contextvars
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty
from threading import Thread

from flows.errors import BatonError, counted
from flows.processing.result import TransformRun
from flows.server.artifacts import show_progress
from flows.settings import Settings
from flows.warehouse import dbt
from flows.warehouse.dbt import Node
from flows.warehouse.progress import Progress

SAY_EVERY_SECONDS = 10.0
SLOWEST_SHOWN = 3
LAST_REPORT_SECONDS = 5.0
"""So long a run waits for its last progress to be sent: a server that is away must not keep the warehouse locked."""


def run_dbt(arguments: Sequence[str], settings: Settings, run: TransformRun) -> list[Node]:
    """Runs dbt once, see `flows.warehouse.dbt.run_dbt`, and logs how far it is, each failure, and at the end what it
    did."""
    progress = Progress()
    began = time.monotonic()
    try:
        with reported(progress, run):
            nodes = dbt.run_dbt(arguments, settings, progress)
    except BatonError as error:
        if error.nodes:
            run.logger.info("dbt: %s", summary(error.nodes, time.monotonic() - began))
        raise
    run.logger.info("dbt: %s", summary(nodes, time.monotonic() - began))
    return nodes


@contextmanager
def reported(progress: Progress, run: TransformRun) -> Iterator[None]:
    """Another thread reports how far dbt is, for as long as the block runs."""
    # It gets this thread's context, because an artifact belongs to the run that is in the context.
    reporter = Thread(target=contextvars.copy_context().run, args=(report_progress, progress, run), daemon=True)
    reporter.start()
    try:
        yield
    finally:
        progress.failed.put(None)
        reporter.join(LAST_REPORT_SECONDS)


def report_progress(progress: Progress, run: TransformRun) -> None:
    """Logs each failed node at once, and every ten seconds how far dbt is; then there is an artifact, too."""
    artifact = None
    due = time.monotonic() + SAY_EVERY_SECONDS
    while True:
        try:
            failed = progress.failed.get(timeout=max(0.0, due - time.monotonic()))
        except Empty:
            run.logger.info("dbt: %s", str(progress))  # Now: it changes before another thread formats the line.
            artifact = show_progress(artifact, progress.percent, str(progress), run.logger)
            due = time.monotonic() + SAY_EVERY_SECONDS
            continue
        if failed is None:
            break
        run.logger.error("dbt: %s", failed)
    if artifact:
        show_progress(artifact, progress.percent, str(progress), run.logger)


def summary(nodes: Sequence[Node], seconds: float) -> str:
    """`36 nodes and 34 tests in 3.1 s, 1 failed; the slowest: model dim_users 0.4 s, …`."""
    tests = sum(node.kind in ("test", "unit_test") for node in nodes)
    failed = sum(node.failed for node in nodes)
    slowest = sorted(nodes, key=lambda node: -node.seconds)[:SLOWEST_SHOWN]
    named = ", ".join(f"{node.kind} {node.name} {node.seconds:.1f} s" for node in slowest)
    others = counted(len(nodes) - tests, "node", "nodes")
    return f"{others} and {counted(tests, 'test', 'tests')} in {seconds:.1f} s, {failed:,} failed; the slowest: {named}"
