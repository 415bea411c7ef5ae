"""The API of `shop`: a bearer token, another envelope, changes since a moment by cursor, Link headers.

- GET /shop/v1/orders?updated_since=&updated_before=&page_size=&cursor=
  answers {"data": {"items": [...]}, "paging": {"next_cursor": "..." or null, "has_more": true}}
- GET /shop/v1/order-lines?page=&per_page= answers a bare array, with `Link` and `X-Total-Count`
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from stack.sample_api.orders import FIRST_MOMENT, Orders

PREFIX = "/shop/v1"
TOKEN = "sample-shop-token"
LARGEST_PAGE = 100

Reply = tuple[int, dict[str, str], bytes]


def answer(orders: Orders, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
    """The answer to a GET of a path below the prefix."""
    if headers.get("authorization") != f"Bearer {TOKEN}":
        return reply(401, {"error": {"code": "unauthorized", "message": "expected a bearer token"}})
    try:
        if path == "/orders":
            return changed_orders(orders, query)
        if path == "/order-lines":
            return lines(orders, query)
    except ValueError as error:
        return reply(400, {"error": {"code": "bad_request", "message": str(error)}})
    return reply(404, {"error": {"code": "not_found", "message": f"no such resource: {path}"}})


def changed_orders(orders: Orders, query: Mapping[str, str]) -> Reply:
    """Orders that were changed in the span that the query names, a page of them."""
    since = moment(query.get("updated_since"), FIRST_MOMENT)
    before = moment(query.get("updated_before"), datetime.max.replace(tzinfo=UTC))
    found = orders.changed(since, before)
    if "cursor" in query:
        found = [order for order in found if f"{order['updated_at']}_{order['order_id']}" > query["cursor"]]
    size = page_size(query, "page_size")
    more = len(found) > size
    items = found[:size]
    following = f"{items[-1]['updated_at']}_{items[-1]['order_id']}" if more else None
    return reply(200, {"data": {"items": items}, "paging": {"next_cursor": following, "has_more": more}})


def lines(orders: Orders, query: Mapping[str, str]) -> Reply:
    """A page of the lines of all orders, and in the headers how many there are and where the next page is."""
    found, size, number = orders.lines(), page_size(query, "per_page"), int(query.get("page", 1))
    if number < 1:
        raise ValueError("page: expected 1 or more")
    headers = {"X-Total-Count": str(len(found))}
    if number * size < len(found):
        headers["Link"] = f'<{PREFIX}/order-lines?page={number + 1}&per_page={size}>; rel="next"'
    return reply(200, found[(number - 1) * size : number * size], headers)


def moment(text: str | None, otherwise: datetime) -> datetime:
    """A moment as a query gives it."""
    if text is None:
        return otherwise
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def page_size(query: Mapping[str, str], name: str) -> int:
    """Records a page; more than the largest are not given."""
    size = int(query.get(name, LARGEST_PAGE))
    if size < 1:
        raise ValueError(f"{name}: expected 1 or more, got {quote(str(size))}")
    return min(size, LARGEST_PAGE)


def reply(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON answer."""
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()
