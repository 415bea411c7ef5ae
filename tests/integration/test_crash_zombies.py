"""crash_zombies(): what a killed process or server left active is set Crashed, and what lives is not touched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event as Flag
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import Event, Resource
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Completed, Pending, Running, Scheduled

from flows.crash_zombies import crash_zombies
from flows.extract import extract
from flows.server.events import send
from flows.server.flow_runs import TAG
from flows.settings import PROJECT
from flows.transform import transform
from tests.support.room import Room

SECONDS = 9
"""Longer than the five seconds after which a run's own heartbeats count, and more than one beat."""


@pytest.fixture
def beats(room: Room) -> Iterator[None]:
    """A heartbeat a second, where Prefect takes 30 at the least."""
    room.patch.setattr("prefect.flow_engine.MINIMUM_HEARTBEAT_INTERVAL", 1)
    room.patch.setattr("prefect.flow_engine.BaseFlowRunEngine.heartbeat_seconds", property(lambda _: 1))
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        yield


@pytest.fixture
def client(room: Room) -> Iterator[SyncPrefectClient]:
    """A client, and no active run of the project that an earlier test has left."""
    with get_client(sync_client=True) as made:
        for run in made.read_flow_runs():
            if run.state_type and run.state_type.value in ("PENDING", "RUNNING", "CANCELLING"):
                made.delete_flow_run(run.id)
        yield made


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Does something every second for as long as the block runs."""
    enough = Flag()

    def again() -> None:
        while not enough.wait(1):
            act()

    thread = Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def heartbeat(run: UUID) -> None:
    """What the engine of a run sends."""
    name = f"prefect.flow-run.{run}"
    send([Event(event="prefect.flow-run.heartbeat", resource=Resource({"prefect.resource.id": name}))])


def crashed() -> State[Any]:
    return crash_zombies(silent_for=SECONDS, return_state=True)


@pytest.mark.usefixtures("beats")
def test_what_is_silent_is_crashed_and_what_beats_moves_or_is_somebody_elses_is_not(client: SyncPrefectClient) -> None:
    submitting = client.create_flow_run(transform, state=Pending(name="Submitting"), tags=[TAG])
    killed = client.create_flow_run(extract, state=Running(), tags=[TAG])
    beating = client.create_flow_run(extract, state=Running(), tags=[TAG])
    moving = client.create_flow_run(transform, state=Pending(), tags=[TAG])
    # Another team's flow of the same name, on the same server.
    other = client.create_flow_run(extract, state=Running())
    due = client.create_flow_run(transform, state=Scheduled(), tags=[TAG])
    began = datetime.now(UTC)

    def live() -> None:
        heartbeat(beating.id)
        if (datetime.now(UTC) - began).total_seconds() > SECONDS / 2:
            begin(moving.id)

    with meanwhile(live):
        state = crashed()
    assert state.is_completed()
    said = str(state.message)
    for run in (submitting, killed):
        ended = client.read_flow_run(run.id).state
        assert ended
        assert ended.is_crashed()
        assert f"No event of this run arrived for {SECONDS} seconds" in str(ended.message)
        assert f"{run.name} ({run.id})" in said
    for run, name in ((beating, "Running"), (moving, "Running"), (other, "Running"), (due, "Scheduled")):
        assert client.read_flow_run(run.id).state_name == name
        assert str(run.id) not in said


def begin(run: UUID) -> None:
    """Pending becomes Running, once."""
    with get_client(sync_client=True) as api:
        if api.read_flow_run(run).state_name == "Pending":
            api.set_flow_run_state(run, Running())


def test_where_no_heartbeat_arrives_silence_proves_nothing_and_no_run_is_touched(client: SyncPrefectClient) -> None:
    run = client.create_flow_run(extract, state=Running(), tags=[TAG])
    state = crashed()
    assert state.is_failed()
    assert "expected a heartbeat of this run within 9 s, none came, so the silence of others" in str(state.message)
    assert client.read_flow_run(run.id).state_name == "Running"
    client.set_flow_run_state(run.id, Completed())


@pytest.mark.usefixtures("client")
def test_where_nothing_is_active_no_event_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.crash_zombies.still_silent", lambda *_: pytest.fail("waited"))
    assert crashed().name == "NothingToDo"


def test_it_waits_as_long_as_the_automation_and_every_deployment_has_the_tag() -> None:
    automation = yaml.safe_load((PROJECT / "automations/crash_runs_without_heartbeat.yaml").read_text())
    deployments = {d["name"]: d for d in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]}
    assert deployments["zombies"]["parameters"]["silent_for"] == automation["trigger"]["within"]
    assert all(TAG in deployment["tags"] for deployment in deployments.values())
    assert automation["trigger"]["match_related"]["prefect.resource.id"] == f"prefect.tag.{TAG}"
    assert (
        deployments["zombies"]["work_pool"]["work_queue_name"]
        != deployments["warehouse"]["work_pool"]["work_queue_name"]
    )
