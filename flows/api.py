"""Reads a paged JSON API politely and completely. Knows nothing of Prefect.

The API's form is dummyjson.com's: `GET <base>/<entity>?limit=&skip=` answers
`{"<entity>": [...], "total": 194, "skip": 0, "limit": 30}` (https://dummyjson.com/docs).
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_netrc_auth
from urllib3.util import Retry

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
RETRIES = 6
RETRY_AFTER_MAX_SECONDS = 60
"""An API that asks for an hour is tried again after this; urllib3 alone would sleep up to six hours, six times."""


class ApiError(Exception):
    """The API could not be read; the message says which request, what was expected and what came."""


class ApiChanged(ApiError):
    """The pages do not belong together: the data changed while they were read. Reading again may help."""


@dataclass(frozen=True)
class Page:
    """One answer: its records, in the API's order, and how many records the API says it has in all."""

    records: list[dict[str, Any]]
    skip: int
    total: int


@contextlib.contextmanager
def session(base_url: str, retries: int = RETRIES) -> Iterator[requests.Session]:
    """A session that waits and tries again on 429, 502, 503, 504 and broken connections, honouring Retry-After.

    500 is not among them: it says that the request itself breaks the server. With six retries and a doubling
    pause it gives an API about 30 seconds to come back; what takes longer is for the run's own retries.
    """
    retry = Retry(
        total=retries,
        backoff_factor=0.5,
        status_forcelist=(429, 502, 503, 504),
        allowed_methods=("GET",),
        respect_retry_after_header=True,
        retry_after_max=RETRY_AFTER_MAX_SECONDS,
        raise_on_status=False,
    )
    with requests.Session() as made:
        for scheme in ("http://", "https://"):
            made.mount(scheme, HTTPAdapter(max_retries=retry))
        _read_environment_once(made, base_url)
        yield made


def _read_environment_once(http: requests.Session, base_url: str) -> None:
    """Proxies, certificates and .netrc as the environment has them now. Requests looks them up again for every
    request, which costs about as much as parsing 20 records.
    """
    for name, value in http.merge_environment_settings(base_url, {}, None, None, None).items():
        setattr(http, name, value)
    http.auth = get_netrc_auth(base_url)
    http.trust_env = False


def read_pages(base_url: str, entity: str, page_size: int, *, retries: int = RETRIES) -> Iterator[Page]:
    """Every page of an entity, one in memory at a time; a complete and consistent reading, or an error.

    Raises ApiChanged where pages disagree on the total, a record comes twice or fewer come than the total says,
    ApiError for anything else. An entity without records is one page without records.
    """
    if page_size < 1:
        raise ValueError(f"page_size: expected 1 or more records a page, got {page_size}")
    url = f"{base_url.rstrip('/')}/{entity}"
    with session(base_url, retries) as http, _SeenIds(url) as seen:
        total, skip = None, 0
        while total is None or skip < total:
            page = _read_page(http, url, entity, page_size, skip)
            if total is None:
                total = page.total
            if page.total != total:
                raise ApiChanged(
                    f"{url}: total was {total} on the first page, but is {page.total} on the page at skip={skip}: "
                    "records came or went while they were read"
                )
            if not page.records and skip < total:
                raise ApiChanged(
                    f"{url}: the page at skip={skip} is empty, but total is {total}: {total - skip} are missing"
                )
            seen.add(page)
            skip += len(page.records)
            if skip > total:
                raise ApiChanged(f"{url}: {skip} records came up to skip={page.skip}, but total is {total}")
            yield page


def _read_page(http: requests.Session, url: str, entity: str, limit: int, skip: int) -> Page:
    where = f"GET {url} (limit={limit}, skip={skip})"
    try:
        response = http.get(url, params={"limit": limit, "skip": skip}, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.RequestException as error:
        raise ApiError(f"{where}: no answer: {error}") from error
    if not response.ok:
        raise ApiError(f"{where}: expected 200, got {response.status_code} {response.reason}: {_excerpt(response)}")
    try:
        body = json.loads(response.content, parse_constant=_refuse_constant)
    except ValueError as error:
        kind = response.headers.get("Content-Type", "no content type")
        raise ApiError(
            f"{where}: expected JSON, got {kind} that does not parse ({error}): {_excerpt(response)}"
        ) from error
    return _page(body, where, entity, skip)


def _page(body: Any, where: str, entity: str, skip: int) -> Page:
    if not isinstance(body, dict) or not isinstance(records := body.get(entity), list):
        got = f"an object with the keys {sorted(body)}" if isinstance(body, dict) else f"a {type(body).__name__}"
        raise ApiError(f"{where}: expected an object with a list under {entity!r}, got {got[:300]}")
    total = body.get("total")
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        raise ApiError(f"{where}: expected a count under 'total', got {total!r}")
    for position, record in enumerate(records, start=skip):
        if not isinstance(record, dict):
            raise ApiError(f"{where}: expected an object at position {position}, got {json.dumps(record)[:80]}")
        if not isinstance(record.get("id"), int | str) or isinstance(record["id"], bool):
            raise ApiError(
                f"{where}: expected an 'id' (number or text) at position {position}, got {record.get('id')!r}"
            )
    return Page(records, skip, total)


class _SeenIds:
    """Finds an id that comes twice, over any number of records: SQLite's temporary database spills to disk."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> "_SeenIds":
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("pragma synchronous = off")
        self._database.execute("create table seen (id primary key, skip integer) without rowid")
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, page: Page) -> None:
        # Text and numbers are told apart, and a number may be larger than SQLite's integers are.
        ids: list[int | str] = [
            i if isinstance(i := record["id"], int) and abs(i) < 2**63 else json.dumps(i) for record in page.records
        ]
        before = self._database.total_changes
        self._database.execute("begin")
        rows = [(record_id, page.skip) for record_id in ids]
        self._database.executemany("insert into seen values (?, ?) on conflict do nothing", rows)
        self._database.execute("commit")
        if self._database.total_changes - before < len(ids):
            self._refuse(ids, page.skip)

    def _refuse(self, ids: list[int | str], skip: int) -> None:
        """ApiChanged, naming the first of a page's ids that had come before."""
        here = set()
        for record_id in ids:
            (earlier,) = self._database.execute("select skip from seen where id = ?", (record_id,)).fetchone()
            if earlier != skip or record_id in here:
                raise ApiChanged(
                    f"{self._url}: id {record_id} came twice, on the page at skip={earlier} and on the one at "
                    f"skip={skip}: records moved between pages while they were read"
                )
            here.add(record_id)


def _refuse_constant(name: str) -> None:
    """NaN and Infinity pass Python's parser, but are not JSON, and no database would read them back."""
    raise ValueError(f"{name} is not JSON")


def _excerpt(response: requests.Response) -> str:
    text = " ".join(response.text[:400].split())
    return repr(text[:200]) if text else "an empty body"
