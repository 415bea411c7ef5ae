"""Sources in Python, for what is no HTTP API: a generator of pages, and nothing else.

    @table(primary_key="id")
    def orders(context: Context) -> Pages:
        yield [{"id": 1, "total": Decimal("9.90")}]

A page is a list of records (dicts). Decimals keep their digits; dates, times and UUIDs become text in ISO form.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import requests
from pydantic import ConfigDict, ValidationError

from flows.errors import ApiError, BatonError, InvalidInputError
from flows.sources.reader.cursors import CursorValue
from flows.sources.reader.declaration import Contract, Incremental, as_names
from flows.sources.reader.http import Logger, polite_session
from flows.sources.reader.records import split
from flows.sources.reader.rest_api import RawPage
from flows.sources.reader.secrets import Secrets
from flows.sources.reader.windows import Window

Pages = Iterable[Sequence[Mapping[str, Any]]]
PAGE_SIZE = 1000
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Context:
    """What a generator is given."""

    since: CursorValue | None
    """Read records whose cursor is this or greater; None: all."""
    until: CursorValue | None
    """Read up to here; None: to the end."""
    page_size: int
    secret: Callable[[str], str]
    """The value of an environment variable, or of a Prefect Secret block, which no message will show."""
    http: requests.Session
    """Waits and asks again where that helps, and has time-outs."""
    log: Logger


class PythonTable(Contract):
    """A generator of pages, and what its records promise."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    name: str
    pages: Callable[[Context], Pages]


def table(
    *,
    primary_key: str | Sequence[str],
    on_change: Literal["fail", "keep_last"] = "fail",
    cursor_path: str | None = None,
    initial_value: CursorValue | None = None,
    lag: int | str = 0,
) -> Callable[[Callable[[Context], Pages]], PythonTable]:
    """Makes a generator of pages a table that can be extracted, under the function's name.

    With `cursor_path` and `initial_value` it is read by changes. InvalidInputError where these don't fit together.
    """

    def decorate(pages: Callable[[Context], Pages]) -> PythonTable:
        try:
            incremental = None
            if cursor_path is not None:
                incremental = Incremental.model_validate(
                    {
                        "cursor_path": cursor_path,
                        "start_param": "since",
                        "end_param": "until",
                        "initial_value": initial_value,
                        "lag": lag,
                    }
                )
            return PythonTable(
                name=pages.__name__,
                pages=pages,
                primary_key=as_names(primary_key),
                on_change=on_change,
                reading="changes" if incremental else "full",
                incremental=incremental,
            )
        except ValidationError as error:
            raise InvalidInputError(
                f"@table of {pages.__name__}: {error.errors(include_url=False)[0]['msg']}"
            ) from None

    return decorate


def read_pages(
    table: PythonTable, name: str, window: Window, page_size: int | None, secrets: Secrets, log: Logger
) -> Iterator[RawPage]:
    """Every page as the generator yields it. What it raises becomes an ApiError that names it; secrets are left out."""
    with polite_session(log=log) as http:
        context = Context(window.start, window.end, page_size or PAGE_SIZE, secrets.named, http, log)
        number = 0
        pages = iter(_guarded(table, name, context, secrets))
        for number, records in enumerate(pages, start=1):
            where = f"{name} (page {number})"
            try:
                found = split(_as_json(records), "$")
            except ValueError as error:
                raise ApiError(f"{where}: {secrets.redact(str(error))}") from None
            yield RawPage(found, None, where)
        if not number:
            yield RawPage(split(b"[]", "$"), None, f"{name} (no page)")


def _guarded(table: PythonTable, name: str, context: Context, secrets: Secrets) -> Iterator[Any]:
    try:
        yield from table.pages(context)
    except BatonError:
        raise
    except Exception as error:
        problem = secrets.redact(f"{type(error).__name__}: {error}")
        line = _line_in(table, error)
    else:
        return
    raise ApiError(f"{name}: {problem} ({line})")


def _line_in(table: PythonTable, error: Exception) -> str:
    """Where in the generator's own file the error came up."""
    file = table.pages.__code__.co_filename
    line, frame = table.pages.__code__.co_firstlineno, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == file:
            line = frame.tb_lineno
        frame = frame.tb_next
    return f"{file}:{line}"


def _as_json(records: object) -> bytes:
    """A page as JSON; ValueError for what JSON has no form for, such as NaN."""
    if not isinstance(records, list | tuple):
        raise ValueError(f"expected a list of records a page, got {type(records).__name__}")
    for record in records:
        if isinstance(record, dict) and not all(isinstance(key, str) for key in record):
            raise ValueError(f"expected texts as keys, got {next(key for key in record if not isinstance(key, str))!r}")
    try:
        text = _encode(records)
    except (TypeError, UnicodeEncodeError, OverflowError) as error:
        raise ValueError(f"expected values that JSON has a form for: {error}") from None
    if b"null" in text and not all(map(finite, records)):
        raise ValueError(
            "expected numbers, got a NaN or an infinity, which JSON has no form for; make it None or a text"
        )
    return text


def finite(value: object) -> bool:
    """Whether no number in it, at any depth, is NaN or infinite: msgspec would write null for it."""
    match value:
        case float():
            return math.isfinite(value)
        case Mapping():
            return all(map(finite, value.values()))
        case list() | tuple() | set():
            return all(map(finite, value))
    return True
