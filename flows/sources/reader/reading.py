"""Reads a source completely and consistently, whatever it is: the checks that every reading has to pass.

Where the source gives a total, so many records come. No two have the same key, unless the declaration says
`on_change: keep_last`. And the greatest value of the cursor is known at the end.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import Raw

from flows.errors import ApiChangedError, ApiError
from flows.sources.reader import python_sources, rest_api
from flows.sources.reader.cursors import CursorValue, greatest
from flows.sources.reader.declaration import Contract, Table
from flows.sources.reader.files import Source
from flows.sources.reader.http import RETRIES, Logger
from flows.sources.reader.keys import SeenKeys, seen_keys
from flows.sources.reader.records import Fields
from flows.sources.reader.rest_api import RawPage
from flows.sources.reader.secrets import Secrets
from flows.sources.reader.windows import FULL, Window

LOG_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Page:
    """Some records, and what is known once they have been read."""

    records: Sequence[Raw]
    """Each as the source sent it, on one line."""
    total: int | None
    """How many records the source says it has in all; None if it does not say."""
    cursor: CursorValue | None
    """The greatest value so far, as it came, the previous reading's included; None while there is none."""
    replaced: list[int]
    """Rows of the batch, counted from 0, that records of this page replace."""
    where: str
    """What was asked."""


def read_source(
    source: Source,
    window: Window = FULL,
    page_size: int | None = None,
    *,
    secrets: Secrets | None = None,
    log: Logger | None = None,
    retries: int = RETRIES,
) -> Iterator[Page]:
    """Every page of a source, at least one, one in memory at a time; a complete and consistent reading, or an error.

    Raises ApiChangedError where pages contradict each other (another total, a key twice, fewer records than the total
    says), so that reading again may help; ApiError for anything else, InvalidInputError before the first request.
    """
    secrets, log = secrets or Secrets(), log or logging.getLogger(__name__)
    try:
        yield from _pages(source, window, page_size, secrets, log, retries)
    except ApiError as error:
        # What a source sends back, such as a key, is in messages, and may be what it was given.
        error.args = (secrets.redact(str(error)),)
        raise


def _pages(
    source: Source, window: Window, page_size: int | None, secrets: Secrets, log: Logger, retries: int
) -> Iterator[Page]:
    """Every page, checked; `read_source` says how."""
    read_keys, read_cursors = readers(source.table)
    rows, dropped, cursor = 0, 0, window.previous
    totals: tuple[int, int] | None = None
    logged = time.monotonic()
    with seen_keys() as seen:
        for raw in raw_pages(source, window, page_size, secrets, log, retries):
            totals = _totals(source.table, raw, totals)
            replaced = replaced_rows(source.table, raw, read_keys, seen, rows)
            cursor = greatest_cursor(raw, read_cursors, cursor)
            rows += len(raw.split.records)
            dropped += len(replaced)
            _refuse_too_many(raw, rows, totals)
            if time.monotonic() - logged > LOG_EVERY_SECONDS:
                logged = time.monotonic()
                log.info("%s: %d%s rows read", source.name, rows, "" if raw.total is None else f" of {raw.total}")
            yield Page(raw.split.records, raw.total, cursor, replaced, raw.where)
    _refuse_too_few(raw, rows - dropped, totals)


def raw_pages(
    source: Source, window: Window, page_size: int | None, secrets: Secrets, log: Logger, retries: int = RETRIES
) -> Iterator[RawPage]:
    """Every page as it comes, without the checks over all of them."""
    if isinstance(source.table, Table):
        assert source.system is not None
        return rest_api.read_pages(
            source.system, source.table, source.name, window, page_size, secrets, log, retries=retries
        )
    return python_sources.read_pages(source.table, source.name, window, page_size, secrets, log)


def readers(table: Contract) -> tuple[Fields | None, Fields | None]:
    """What reads the key, and the cursor, of each record."""
    keys = Fields(table.primary_key, int | str) if table.primary_key else None
    if table.incremental is None:
        return keys, None
    return keys, Fields([table.incremental.cursor_path], int | float | str, nested=True)


def _totals(table: Contract, raw: RawPage, before: tuple[int, int] | None) -> tuple[int, int] | None:
    """The total on the first page and on this one. It may only change, and only grow, under `on_change: keep_last`."""
    if raw.total is None:
        return before
    first, last = before or (raw.total, raw.total)
    if raw.total < last or (raw.total != last and table.on_change == "fail"):
        raise ApiChangedError(
            f"{raw.where}: total was {last} before, but is {raw.total} here: records came or went while they were read"
        )
    return first, raw.total


def replaced_rows(table: Contract, raw: RawPage, read_keys: Fields | None, seen: SeenKeys, rows: int) -> list[int]:
    """Earlier rows with the key of one of these records."""
    if read_keys is None:
        return []
    try:
        keys = read_keys.read(raw.split.array)
    except ValueError as error:
        names = ", ".join(table.primary_key)
        raise ApiError(
            f"{raw.where}: expected a whole number or a text as key ({names}) of each record: {error}"
        ) from None
    repeated = seen.add(keys, rows)
    if repeated and table.on_change == "fail":
        earlier, later = repeated[0]
        raise ApiChangedError(
            f"{raw.where}: {', '.join(table.primary_key)} {keys[later - rows]!r} came twice, as record {earlier + 1} "
            f"and as record {later + 1}: records moved between pages while they were read. If the list grows while it "
            "is read, declare on_change: keep_last"
        )
    return [earlier for earlier, _ in repeated]


def greatest_cursor(raw: RawPage, read_cursors: Fields | None, so_far: CursorValue | None) -> CursorValue | None:
    if read_cursors is None:
        return None
    try:
        return greatest(read_cursors.read(raw.split.array), so_far)
    except ValueError as error:
        raise ApiError(
            f"{raw.where}: expected a cursor (a number, or a date or time) in each record: {error}"
        ) from None


def _refuse_too_many(raw: RawPage, rows: int, totals: tuple[int, int] | None) -> None:
    if totals is not None and rows > totals[1]:
        raise ApiChangedError(f"{raw.where}: {rows} records came up to here, but total is {totals[1]}")


def _refuse_too_few(last: RawPage, rows: int, totals: tuple[int, int] | None) -> None:
    """Under `keep_last` records may have come while they were read, so anything between the two totals is right."""
    if totals is not None and not totals[0] <= rows <= totals[1]:
        raise ApiChangedError(
            f"{last.where}: {rows} records came, but total is {totals[0]}: {totals[0] - rows} are missing"
        )
