"""Times, spans and messages as people read them."""

from datetime import UTC, datetime, timedelta

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
MESSAGE_LENGTH = 280
LINES_SHOWN = 3


def as_span(span: timedelta) -> str:
    """`26 h`, `2 d 3 h`, `9 min 5 s`, `45 s`: the two largest units; no seconds from ten minutes on."""
    seconds = max(round(span.total_seconds()), 0)
    seconds -= seconds % 60 if seconds >= 600 else 0
    for number, (size, unit) in enumerate(UNITS):
        if seconds >= (2 if unit == "d" else 1) * size:
            smaller, name = UNITS[number + 1] if number + 1 < len(UNITS) else (seconds + 1, "")
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {name}" if rest else "")
    return "0 s"


def as_seconds(seconds: float) -> str:
    """`3.2 s` below a minute, longer spans in larger units."""
    return f"{seconds:.1f} s" if seconds < 60 else as_span(timedelta(seconds=seconds))


def as_time(at: datetime) -> str:
    """`2026-11-24 00:15 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def in_short(message: str) -> str:
    """Of a message that may be long and of many lines, as much as fits into one: dbt names the cause in the third."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    text = ": ".join(line.rstrip(".:") for line in lines[:LINES_SHOWN]) or "no message"
    return text if len(text) <= MESSAGE_LENGTH else f"{text[: MESSAGE_LENGTH - 1]}…"
