"""A real Prefect server for the tests that need one, and a Prefect home and port of their own for all of them."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.local import processes

# What is run in a script's background ignores SIGINT, and so would every command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Prefect reads its settings once, when it is imported, so they are set before any test module is.
_FOLDER = tempfile.TemporaryDirectory(prefix="baton-tests-", ignore_cleanup_errors=True)
_PORT = processes.free_port()
os.environ |= {
    "PREFECT_API_URL": f"http://127.0.0.1:{_PORT}/api",
    "PREFECT_HOME": str(Path(_FOLDER.name) / "home"),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "DO_NOT_TRACK": "1",
}
SERVER = {
    # Proactive triggers are looked at every five seconds by default; tests need not wait for that.
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT0.5S",
    # Events can be read once they are in the database.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2",
    "PREFECT_SERVER_UI_ENABLED": "false",
}


def pytest_collection_finish() -> None:
    """Prefect and dbt, once imported, are not looked through at each collection of garbage: 5 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The API URL of a Prefect server for the whole session; also PREFECT_API_URL, here and in what tests start."""
    with processes.prefect_server(Path(_FOLDER.name), SERVER, _PORT) as url:
        yield url
        from prefect.logging.handlers import APILogHandler  # Not before the settings are set.

        # What flows have logged in this process is sent now; at its end it would be sent, for a minute, to no server.
        APILogHandler().flush()
