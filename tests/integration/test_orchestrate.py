"""orchestrate(), where it cannot even begin; what it does with children is in tests/e2e."""

import asyncio

import pytest

from flows.orchestrate import orchestrate
from tests.room import Room


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "expected one or more"),
        (["../products"], "expected a name such as"),
        (["shop.nothing"], "extract/shop-nothing: the server has no such deployment"),
    ],
)
def test_sources_that_cannot_be_extracted_are_one_clear_message(room: Room, sources: list[str], message: str) -> None:
    state = asyncio.run(orchestrate(sources=sources, return_state=True))  # type: ignore[arg-type]
    assert state.is_failed()
    assert message in str(state.message)
