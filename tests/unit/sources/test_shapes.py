"""Six shapes of real APIs, each read by a declaration of at most 15 lines: every record, once, over real HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.sources.reader.reading import Page, read_source
from flows.sources.reader.windows import plan_window
from tests.support.api import Answer, Asked, api, declared
from tests.support.shapes import ROWS, SHAPES, UPDATED_SINCE, updated_since


def records(pages: list[Page]) -> list[dict[str, Any]]:
    return [json.loads(bytes(record)) for page in pages for record in page.records]


@pytest.mark.parametrize(("text", "answer"), SHAPES.values(), ids=SHAPES.keys())
def test_every_record_of_the_shape_is_read_once(
    text: str, answer: Callable[[Asked], Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUES_TOKEN", "s3cret-token")
    assert len(text.strip().splitlines()) <= 15
    with api(answer) as url:
        source = declared(tmp_path, text, url)["shop.rows"]
        found = records(list(read_source(source, plan_window(source.table))))
    assert len(found) == ROWS
    assert len({json.dumps(record) for record in found}) == ROWS


def test_changes_are_asked_for_from_the_previous_cursor_less_the_lag(tmp_path: Path) -> None:
    with api(updated_since) as url:
        source = declared(tmp_path, UPDATED_SINCE, url)["shop.rows"]
        pages = list(read_source(source, plan_window(source.table, "2026-01-01T00:20:00Z")))
    assert [record["id"] for record in records(pages)] == [18, 19, 20, 21, 22]
    assert pages[-1].cursor == "2026-01-01T00:22:00Z"


def test_a_reading_without_changes_keeps_the_cursor_of_the_one_before(tmp_path: Path) -> None:
    with api(lambda _: {"rows": []}) as url:
        source = declared(tmp_path, UPDATED_SINCE, url)["shop.rows"]
        (page,) = read_source(source, plan_window(source.table, "2026-01-01T00:20:00Z"))
    assert (page.records, page.cursor) == ([], "2026-01-01T00:20:00Z")
