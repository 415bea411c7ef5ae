"""A landing, a warehouse and a Prefect server of their own, for flows that run in the test's process."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from tests.support.room import Room, empty_folder
from tests.support.small_project import use_project


@pytest.fixture
def room(server: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """An empty landing and no warehouse yet; flows called in the test report to the session's Prefect server."""
    folder = empty_folder(tmp_path_factory.getbasetemp() / "room")
    made = Room(folder / "landing", folder / "warehouse.duckdb", monkeypatch)
    monkeypatch.setenv("BATON_LANDING_ROOT", str(made.landing))
    monkeypatch.setenv("BATON_WAREHOUSE", str(made.warehouse))
    monkeypatch.setenv("DBT_TARGET", "dev")
    use_project(made, tmp_path_factory.getbasetemp())
    # A run with heartbeats ends up to a second later, when their thread has seen that it should stop.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield made
