"""The small profile: every point of extract and transform is killed at once, and every fault of an event happens.

The flow runs are processes of their own that report to a real server. What the automation would start is started here,
one after the other, as the queue with its limit of 1 does. `make chaos` does the same with worker and automations.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.events import Event

from flows.server import events
from flows.warehouse.ledger import Finished
from stack.local.processes import wait_until
from stack.sample_api.server import serving
from tests.chaos import counts, points
from tests.chaos.forks import Forks
from tests.chaos.schedule import Round, rounds
from tests.support.small_project import small_project

PRODUCTS = 12
SEED = int(os.environ.get("CHAOS_SEED", "20261124"))
EXTRACT, TRANSFORM = "flows.extract:extract", "flows.transform:transform"


class Chain:
    """A landing, a warehouse and the processes that work on them."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.landing, self.warehouse = folder / "landing", folder / "warehouse.duckdb"
        self.forks = forks
        self.promised: set[str] = set()
        self.delivered: set[UUID] = set()
        self.began = datetime.now(UTC)

    def extract(self, event_fault: str = "none") -> None:
        answer = self.forks.start(EXTRACT, event_fault, source="dummyjson.products", page_size=5).result()
        if answer and answer["result"]:
            self.promised.add(answer["result"]["batch_id"])

    def transform(self, **reason: Any) -> dict[str, Any] | None:
        return self.forks.start(TRANSFORM, **reason).result()

    def deliver(self) -> None:
        """A transform for each event that the server has and that was not delivered yet, as the automation does."""
        for event in self.received():
            self.delivered.add(event.id)
            self.transform(**{name: event.payload[name] for name in ("source", "batch_id")}, event_id=str(event.id))

    def received(self) -> list[Event]:
        """The undelivered events. Another is sent after them and waited for: the server takes them in order."""
        marker = events.transform_finished(Finished("chaos.marker", uuid4(), {}))
        events.send([marker])
        wait_until(lambda: marker.id in events.received([marker.id], self.began), "the marker to be readable", 60)
        body = {
            "filter": {"event": {"name": [events.EXTRACT_FINISHED]}, "occurred": {"since": self.began.isoformat()}},
            "limit": 50,
        }
        with get_client(sync_client=True) as client:
            answer = client.request("POST", "/events/filter", json=body).json()
        assert answer["total"] <= 50
        found = [Event.model_validate(item) for item in answer["events"]]
        return [event for event in found if event.id not in self.delivered]

    def arrive_late(self) -> None:
        """Sends the events that were kept back."""
        for file in self.forks.folder.glob("*.late"):
            events.send([Event.model_validate_json(file.read_text())])
            file.unlink()

    def come_to_rest(self) -> None:
        """Sweeps, as the schedule does every quarter of an hour, until all is published; five are plenty."""
        for _ in range(5):
            nothing_is_pending = self.warehouse.exists() and not counts.pending(self.landing, self.warehouse)
            if nothing_is_pending and counts.readers_see_what_is_built(self.warehouse):
                return
            self.transform()

    def go_through(self, round_: Round) -> None:
        """The round's landings and its kill, then the sweep; fails if a batch is lost, doubled or torn."""
        points.arm(self.forks.folder, round_.point, round_.times)
        killed = points.fired(self.forks.folder)[round_.point]
        for landing in round_.landings:
            self.extract(landing.event)
        if round_.point in points.EXTRACT:
            self.extract()
        self.deliver()
        self.arrive_late()
        self.deliver()
        self.come_to_rest()
        assert points.fired(self.forks.folder)[round_.point] == killed + 1, f"{round_}: nothing came to the point"
        assert self.counted().faults() == [], str(round_)

    def counted(self) -> counts.Counts:
        return counts.count(self.landing, self.warehouse, self.promised, PRODUCTS)


@pytest.fixture
def chain(server: str, tmp_path: Path) -> Iterator[Chain]:
    with serving(PRODUCTS) as url:
        environment = os.environ | {
            "PREFECT_API_URL": server,
            "BATON_LANDING_ROOT": str(tmp_path / "landing"),
            "BATON_WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
            "BATON_API_URLS": json.dumps({"dummyjson": url}),
            "BATON_DBT_PROJECT": str(small_project(tmp_path)),
            "DBT_TARGET": "dev",
            "DBT_TARGET_PATH": str(tmp_path / "target"),
            "DBT_LOG_PATH": str(tmp_path / "logs"),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with Forks(tmp_path / "faults", environment) as forks:
            yield Chain(tmp_path, forks)


def test_whatever_is_killed_where_every_batch_is_processed_once(chain: Chain) -> None:
    where = points.EXTRACT + points.TRANSFORM
    print(f"seed {SEED}")
    for round_ in rounds(SEED, len(where), len(where), where):
        chain.go_through(round_)
    counted = chain.counted()
    assert counted.published == counted.processed
    assert len(counted.processed) >= len(where)


def test_two_transforms_at_once_process_every_batch_once(chain: Chain) -> None:
    for _ in range(3):
        chain.extract("dropped")
    both = [chain.forks.start(TRANSFORM), chain.forks.start(TRANSFORM)]
    answers = [child.result() for child in both]
    assert {answer["state"] for answer in answers if answer} == {"Completed", "NothingToDo"}, answers
    assert chain.counted().faults() == []
    assert len(chain.counted().processed) == 3
