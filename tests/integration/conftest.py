"""A landing, a warehouse and a Prefect server of their own, for flows that run in the test's process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from tests.room import Room


@pytest.fixture
def room(
    server: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Room]:
    """An empty landing and no warehouse yet; flows called in the test report to the session's Prefect server."""
    made = Room(tmp_path / "landing", tmp_path / "warehouse.duckdb", monkeypatch)
    monkeypatch.setenv("BATON_LANDING_ROOT", str(made.landing))
    monkeypatch.setenv("BATON_WAREHOUSE", str(made.warehouse))
    monkeypatch.setenv("DBT_TARGET", "dev")
    # One for the session: dbt then parses the project once, as it does in a working folder.
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path_factory.getbasetemp() / "dbt-target"))
    monkeypatch.setenv("DBT_LOG_PATH", str(tmp_path_factory.getbasetemp() / "dbt-logs"))
    # A run with heartbeats ends up to a second later, when their thread has seen that it should stop.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield made
