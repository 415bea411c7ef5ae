"""The whole stack while its server is killed in the middle of a run, or its worker with the runs it had."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from prefect.states import Pending

from stack.local import processes, up
from tests.chaos import harness
from tests.chaos.harness import Chaos
from tests.chaos.schedule import Landing

# Five minutes, most of them waiting for schedules and heartbeats: `make chaos` runs this, `make test` does not.
pytestmark = [pytest.mark.timeout(900), pytest.mark.long]
UNTOUCHED = Landing("none", "none")


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    before = dict(os.environ)
    try:
        with harness.chaos(harness.OURS, tmp_path_factory.mktemp("chaos")) as running:
            yield running
    finally:
        os.environ.clear()
        os.environ |= before


@contextmanager
def held(chaos: Chaos, point: str) -> Iterator[None]:
    """Whoever comes to the point waits there until the block ends."""
    file = chaos.forks.folder / f"{point}.hold"
    file.touch()
    try:
        yield
    finally:
        file.unlink()
        (chaos.forks.folder / f"{point}.held").unlink(missing_ok=True)


def wait_at(chaos: Chaos, point: str) -> None:
    chaos.wait((chaos.forks.folder / f"{point}.held").exists, f"a process to come to {point}", 300)


def kill_group(chaos: Chaos, name: str) -> None:
    os.killpg(processes.running(chaos.folder)[name], signal.SIGKILL)


def final_state_of(chaos: Chaos, run_id: UUID) -> str:
    """Once it has one; the message must say something wherever it is not Completed."""
    chaos.wait(lambda: chaos.state_of(run_id).is_final(), f"run {run_id} to end", 420)
    state = chaos.state_of(run_id)
    assert state.is_completed() or state.message
    return str(state.name)


def assert_nothing_is_lost(chaos: Chaos) -> None:
    chaos.come_to_rest()
    assert chaos.counted().faults() == []
    assert chaos.counted().published == chaos.counted().processed


def test_a_batch_whose_event_was_lost_is_processed_by_the_schedule(chaos: Chaos) -> None:
    chaos.land(Landing("dropped", "none"))
    assert_nothing_is_lost(chaos)
    assert len(chaos.counted().processed) == 1


@pytest.mark.parametrize(
    ("deployment", "parameters", "point"),
    [
        ("extract/dummyjson-products", {"page_size": 5}, "extract.writing"),
        ("transform/warehouse", {}, "transform.before_build"),
        ("orchestrate/dummyjson", {"sources": ["dummyjson.products"]}, "extract.before_publishing"),
    ],
    ids=["extract", "transform", "orchestrate"],
)
def test_a_server_that_is_killed_and_started_again_costs_no_batch_and_the_run_ends_clearly(
    chaos: Chaos, deployment: str, parameters: dict[str, Any], point: str
) -> None:
    known = len(chaos.counted().published)
    with held(chaos, point):
        if point.startswith("transform."):  # A batch that the sweep has taken before would leave nothing to keep.
            chaos.land(Landing("dropped", "none"))
        run_id = chaos.start(deployment, **parameters)
        wait_at(chaos, point)
        kill_group(chaos, "server")
        chaos.repair()
    assert final_state_of(chaos, run_id) in ("Completed", "NothingToDo", "Failed", "Crashed")
    assert_nothing_is_lost(chaos)
    assert len(chaos.counted().published) >= known


def test_a_worker_lost_with_its_runs_leaves_a_queue_that_is_free_again_without_a_person(chaos: Chaos) -> None:
    with held(chaos, "transform.before_build"):
        chaos.land(UNTOUCHED)
        wait_at(chaos, "transform.before_build")
        (lost,) = [run for run in chaos.active() if run.state_name == "Running" and run.name.startswith("transform")]
        kill_group(chaos, "worker")
        harness.kill(chaos.forked())
    zombies = [lost.id]
    for name in ("Submitting", "InfrastructurePending"):  # Taken by the worker that is gone, never started.
        run_id = chaos.start("transform/warehouse")
        with up.client(chaos.stack) as api:
            api.set_flow_run_state(run_id, Pending(name=name), force=True)
        zombies.append(run_id)
    chaos.repair()
    for run_id in zombies:
        assert final_state_of(chaos, run_id) == "Crashed"
        assert "No heartbeat" in str(chaos.state_of(run_id).message)
    assert_nothing_is_lost(chaos)
