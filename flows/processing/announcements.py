"""Sends the events of what the ledger and the quarantine hold, whichever run wrote it."""

from flows.errors import ServerError, WarehouseError
from flows.processing.result import TransformRun
from flows.server import events
from flows.settings import Settings
from flows.warehouse import ledger
from flows.warehouse.connection import connect


def announce(settings: Settings, run: TransformRun) -> None:
    """Sends what is unannounced: a `transform.finished` for each transaction and source, so that a third step is
    chained as this one was, and a `batch.quarantined` for each batch.

    What was processed stays processed if the server does not answer, so that fails no run: the next transform sends
    the same events with the same ids.
    """
    try:
        with connect(settings) as connection:
            finished, quarantined = ledger.unannounced(connection)
        sent = [events.transform_finished(each) for each in finished]
        sent += [events.batch_quarantined(each) for each in quarantined]
        if sent:
            events.send(sent)
            with connect(settings) as connection:
                ledger.mark_announced(connection, finished, quarantined)
    except (ServerError, WarehouseError) as error:
        run.logger.warning("events could not be sent; the next transform sends them: %s", error)
