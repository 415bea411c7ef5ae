"""reap(): what a killed process or server left active is set Crashed, and what lives is left alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event as Flag
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import State, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import Event, Resource
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Completed, Pending, Running, Scheduled

from flows.events import send
from flows.extract import extract
from flows.reap import FLOWS, reap
from flows.settings import PROJECT
from flows.transform import transform
from tests.room import Room

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


@flow
def somebody_elses() -> None:
    """Not of this project."""


def reaped() -> State[Any]:
    return reap(silent_for=SECONDS, return_state=True)


@pytest.mark.usefixtures("beats")
def test_what_is_silent_is_crashed_and_what_beats_moves_or_is_somebody_elses_is_not(client: SyncPrefectClient) -> None:
    submitting = client.create_flow_run(transform, state=Pending(name="Submitting"))
    killed = client.create_flow_run(extract, state=Running())
    beating = client.create_flow_run(extract, state=Running())
    moving = client.create_flow_run(transform, state=Pending())
    other = client.create_flow_run(somebody_elses, state=Pending())
    due = client.create_flow_run(transform, state=Scheduled())
    began = datetime.now(UTC)

    def live() -> None:
        heartbeat(beating.id)
        if (datetime.now(UTC) - began).total_seconds() > SECONDS / 2:
            begin(moving.id)

    with meanwhile(live):
        state = reaped()
    assert state.is_completed()
    said = str(state.message)
    for run in (submitting, killed):
        ended = client.read_flow_run(run.id).state
        assert ended
        assert ended.is_crashed()
        assert f"Nothing was heard of it for {SECONDS} seconds" in str(ended.message)
        assert f"{run.name} ({run.id})" in said
    for run, name in ((beating, "Running"), (moving, "Running"), (other, "Pending"), (due, "Scheduled")):
        assert client.read_flow_run(run.id).state_name == name
        assert str(run.id) not in said


def begin(run: UUID) -> None:
    """Pending becomes Running, once."""
    with get_client(sync_client=True) as api:
        if api.read_flow_run(run).state_name == "Pending":
            api.set_flow_run_state(run, Running())


def test_where_nothing_beats_silence_says_nothing_and_everybody_is_left_alone(client: SyncPrefectClient) -> None:
    run = client.create_flow_run(extract, state=Running())
    state = reaped()
    assert state.is_failed()
    assert "expected a heartbeat of this run within 9 s, none came, so the silence of 1 others" in str(state.message)
    assert client.read_flow_run(run.id).state_name == "Running"
    client.set_flow_run_state(run.id, Completed())


@pytest.mark.usefixtures("client")
def test_where_nothing_is_active_nobody_is_listened_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.reap.still_silent", lambda *_: pytest.fail("listened"))
    assert reaped().name == "NothingToDo"


def test_it_is_as_patient_as_the_automation_and_looks_after_the_same_flows() -> None:
    automation = yaml.safe_load((PROJECT / "automations/crash_runs_that_stop_beating.yaml").read_text())
    deployments = {d["name"]: d for d in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]}
    assert deployments["zombies"]["parameters"]["silent_for"] == automation["trigger"]["within"]
    assert automation["trigger"]["match_related"]["prefect.resource.name"] == list(FLOWS)
    assert (
        deployments["zombies"]["work_pool"]["work_queue_name"]
        != deployments["warehouse"]["work_pool"]["work_queue_name"]
    )
