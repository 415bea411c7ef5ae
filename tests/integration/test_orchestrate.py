"""orchestrate(), where it cannot even begin; what it does with children is in tests/e2e."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_runs import wait_for_flow_run
from prefect.states import Completed, Running

from flows.errors import InvalidInputError
from flows.landing.batch import Batch, Reading
from flows.landing.names import new_batch_id
from flows.landing.writer import open_writer
from flows.orchestrate import orchestrate, windows_to_read
from flows.server import flow_runs
from flows.sources.reader.files import find_source
from flows.sources.reader.windows import plan_window
from tests.support.room import Room


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "expected one or more"),
        (["../products"], "expected a name such as"),
        (["shop.nothing"], "extract/shop-nothing: the server has no such deployment"),
    ],
)
def test_sources_that_cannot_be_extracted_are_one_clear_message(room: Room, sources: list[str], message: str) -> None:
    state: State[None] = asyncio.run(orchestrate(sources=sources, return_state=True))  # type: ignore[arg-type]
    assert state.is_failed()
    assert message in str(state.message)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"sources": ["a.b", "a.c"]}, "orchestrate a.b, a.c"),
        ({"sources": ["a.b", "a.c", "a.d", "a.e"]}, "orchestrate a.b, a.c, a.d and 1 more"),
        (
            {"sources": ["a.b"], "since": "2026-01-01", "until": "2026-02-01"},
            "orchestrate a.b, 2026-01-01 to 2026-02-01",
        ),
    ],
)
def test_a_run_is_named_after_its_sources_and_a_backfill_after_its_span(
    room: Room, parameters: dict[str, Any], name: str
) -> None:
    flow: Any = orchestrate
    state = asyncio.run(flow(**parameters, return_state=True))
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).name == name


CHANGES = """
base_url: http://127.0.0.1:9
tables:
  orders:
    primary_key: id
    paginator: {type: single_page}
    reading: changes
    incremental: {cursor_path: at, start_param: since, end_param: until, initial_value: 2026-01-01, lag: 1d}
"""


def test_a_backfill_is_split_into_windows_and_those_that_are_published_are_left_out(room: Room, tmp_path: Path) -> None:
    (tmp_path / "desk.yaml").write_text(CHANGES)
    room.patch.setenv("BATON_SOURCES", str(tmp_path))
    wanted = list(windows_to_read("desk.orders", "2026-01-01", "2026-01-04", "1d"))
    assert wanted == [
        {"source": "desk.orders", "since": f"2026-01-0{day}", "until": f"2026-01-0{day + 1}"} for day in (1, 2, 3)
    ]
    window = plan_window(find_source("desk.orders", [tmp_path]).table, since="2026-01-02", until="2026-01-03")
    batch = Batch(room.landing, "desk.orders", new_batch_id(datetime.now(UTC), uuid4()))
    with open_writer(batch) as writer:
        reading = Reading(reading="changes", cursor_from=window.start, cursor_until=window.end, backfill=True)
        writer.publish(total=None, extracted_at=datetime.now(UTC), flow_run_id=uuid4(), reading=reading)
    assert list(windows_to_read("desk.orders", "2026-01-01", "2026-01-04", "1d")) == [wanted[0], wanted[2]]


@pytest.mark.parametrize(
    ("source", "since", "until", "message"),
    [
        ("dummyjson.products", "2026-01-01", "2026-01-02", "expected a source with reading: changes"),
        ("dummyjson.products", "2026-01-01", None, "a backfill needs both"),
        ("nope.orders", "2026-01-01", "2026-01-02", "which no file declares"),
    ],
)
def test_a_backfill_that_cannot_be_says_why(
    room: Room, source: str, since: str | None, until: str | None, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        list(windows_to_read(source, since, until, "1d"))


def test_a_child_that_is_announced_as_ended_before_the_server_has_committed_it_is_read_again(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @flow
    def child() -> None: ...

    async def wait() -> tuple[FlowRun, FlowRun]:
        async with get_client() as client:
            running = await client.create_flow_run(child, state=Running())
            answers = [running]
            await client.set_flow_run_state(running.id, Completed(), force=True)

            async def announced_early(run_id: UUID, timeout: int) -> FlowRun:
                return answers.pop() if answers else await wait_for_flow_run(run_id, timeout=timeout)

            monkeypatch.setattr(flow_runs, "wait_for_flow_run", announced_early)
            return running, await flow_runs.wait_until_final(running.id, time.monotonic() + 60)

    before, after = asyncio.run(wait())
    assert before.state is not None and before.state.is_running()
    assert after.state is not None and after.state.is_completed()
