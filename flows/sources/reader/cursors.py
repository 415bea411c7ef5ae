"""Values of a cursor: numbers, and dates or times in ISO 8601. They are compared by value and kept as they came."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

CursorValue = int | float | str
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DURATION = re.compile(r"(\d+)([smhd])")
SKEW = timedelta(days=1)
"""So far ahead of our clock may a source be, or its times be in a zone that they do not name."""


def check_cursor(value: CursorValue) -> None:
    """ValueError for what is neither a number nor an ISO date or time."""
    sort_key(value)


def sort_key(value: CursorValue) -> float:
    """What a value is compared by: itself, or microseconds since 1970. A time without a zone counts as UTC."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"expected a number, or a date or time such as 2026-01-31T12:00:00Z, got {value!r}") from None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def check_lag(initial: CursorValue, lag: int | str) -> None:
    """ValueError unless the lag can be taken from such a value."""
    try:
        less(initial, lag)
    except OverflowError:
        raise ValueError(f"lag: expected a time that leads to no year before 1, got {lag!r}") from None


def less(value: CursorValue, lag: int | str) -> CursorValue:
    """The value less the lag, written as the value is."""
    if lag == 0:
        return value
    if isinstance(value, str):
        return earlier(value, duration(lag, "lag"))
    if isinstance(lag, str) or lag < 0:
        raise ValueError(f"lag: expected a number, as the cursor is one, got {lag!r}")
    return value - lag


def duration(text: int | str, name: str) -> timedelta:
    """`30m`, `2h`, `1d` as a time."""
    match = DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{name}: expected a time such as 30m, 2h or 1d, got {text!r}")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def earlier(text: str, lag: timedelta) -> str:
    """An ISO date or time, so much earlier, written alike. A date is rounded down: rather a day too many."""
    moment = datetime.fromisoformat(text) - lag
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return moment.date().isoformat()
    digits = len(match[1]) if (match := re.search(r"[.,](\d+)", text)) else 0
    written = moment.isoformat(
        " " if " " in text else "T",
        timespec="microseconds" if digits > 3 else "milliseconds" if digits else "seconds",
    )
    return written.removesuffix("+00:00") + "Z" if text[-1] in "Zz" else written


def greatest(values: Iterable[CursorValue], so_far: CursorValue | None) -> CursorValue | None:
    """The greatest value, as it came. One that lies in the future counts for nothing: all later changes would be lost.

    ValueError where numbers and times are mixed.
    """
    latest = sort_key((datetime.now(UTC) + SKEW).isoformat())
    best, best_key = so_far, None if so_far is None else sort_key(so_far)
    for value in values:
        key = sort_key(value)
        if best is not None and isinstance(value, str) != isinstance(best, str):
            raise ValueError(f"expected a value of the kind of {best!r}, got {value!r}")
        in_the_future = isinstance(value, str) and key > latest
        if not in_the_future and (best_key is None or key > best_key):
            best, best_key = value, key
    return best
