"""A source is read completely and consistently over real HTTP, or the error says what broke, and where."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.errors import ApiChangedError, ApiError
from flows.sources.reader import http
from flows.sources.reader.files import find_source
from flows.sources.reader.http import polite_session
from flows.sources.reader.reading import Page, read_source
from stack.sample_api.data import FIRST_DAY
from stack.sample_api.server import Answer, problem, reply, serving

Query = dict[str, str]


def read(url: str, page_size: int = 50, retries: int = 6) -> list[Page]:
    return list(pages(url, page_size, retries))


def pages(url: str, page_size: int = 50, retries: int = 6) -> Iterator[Page]:
    source = find_source("dummyjson.products", base_urls={"dummyjson": url})
    return read_source(source, page_size=page_size, retries=retries)


def ids(pages: list[Page]) -> list[object]:
    return [json.loads(bytes(record))["id"] for page in pages for record in page.records]


def envelope(records: list[object], total: int) -> Answer:
    return reply(200, {"products": records, "total": total, "skip": 0, "limit": len(records)})


@pytest.mark.parametrize("page_size", [1, 7, 97, 194, 1000])
def test_every_record_is_read_whatever_the_page_size(page_size: int) -> None:
    with serving(194, day=FIRST_DAY) as url:
        found = read(url, page_size)
    assert ids(found) == list(range(1, 195))
    assert {page.total for page in found} == {194}


def test_an_api_that_gives_fewer_records_a_page_than_asked_for_is_read_to_the_end() -> None:
    def ten_at_most(_path: str, query: Query, _n: int) -> Answer:
        skip = int(query["skip"])
        return envelope([{"id": n} for n in range(skip, min(skip + 10, 25))], 25)

    with serving(intercept=ten_at_most) as url:
        assert [len(page.records) for page in read(url, 100)] == [10, 10, 5]


def test_an_empty_source_is_one_page_without_records() -> None:
    with serving(0) as url:
        (page,) = read(url)
    assert (page.records, page.total) == ([], 0)


def test_memory_is_one_page_whatever_the_total() -> None:
    def peak(products: int) -> int:
        with serving(products) as url:
            tracemalloc.start()
            for _page in pages(url):
                pass
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return most

    peak(100)  # What is loaded once is not counted.
    assert peak(2_000) < 1.5 * peak(100)


def test_a_proxy_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(7) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert sum(len(page.records) for page in read("http://shop.invalid")) == 7


def test_a_login_from_netrc_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login ada password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with polite_session("http://localhost:1") as session:
        assert session.auth == ("ada", "secret")


def first_requests_answer(*answers: Answer | str) -> Callable[[str, Query, int], Answer | str | None]:
    return lambda _path, _query, number: answers[number - 1] if number <= len(answers) else None


@pytest.mark.parametrize(
    "trouble",
    [problem(429, "slow down", {"Retry-After": "1"}), problem(502, "x"), problem(503, "x"), problem(504, "x"), "cut"],
    ids=["429", "502", "503", "504", "cut connection"],
)
def test_trouble_that_passes_is_waited_for(trouble: Answer | str) -> None:
    with serving(60, intercept=first_requests_answer(trouble, trouble)) as url:
        assert sum(len(page.records) for page in read(url)) == 60


def test_a_rate_limit_is_honoured() -> None:
    with serving(60, rate_limit=(3, 1.0)) as url:
        assert sum(len(page.records) for page in read(url, 10)) == 60


def test_an_api_that_asks_for_an_hour_does_not_hold_the_run_that_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cap made short, so that the test does not take a minute itself."""
    assert http.RETRY_AFTER_MAX_SECONDS == 60
    monkeypatch.setattr(http, "RETRY_AFTER_MAX_SECONDS", 0.1)
    hour = problem(429, "slow down", {"Retry-After": "3600"})
    with serving(60, intercept=first_requests_answer(hour, hour)) as url:
        assert sum(len(page.records) for page in read(url)) == 60


ALWAYS: dict[str, tuple[Answer | str, str]] = {
    "500": (problem(500, "broken"), r"expected 200, got 500 .*broken"),
    "503 each time": (problem(503, "away"), r"expected 200, got 503 .*away"),
    "404 in HTML": ((404, {"Content-Type": "text/html"}, b"<html>Cannot GET"), r"got 404 .*Cannot GET"),
    "HTML": (
        (200, {"Content-Type": "text/html"}, b"<html>hello"),
        r"expected JSON, .* the answer \(text/html\) begins '<html>hello",
    ),
    "truncated": (
        (200, {}, b'{"products": [{"id": 1}, {"i'),
        r"expected JSON, got what does not parse \(Input data was truncated",
    ),
    "NaN": (
        (200, {}, b'{"products": [{"id": NaN}], "total": 1}'),
        r"expected JSON, got what does not parse \(JSON is malformed: invalid character",
    ),
    "empty body": ((200, {}, b""), r"expected JSON, .* begins an empty body"),
    "no products": (
        reply(200, {"items": [], "total": 0}),
        r"a list under 'products', got an object with the keys \['items', 'total'\]",
    ),
    "a list": (reply(200, [1, 2]), r"expected a list under 'products', got a list"),
    "no total": (reply(200, {"products": []}), r"expected a count under 'total', got None"),
    "total as text": (reply(200, {"products": [], "total": "1"}), r"expected a count under 'total', got '1'"),
    "no object": (envelope([{"id": 1}, "two"], 2), r'expected an object at position 1, got "two"'),
    "no id": (
        envelope([{"id": 1}, {"title": "two"}], 2),
        r"as key \(id\) of each record: Object missing required field `id` - at `\$\[1\]`",
    ),
}


@pytest.mark.parametrize(("answer", "message"), ALWAYS.values(), ids=ALWAYS.keys())
def test_an_answer_that_is_none_says_what_came_and_for_which_request(answer: Answer | str, message: str) -> None:
    with (
        serving(intercept=lambda *_: answer) as url,
        pytest.raises(ApiError, match=rf"GET {url}/products \(limit=50, skip=0, page 1\): .*{message}"),
    ):
        read(url, retries=1)


def test_an_api_that_is_down_is_named() -> None:
    with serving() as url:
        pass
    with pytest.raises(
        ApiError, match=rf"GET {url}/products \(limit=50, skip=0, page 1\): no answer: ConnectionError.*refused"
    ):
        read(url, retries=1)


def changing(change: Callable[[int, list[dict[str, object]]], tuple[list[dict[str, object]], int]]) -> object:
    """An intercept over 100 records in which one page is not as the others are."""

    def intercept(_path: str, query: Query, _n: int) -> Answer:
        skip, limit = int(query["skip"]), int(query["limit"])
        records, total = change(skip, [{"id": n} for n in range(skip, min(skip + limit, 100))])
        return 200, {}, json.dumps({"products": records, "total": total}).encode()

    return intercept


CHANGES = {
    "total": (
        lambda skip, rows: (rows, 100 if skip < 50 else 101),
        r"skip=50, page 3\): total was 100 before, but is 101 here",
    ),
    "double": (
        lambda skip, rows: (rows if skip else [*rows[:-1], {"id": 50}], 100),
        r"skip=50, page 3\): id 50 came twice, as record 25 and as record 51",
    ),
    "within": (
        lambda skip, rows: ([rows[0], *rows[:-1]], 100),
        r"page 1\): id 0 came twice, as record 1 and as record 2",
    ),
    "missing": (
        lambda skip, rows: (rows if skip < 75 else [], 100),
        r"page 4\): 75 records came, but total is 100: 25 are missing",
    ),
    "too many": (
        lambda skip, rows: ([*rows, {"id": -skip - 1}], 100),
        r"page 4\): 101 records came up to here, but total is 100",
    ),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_pages_that_do_not_belong_together_say_which_and_how(change: object, message: str) -> None:
    with serving(intercept=changing(change)) as url, pytest.raises(ApiChangedError, match=message):  # type: ignore[arg-type]
        read(url, 25)


def test_ids_of_any_size_and_kind_are_told_apart() -> None:
    given: list[object] = [1, "1", 2**70, str(2**70), -1, "é"]
    with serving(intercept=lambda *_: envelope([{"id": i} for i in given], len(given))) as url:
        assert ids(read(url)) == given


def test_a_page_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="page_size: expected 1 or more"):
        read("http://127.0.0.1:9", 0)
