"""Six shapes of real APIs: what each answers, and the declaration by which it is read."""

import json
from typing import Any

from tests.support.api import Answer, Asked

ROWS = 23


def page_of(rows: list[dict[str, Any]], first: int, size: int) -> list[dict[str, Any]]:
    return rows[first : first + size]


def link_header(asked: Asked) -> Answer:
    """Pages of ten at most, a bearer token, the next page in the Link header, no total."""
    if asked.headers.get("authorization") != "Bearer s3cret-token":
        return 401, {}, b'{"message": "Bad credentials"}'
    page, size = int(asked.query.get("page", 1)), min(10, int(asked.query["per_page"]))
    rows = [{"id": n, "title": f"issue {n}"} for n in range(ROWS)]
    headers = {"Content-Type": "application/json"}
    if page * size < ROWS:
        # Relative, and with another link beside it.
        link = f'</repos/issues?page={page + 1}&per_page={size}>; rel="next", </repos/issues?page=3>; rel="last"'
        headers["Link"] = link
    return 200, headers, json.dumps(page_of(rows, (page - 1) * size, size)).encode()


LINK_HEADER = """
base_url: URL
auth: {type: bearer, token: {env: ISSUES_TOKEN}}
tables:
  rows:
    path: /repos/issues
    primary_key: id
    paginator: {type: header_link, limit_param: per_page, limit: 100}
"""


def starting_after(asked: Asked) -> Answer:
    """`has_more`, and the last record's id as `starting_after`."""
    rows = [{"id": f"ch_{n:04d}", "amount": n} for n in range(ROWS)]
    ids = [row["id"] for row in rows]
    after = asked.query.get("starting_after")
    first = ids.index(after) + 1 if after else 0
    size = int(asked.query["limit"])
    return {"object": "list", "data": page_of(rows, first, size), "has_more": first + size < ROWS}


STARTING_AFTER = """
base_url: URL
tables:
  rows:
    path: v1/charges
    data_selector: data
    primary_key: id
    paginator:
      type: cursor
      cursor_param: starting_after
      last_record: id
      has_more_path: has_more
      limit_param: limit
      limit: 7
"""


def count_next_results(asked: Asked) -> Answer:
    """`{"count", "next", "results"}`, the next page as an absolute URL."""
    page = int(asked.query.get("page", 1))
    rows = [{"id": n} for n in range(ROWS)]
    host = asked.headers["host"]
    following = f"http://{host}/api/rows/?page={page + 1}" if page * 5 < ROWS else None
    return {"count": ROWS, "next": following, "previous": None, "results": page_of(rows, (page - 1) * 5, 5)}


COUNT_NEXT_RESULTS = """
base_url: URL/api
tables:
  rows:
    path: rows/
    data_selector: results
    primary_key: id
    total: {path: count}
    paginator: {type: json_link, next_url_path: next}
"""


def updated_since(asked: Asked) -> Answer:
    """Only what was changed since; page numbers from 1; a short page is no last page."""
    rows: list[dict[str, Any]] = [{"id": n, "meta": {"updated": f"2026-01-01T00:{n:02d}:00Z"}} for n in range(ROWS)]
    rows = [row for row in rows if row["meta"]["updated"] >= asked.query["updated_since"]]
    return {"rows": page_of(rows, (int(asked.query["page"]) - 1) * 4, 4)}


UPDATED_SINCE = """
base_url: URL
tables:
  rows:
    data_selector: rows
    primary_key: id
    reading: changes
    incremental:
      {cursor_path: meta.updated, start_param: updated_since, initial_value: "2026-01-01T00:00:00Z", lag: 2m}
    paginator: {type: page_number, base_page: 1}
"""


def composite_key(asked: Asked) -> Answer:
    """`data.items`, identified by two fields; the total in a header."""
    rows = [{"order": n // 4, "line": n % 4} for n in range(ROWS)]
    first, size = int(asked.query["start"]), int(asked.query["count"])
    body = {"data": {"items": page_of(rows, first, size)}, "status": "ok"}
    return 200, {"X-Total-Count": str(ROWS)}, json.dumps(body).encode()


COMPOSITE_KEY = """
base_url: URL
tables:
  rows:
    path: order-lines
    data_selector: data.items
    primary_key: [order, line]
    total: {header: X-Total-Count}
    paginator: {type: offset, offset_param: start, limit_param: count, limit: 6, maximum_limit: 6}
"""


def uuid_key(asked: Asked) -> Answer:
    """A uuid as key, an opaque token for the next page, an API key in the query."""
    if asked.query.get("key") != "s3cret-token":
        return 403, {}, b"no"
    rows = [{"uuid": f"00000000-0000-4000-8000-{n:012d}"} for n in range(ROWS)]
    first = int(asked.query.get("token", "t0")[1:])
    token = {"next": f"t{first + 9}"} if first + 9 < ROWS else {}
    return {"page": token, "rows": page_of(rows, first, 9)}


UUID_KEY = """
base_url: URL
auth: {type: api_key, name: key, api_key: {env: ISSUES_TOKEN}, location: query}
tables:
  rows:
    data_selector: rows
    primary_key: uuid
    paginator: {type: cursor, cursor_path: page.next, cursor_param: token}
"""

SHAPES = {
    "Link header": (LINK_HEADER, link_header),
    "starting_after": (STARTING_AFTER, starting_after),
    "count, next, results": (COUNT_NEXT_RESULTS, count_next_results),
    "updated_since": (UPDATED_SINCE, updated_since),
    "composite key": (COMPOSITE_KEY, composite_key),
    "uuid key": (UUID_KEY, uuid_key),
}
