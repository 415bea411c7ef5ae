"""Reads a declared table of an HTTP API, page by page. Knows nothing of Prefect."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import requests
from requests.auth import AuthBase

from flows.errors import ApiError, InvalidInputError
from flows.sources.reader.auth import make_auth
from flows.sources.reader.declaration import System, Table
from flows.sources.reader.http import RETRIES, Logger, excerpt, polite_session, reason
from flows.sources.reader.paginators import Answer, Params, Request, first_request, next_request
from flows.sources.reader.records import Split, split
from flows.sources.reader.secrets import Secrets, bare_url, same_host
from flows.sources.reader.windows import Window


@dataclass(frozen=True)
class RawPage:
    """One answer: its records, how many the source says it has in all, and which request it answers."""

    split: Split
    total: int | None
    where: str
    next: Request | None = None
    """The request for the page after it."""


@dataclass(frozen=True)
class Client:
    """A session with what each of its requests needs."""

    http: requests.Session
    auth: AuthBase | None
    secrets: Secrets


def read_pages(
    system: System,
    table: Table,
    name: str,
    window: Window,
    page_size: int | None,
    secrets: Secrets,
    log: Logger,
    *,
    retries: int = RETRIES,
) -> Iterator[RawPage]:
    """Every page, until the paginator finds no next one. ApiError names the request that went wrong."""
    try:
        request: Request | None = first_request(
            table.paginator, table_url(system, table, name), first_params(table, window), page_size
        )
    except ValueError as error:
        raise InvalidInputError(str(error)) from None
    asked: set[int] = set()
    rows = number = 0
    with client(system, secrets, log, retries) as made:
        while request is not None:
            number += 1
            where = describe(request, number, secrets)
            _refuse_another_host(system, request, where)
            _refuse_a_circle(request, asked, where)
            page = _read_page(made, table, request, where, rows)
            rows += len(page.split.records)
            yield page
            request = page.next


@contextlib.contextmanager
def client(system: System, secrets: Secrets, log: Logger, retries: int = RETRIES) -> Iterator[Client]:
    """Connections to the system, with its headers and its auth."""
    with polite_session(system.base_url, log, retries) as http:
        http.headers.update({name: secrets.value(value) for name, value in system.headers.items()})
        yield Client(http, make_auth(system.auth, secrets), secrets)


def table_url(system: System, table: Table, name: str) -> str:
    """Where the table is; by default under its own name."""
    path = name.partition(".")[2] if table.path is None else table.path
    return f"{system.base_url}/{path.lstrip('/')}" if path.strip("/") else system.base_url


def first_params(table: Table, window: Window) -> Params:
    """The table's parameters, and those that limit a reading to a window."""
    params = {key: str(value).lower() if isinstance(value, bool) else value for key, value in table.params.items()}
    if table.incremental is not None:
        if window.start is not None:
            params[table.incremental.start_param] = window.start
        if window.end is not None:
            if table.incremental.end_param is None:
                raise ValueError("until: expected incremental.end_param in the declaration, which has none")
            params[table.incremental.end_param] = window.end
    return params


def _read_page(made: Client, table: Table, request: Request, where: str, rows_before: int) -> RawPage:
    response = _get(made, request, where)
    try:
        found = split(response.content, table.data_selector)
        total = _total(table, response, found)
        answer = Answer(response.url, response.links, found, rows_before + len(found.records), total)
        following = next_request(table.paginator, request, answer)
    except ValueError as error:
        kind = response.headers.get("Content-Type", "no content type")
        problem = made.secrets.redact(str(error))
    else:
        return RawPage(found, total, where, following)
    raise ApiError(f"{where}: {problem}; the answer ({kind}) begins {excerpt(response, made.secrets)}")


def _get(made: Client, request: Request, where: str) -> requests.Response:
    """One answer with status 200. What requests raises never becomes the cause: its messages have URLs in them."""
    broken = None
    try:
        response = made.http.get(request.url, params=dict(request.params), auth=made.auth)
    except requests.RequestException as error:
        broken = reason(error, made.secrets)
    if broken is not None:
        raise ApiError(f"{where}: no answer: {broken}")
    if response.status_code != 200:
        raise ApiError(
            f"{where}: expected 200, got {response.status_code} {response.reason}: {excerpt(response, made.secrets)}"
        )
    return response


def _total(table: Table, response: requests.Response, found: Split) -> int | None:
    if table.total is None:
        return None
    if table.total.header is not None:
        said = response.headers.get(table.total.header, "")
        if not said.isdecimal():
            raise ValueError(f"expected a count in the header {table.total.header}, got {said!r}")
        return int(said)
    total = found.body.value(str(table.total.path))
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        raise ValueError(f"expected a count under {table.total.path!r}, got {total!r}")
    return total


def describe(request: Request, number: int, secrets: Secrets) -> str:
    """A request in a message: without login and query of its URL, and without secrets."""
    params = ", ".join([*(f"{name}={value}" for name, value in request.params.items()), f"page {number}"])
    return secrets.redact(f"GET {bare_url(request.url)} ({params})")


def _refuse_another_host(system: System, request: Request, where: str) -> None:
    if not same_host(system.base_url, request.url):
        raise ApiError(
            f"{where}: the page before names it as the next, but it is on another host than {system.base_url}, and "
            "would get the credentials; if that is right, make it the base_url"
        )


def _refuse_a_circle(request: Request, asked: set[int], where: str) -> None:
    """A page that names itself, or an earlier one, as the next would be read without end."""
    known = hash((request.url, *request.params.items()))
    if known in asked:
        raise ApiError(f"{where}: is named as the next page, but has been read already")
    asked.add(known)
