"""The sweep asks dbt how old each source is. The status shows the answer, and what has become stale is an event."""

from datetime import UTC, datetime

from flows.errors import BatonError, WarehouseBusyError
from flows.processing.result import TransformRun
from flows.processing.source_locks import lock_all_sources
from flows.server import events
from flows.settings import Settings
from flows.warehouse import dbt, freshness, ledger
from flows.warehouse.connection import connect
from flows.warehouse.freshness import Freshness

WAIT_SECONDS = 2.0
"""A transform that is at work goes first; the next sweep asks again."""


def check_freshness(settings: Settings, run: TransformRun) -> None:
    """Asks dbt, keeps the answer, and sends `source.stale` for each source that is newly stale. Fails no run."""
    try:
        for source, stale in ask_dbt(settings.waiting_at_most(WAIT_SECONDS), run).items():
            age = datetime.now(UTC) - stale.loaded_at
            run.logger.warning("%s is stale, says dbt: %s; its last batch is %s old", source, stale.status, age)
    except WarehouseBusyError as error:
        run.logger.info("dbt was not asked how old the sources are; the next sweep does so: %s", error)
    except BatonError as error:
        run.logger.warning("dbt could not say how old the sources are: %s", error)


def ask_dbt(settings: Settings, run: TransformRun) -> dict[str, Freshness]:
    """The newly stale sources, once the server has an event of each. Without batches in the ledger, there are none."""
    sources = sorted({source for source, _ in ledger.read(settings).processed})
    if not sources:
        return {}
    with lock_all_sources(settings):
        found = dbt.source_freshness(sources, settings)
        with connect(settings) as connection:
            stale = freshness.became_stale(freshness.read(connection), found)
            # Sent before it is noted: a server that does not answer gets the event at the next sweep.
            events.send([events.source_stale(source, each, run.id) for source, each in stale.items()])
            freshness.record(connection, found)
    return stale
