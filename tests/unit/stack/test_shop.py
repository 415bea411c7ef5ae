"""The second system that the sample API plays is read by its declaration: orders by changes, lines in full."""

import json
from datetime import date
from typing import Any

import pytest
import requests

from flows.sources.reader.files import find_source
from flows.sources.reader.reading import Page, read_source
from flows.sources.reader.windows import plan_window
from stack.sample_api.server import serving
from stack.sample_api.shop import PREFIX, TOKEN

NEW_YEAR, LATER = date(2026, 1, 20), date(2026, 1, 21)


def read(url: str, table: str, monkeypatch: pytest.MonkeyPatch, previous: Any = None, **by_hand: Any) -> list[Page]:
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    source = find_source(f"shop.{table}", base_urls={"shop": f"{url}{PREFIX}"})
    return list(read_source(source, plan_window(source.table, previous, **by_hand), page_size=20))


def records(pages: list[Page]) -> list[dict[str, Any]]:
    return [json.loads(bytes(record)) for page in pages for record in page.records]


def test_every_order_of_the_past_is_read_once_and_then_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(day=NEW_YEAR) as url:
        first = read(url, "orders", monkeypatch)
    assert len({order["order_id"] for order in records(first)}) == len(records(first)) == 160
    with serving(day=LATER) as url:
        later = records(read(url, "orders", monkeypatch, first[-1].cursor))
        everything = records(read(url, "orders", monkeypatch))
    assert 8 < len(later) < 60
    current = {order["order_id"]: order for order in [*records(first), *later]}
    assert current == {order["order_id"]: order for order in everything}
    assert {order["status"] for order in everything} == {"placed", "paid", "shipped", "delivered", "cancelled"}


def test_a_window_of_the_past_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(day=LATER) as url:
        found = records(read(url, "orders", monkeypatch, since="2026-01-10T00:00:00Z", until="2026-01-12T00:00:00Z"))
    assert found
    assert all("2026-01-09T23" <= order["updated_at"] < "2026-01-12" for order in found)


def test_the_lines_of_all_orders_are_counted_against_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(day=NEW_YEAR) as url:
        pages = read(url, "order_lines", monkeypatch)
    assert len(records(pages)) == pages[-1].total == 400
    assert len(pages) == 20


def test_only_the_token_opens_it_and_mistakes_are_explained() -> None:
    with serving(day=NEW_YEAR) as url:
        assert requests.get(f"{url}{PREFIX}/orders", timeout=10).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for path, status in (("nothing", 404), ("orders?updated_since=soon", 400), ("order-lines?page=0", 400)):
            answer = requests.get(f"{url}{PREFIX}/{path}", headers=headers, timeout=10)
            assert (answer.status_code, list(answer.json())) == (status, ["error"])
