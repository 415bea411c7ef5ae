"""Which part of a source a reading asks for: pure functions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from flows.errors import InvalidInputError
from flows.sources.reader.cursors import CursorValue, duration, earlier, less, sort_key
from flows.sources.reader.declaration import Contract


@dataclass(frozen=True)
class Window:
    """Which part of a source is asked for; `start` and `end` are None where nothing limits it."""

    reading: Literal["full", "changes"]
    start: CursorValue | None = None
    end: CursorValue | None = None
    previous: CursorValue | None = None
    """The greatest value of the cursor that the reading before came to."""
    backfill: bool = False
    """Asked for by hand, so later readings don't go on from it."""


FULL = Window("full")


def plan_window(
    table: Contract,
    previous: CursorValue | None = None,
    *,
    since: str | None = None,
    until: str | None = None,
    full: bool = False,
) -> Window:
    """Everything, or all changes since the value that the previous reading came to, or those of a backfill.

    `lag` is taken from every start but the initial value, so windows that follow each other overlap. InvalidInputError
    for what the table cannot be asked for.
    """
    incremental = table.incremental
    by_hand = since is not None or until is not None
    if by_hand and (full or incremental is None):
        raise InvalidInputError("since, until: expected a source with reading: changes, and not full, to take them")
    if incremental is None:
        return FULL
    if full:
        return Window("full", incremental.initial_value)
    if by_hand:
        return _backfill(incremental.initial_value, incremental.lag, since, until)
    if previous is None:
        return Window("changes", incremental.initial_value)
    if isinstance(previous, str) != isinstance(incremental.initial_value, str):
        raise InvalidInputError(
            f"incremental: expected a cursor of the kind of {incremental.initial_value!r}, but the one before came to "
            f"{previous!r}; read everything once, with full=True"
        )
    return Window("changes", less(previous, incremental.lag), previous=previous)


def _backfill(initial: CursorValue, lag: int | str, since: str | None, until: str | None) -> Window:
    first = initial if since is None else _like(initial, since, "since")
    end = None if until is None else _like(initial, until, "until")
    if end is not None and not sort_key(first) < sort_key(end):
        raise InvalidInputError(f"since, until: expected since before until, got {since!r} and {until!r}")
    return Window("changes", first if since is None else less(first, lag), end, backfill=True)


def split_window(since: str, until: str, every: str) -> Iterator[tuple[str, str]]:
    """Windows of the length `every` from since to until; the last may be shorter.

    `every` is a time such as `1d`, or for numbers a number: `1000`.
    """
    start, end = _number_or_text(since), _number_or_text(until)
    if isinstance(start, str) != isinstance(end, str) or not sort_key(start) < sort_key(end):
        raise InvalidInputError(
            f"since, until: expected since before until, and both of one kind, got {since!r} and {until!r}"
        )
    while sort_key(start) < sort_key(end):
        following = min(_next(start, every), end, key=sort_key)
        if not sort_key(start) < sort_key(following):
            raise InvalidInputError(f"every: expected more than nothing, got {every!r}")
        yield str(start), str(following)
        start = following


def _next(start: CursorValue, every: str) -> CursorValue:
    if not isinstance(start, str):
        return start + int(every)
    step = duration(every, "every")
    return earlier(f"{start}T00:00:00" if len(start) == 10 and step % timedelta(days=1) else start, -step)


def _number_or_text(text: str) -> CursorValue:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _like(example: CursorValue, text: str, name: str) -> CursorValue:
    """The text as a value of the example's kind."""
    try:
        value = text if isinstance(example, str) else int(text)
        sort_key(value)
    except ValueError as error:
        raise InvalidInputError(f"{name}: expected a value of the kind of {example!r}, got {text!r}") from error
    return value
