"""A reading is complete, or it is an error: totals, keys, links that lead nowhere, lists that grow meanwhile."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.errors import ApiChangedError, ApiError, InvalidInputError
from flows.sources.reader.reading import Page, read_source
from tests.support.api import Answer, Asked, api, declared

PAGED = """
base_url: URL
tables:
  rows: {data_selector: rows, primary_key: id, on_change: ON_CHANGE, paginator: {type: offset, limit: 2}, total: TOTAL}
"""


def text(on_change: str = "fail", total: str = "{path: total}") -> str:
    return PAGED.replace("ON_CHANGE", on_change).replace("TOTAL", total)


def ids(pages: list[Page]) -> list[Any]:
    """Of the rows that stand at the end."""
    rows = [json.loads(bytes(record))["id"] for page in pages for record in page.records]
    gone = {row for page in pages for row in page.replaced}
    return [record_id for row, record_id in enumerate(rows) if row not in gone]


def growing(lists: list[list[int]]) -> Any:
    """An API whose list is another one on each request."""
    left = iter(lists)

    def answer(asked: Asked) -> Answer:
        rows, first = next(left), int(asked.query["offset"])
        return {"rows": [{"id": n} for n in rows[first : first + 2]], "total": len(rows)}

    return answer


def test_of_a_list_that_grows_while_it_is_read_the_last_of_a_repeated_key_stands(tmp_path: Path) -> None:
    """A record comes in at the front after the first page, so the second page begins with the first one's last."""
    with api(growing([[4, 3, 2, 1], [5, 4, 3, 2, 1], [5, 4, 3, 2, 1]])) as url:
        pages = list(read_source(declared(tmp_path, text("keep_last"), url)["shop.rows"]))
    assert ids(pages) == [4, 3, 2, 1]
    assert [page.replaced for page in pages] == [[], [1], []]
    assert pages[-1].total == 5


def test_a_list_that_shrinks_while_it_is_read_is_refused_even_then(tmp_path: Path) -> None:
    with (
        api(growing([[4, 3, 2, 1], [3, 2, 1]])) as url,
        pytest.raises(ApiChangedError, match="total was 4 before, but is 3"),
    ):
        list(read_source(declared(tmp_path, text("keep_last"), url)["shop.rows"]))


def test_a_record_that_moved_to_a_page_that_was_read_is_missed_and_so_the_reading_is_refused(tmp_path: Path) -> None:
    with (
        api(growing([[4, 3, 2, 1], [1, 4, 3, 2]])) as url,
        pytest.raises(ApiChangedError, match="3 records came, but total is 4: 1 are missing"),
    ):
        list(read_source(declared(tmp_path, text("keep_last"), url)["shop.rows"]))


def test_without_a_total_an_offset_is_read_until_a_page_is_empty(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Asked) -> Answer:
        """One record a page, whatever is asked for."""
        asked.append(request.query["offset"])
        first = int(request.query["offset"])
        return {"rows": [{"id": first}] if first < 3 else []}

    with api(answer) as url:
        pages = list(read_source(declared(tmp_path, text(total="null"), url)["shop.rows"]))
    assert ids(pages) == [0, 1, 2]
    assert asked == ["0", "1", "2", "3"]
    assert pages[-1].total is None


LINKED = """
base_url: URL/v1
tables:
  rows: {data_selector: rows, primary_key: [], paginator: {type: json_link}}
"""


def linked(tmp_path: Path, following: Any) -> list[Page]:
    """All pages of an API whose every answer names this as the next page."""
    with api(lambda asked: {"rows": [{"id": 1}], "next": following(asked)}) as url:
        return list(read_source(declared(tmp_path, LINKED, url)["shop.rows"]))


def test_a_next_page_on_another_host_is_refused(tmp_path: Path) -> None:
    for link in ("http://evil.example/v1/rows?page=2", "//evil.example/rows", "https://127.0.0.1/rows"):
        with pytest.raises(
            ApiError, match=r"page 2\): the page before names it as the next, but it is on another host"
        ):
            linked(tmp_path, lambda _, link=link: link)


def test_a_page_that_names_itself_or_an_earlier_one_as_the_next_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match=r"page 2\): is named as the next page, but has been read already"):
        linked(tmp_path, lambda asked: f"/v1/rows{'?page=2' if asked.query else ''}")
    with pytest.raises(ApiError, match=r"page 5\): is named as the next page, but has been read already"):
        linked(tmp_path, lambda asked: f"?page={int(asked.query.get('page', 1)) % 3 + 1}")


def test_a_link_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="expected the URL of the next page, got 7"):
        linked(tmp_path, lambda _: 7)


CURSOR = """
base_url: URL
tables:
  rows: {data_selector: rows, primary_key: id, paginator: {type: cursor, ORIGIN, has_more_path: more}}
"""
CONTRADICTIONS = {
    "more, but no token": ("cursor_path: next", {"rows": [{"id": 1}], "more": True}, "expected a token under next"),
    "more, but no records": ("last_record: id", {"rows": [], "more": True}, "expected records, because more is true"),
    "more as a text": ("last_record: id", {"rows": [{"id": 1}], "more": "yes"}, "expected true or false under 'more'"),
    "no more": ("last_record: id", {"rows": [{"id": 1}]}, "expected true or false under 'more', got None"),
    "a token that is a list": ("cursor_path: next", {"rows": [{"id": 1}], "more": True, "next": [1]}, "got a list"),
    "no such field": ("last_record: uid", {"rows": [{"id": 1}], "more": True}, "under uid of the last record"),
}


@pytest.mark.parametrize(("origin", "body", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_an_answer_that_contradicts_itself_is_refused(origin: str, body: Any, message: str, tmp_path: Path) -> None:
    with api(lambda _: body) as url, pytest.raises(ApiError, match=message):
        list(read_source(declared(tmp_path, CURSOR.replace("ORIGIN", origin), url)["shop.rows"]))


def test_a_page_size_that_cannot_be_asked_for_is_refused_before_the_first_request(tmp_path: Path) -> None:
    sources = declared(tmp_path, text().replace("limit: 2", "limit: 2, maximum_limit: 50"))
    with pytest.raises(InvalidInputError, match="page_size: expected at most 50, the maximum_limit, got 51"):
        list(read_source(sources["shop.rows"], page_size=51))
    with pytest.raises(InvalidInputError, match=r"page_size: got 5, but the declaration has no paginator.limit_param"):
        list(read_source(declared(tmp_path, LINKED)["shop.rows"], page_size=5))


def test_records_of_several_fields_are_told_apart_by_all_of_them(tmp_path: Path) -> None:
    composite = (
        text(total="null").replace("primary_key: id", "primary_key: [id, line]").replace("offset", "single_page")
    )
    rows = [{"id": 1, "line": 1}, {"id": 1, "line": "1"}, {"id": 2, "line": 1}]
    with api(lambda _: {"rows": rows}) as url:
        assert len(ids(list(read_source(declared(tmp_path, composite, url)["shop.rows"])))) == 3
    with (
        api(lambda _: {"rows": [*rows, rows[0]]}) as url,
        pytest.raises(ApiChangedError, match=r"id, line \(1, 1\) came twice, as record 1 and as record 4"),
    ):
        list(read_source(declared(tmp_path, composite, url)["shop.rows"]))


def test_records_without_a_key_may_be_alike(tmp_path: Path) -> None:
    no_key = text(total="null").replace("primary_key: id", "primary_key: []").replace("offset", "single_page")
    with api(lambda _: {"rows": [{"id": 1}, {"id": 1}]}) as url:
        assert ids(list(read_source(declared(tmp_path, no_key, url)["shop.rows"]))) == [1, 1]
