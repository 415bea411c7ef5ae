"""The extract flow on a real Prefect server: one batch, one event, one way to hand over; and its faults."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.events import Event

from flows.errors import ApiError
from flows.extract import extract
from flows.landing.batch import Batch, Manifest, list_batches
from flows.server import events
from flows.warehouse.ledger import Finished
from stack.local.processes import free_port, prefect_server, stop, wait_until
from stack.sample_api.server import problem, reply
from tests.support.room import Room


def run(**parameters: Any) -> State[Any]:
    return extract(return_state=True, **parameters)


def event_of(batch: Batch) -> Event:
    """The batch's event as the server has it; readable about a second after it was sent."""
    manifest = batch.manifest()
    wanted = events.event_id(events.EXTRACT_FINISHED, batch.source, batch.batch_id)
    found: dict[UUID, Event] = {}

    def there() -> bool:
        found.update(events.received([wanted], manifest.extracted_at))
        return wanted in found

    wait_until(there, "the event to be readable", 30)
    return found[wanted]


def test_a_run_lands_every_record_and_sends_an_event_whose_payload_is_the_manifest(room: Room) -> None:
    with room.api(products=194):
        state = run(page_size=30)
    assert state.is_completed()
    (batch,) = list_batches(room.landing)
    manifest = batch.verify()
    assert (manifest.rows, manifest.total) == (194, 194)
    assert Manifest.model_validate(state.result()) == manifest
    event = event_of(batch)
    assert Manifest.model_validate(event.payload) == manifest
    assert event.resource["prefect.resource.id"] == "dummyjson.products"
    assert event.resource["handoff"] == "event"
    assert event.related[0]["prefect.resource.id"] == f"prefect.flow-run.{manifest.flow_run_id}"


def test_the_hand_off_is_a_label_of_the_event(room: Room) -> None:
    with room.api(products=3):
        assert run(handoff="caller").is_completed()
    (batch,) = list_batches(room.landing)
    assert event_of(batch).resource["handoff"] == "caller"


def test_sending_an_event_again_does_not_make_a_second_one(room: Room) -> None:
    with room.api(products=3):
        run()
    (batch,) = list_batches(room.landing)
    event_of(batch)
    events.send([events.extract_finished(batch.manifest(), "event")])
    wait_until_processed(batch)
    filter_ = {"id": {"id": [str(event_of(batch).id)]}}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/events/filter", json={"filter": filter_, "limit": 50}).json()
    assert answer["total"] == 1


def wait_until_processed(batch: Batch) -> None:
    """Sends an event after those of the test and waits for it: the server takes them in order."""
    marker = events.transform_finished(Finished(batch.source, batch.manifest().flow_run_id, {batch.batch_id: 1}))
    events.send([marker])
    wait_until(lambda: marker.id in events.received([marker.id], marker.occurred), "the marker to be readable", 30)


def test_a_retry_of_the_same_run_goes_on_with_the_batch_that_it_has_published(room: Room) -> None:
    attempts: list[UUID] = []
    original = events.send

    def fail_once(sent: Any) -> None:
        sent = list(sent)
        attempts.append(sent[0].id)
        if len(attempts) == 1:
            raise SystemError("killed between the batch and its event")
        original(sent)

    room.patch.setattr(events, "send", fail_once)
    with room.api(products=5):
        state = extract.with_options(retries=1)(return_state=True)
    assert state.is_completed()
    (batch,) = list_batches(room.landing)
    assert attempts == [event_of(batch).id] * 2


def test_an_empty_source_is_an_error_unless_it_is_allowed(room: Room) -> None:
    with room.api(products=0):
        state = run()
        assert state.is_failed()
        assert "expected records, got none; nothing was landed" in str(state.message)
        assert list_batches(room.landing) == []
        assert run(allow_empty=True).is_completed()
    (batch,) = list_batches(room.landing)
    assert batch.manifest().rows == 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"source": "dummyjson.nothing"},
            r"dummyjson\.yaml declares \(dummyjson\.products, .*\), got 'dummyjson\.nothing'",
        ),
        ({"source": "elsewhere.products"}, r"'elsewhere\.products' belongs to 'elsewhere', which no file declares"),
        ({"source": "../../etc.passwd"}, "source: expected a name such as"),
        ({"page_size": 0}, "page_size: expected 1 or more"),
    ],
)
def test_a_wrong_parameter_is_one_clear_message_and_lands_nothing(
    room: Room, parameters: dict[str, Any], message: str
) -> None:
    with room.api(products=3):
        state = run(**parameters)
    assert state.is_failed()
    with pytest.raises((ValueError, ApiError), match=message):
        state.result()
    assert list_batches(room.landing) == []


FAULTS: dict[str, Callable[[int], Any]] = {
    "500 always": lambda _: problem(500, "broken"),
    "HTML": lambda _: (200, {"Content-Type": "text/html"}, b"<html>maintenance</html>"),
    "truncated": lambda _: (200, {}, b'{"products": [{"id": 1'),
    "no products": lambda _: reply(200, {"total": 3}),
    "total changes": lambda n: reply(200, {"products": [{"id": n}], "total": 10 + n}),
    "double ids": lambda _: reply(200, {"products": [{"id": 1}], "total": 10}),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_source_that_cannot_be_read_fails_the_run_and_lands_nothing(room: Room, fault: Callable[[int], Any]) -> None:
    room.patch.setattr("flows.extract.land.retry_delay_seconds", 0)
    with room.api(intercept=lambda _path, _query, number: fault(number)):
        state = run()
    assert state.is_failed()
    assert "/products" in str(state.message)
    assert list_batches(room.landing) == []
    assert list((room.landing / "_incoming").iterdir()) == []


def test_a_reading_that_was_disturbed_once_is_read_again(room: Room) -> None:
    disturbed = reply(200, {"products": [{"id": 1}, {"id": 1}], "total": 50})
    room.patch.setattr("flows.extract.land.retry_delay_seconds", 0)
    with room.api(products=50, intercept=lambda _path, _query, number: disturbed if number == 1 else None):
        assert run(page_size=10).is_completed()
    (batch,) = list_batches(room.landing)
    assert batch.verify().rows == 50


def test_a_server_that_is_gone_after_landing_leaves_a_batch_and_says_that_it_is_safe(
    room: Room, tmp_path: Path
) -> None:
    """Another server, because this one is taken away in the middle of the run."""
    folder = tmp_path / "server"
    program = (
        "import flows.extract as e, sys\n"
        "e.send_finished.retry_delay_seconds = 0\n"
        "original = e.read_source\n"
        "def pages(*arguments, **options):\n"
        "    yield from original(*arguments, **options)\n"
        "    print('read', flush=True); sys.stdin.readline()\n"
        "e.read_source = pages\n"
        "e.extract()\n"
    )
    with prefect_server(folder, port=free_port()) as url, room.api(products=5):
        room.patch.setenv("PREFECT_API_URL", url)
        room.patch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
        room.patch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")  # It would be tried for a minute at the end.
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        seen = ""
        while not seen.endswith("read\n"):
            line = process.stdout.readline()
            assert line, f"the flow ended early:\n{seen}"
            seen += line
        stop(folder, "server")
        output, _ = process.communicate("go on\n", timeout=120)
    assert process.returncode != 0
    assert "the batch is safe in the landing and will be picked up by the next transform" in output
    (batch,) = list_batches(room.landing)
    assert batch.verify().rows == 5


def test_a_transform_that_cannot_be_launched_leaves_a_batch_and_says_that_it_is_safe(room: Room) -> None:
    room.patch.setattr(
        "flows.server.handoff.run_deployment", lambda _name, **options: run_deployment("transform/nowhere", **options)
    )
    with room.api(products=5):
        state = run(handoff="deployment")
    assert state.is_failed()
    assert "the batch is safe in the landing" in str(state.message)
    assert "transform/warehouse could not be started" in str(state.message)
    (batch,) = list_batches(room.landing)
    assert batch.verify().rows == 5


def test_the_final_state_says_how_many_rows_and_which_batch_and_holds_the_manifest(room: Room) -> None:
    with room.api(products=7):
        state = run()
    (batch,) = list_batches(room.landing)
    assert state.message == f"7 rows of dummyjson.products in batch {batch.batch_id}"
    assert state.result() == batch.manifest().model_dump(mode="json")


def test_each_run_has_an_artifact_that_says_how_much_and_where(room: Room) -> None:
    with room.api(products=7):
        state = run()
    with get_client(sync_client=True) as client:
        made = client.request(
            "POST",
            "/artifacts/filter",
            json={"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}},
        ).json()
    (artifact,) = made
    assert artifact["key"] == "batch-dummyjson-products"
    (batch,) = list_batches(room.landing)
    for part in ("| rows | 7 |", batch.batch_id, str(batch.folder), "rows/s"):
        assert part in artifact["data"]
