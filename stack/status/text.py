"""The status for a terminal, and as JSON."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from flows.processing.pending import FAILURES_BEFORE_ISOLATION
from flows.status.model import SourceStatus, Status
from flows.status.words import as_seconds, as_span, as_time
from flows.warehouse.figures import Percentiles

COLUMNS = (
    ("source", "left"),
    ("last batch", "right"),
    ("due", "right"),
    ("rows", "right"),
    ("change", "right"),
    ("hand-off\np50 / p95", "right"),
    ("total\np50 / p95", "right"),
    ("pend-\ning", "right"),
    ("quaran-\ntine", "right"),
    ("gaps", "right"),
    ("failed\nbuilds", "right"),
    ("next try\nUTC", "right"),
)
LEFT_OUT_FIRST = ("gaps", "failed\nbuilds", "quaran-\ntine", "change", "hand-off\np50 / p95", "next try\nUTC")
"""What a narrow terminal has no room for. Gaps, failed builds and quarantine are in the lines below the table, too."""
NOTHING = "-"
WATCH_SECONDS = 5.0
WIDTH = 200
"""Where no terminal says how wide it is."""


def in_text(status: Status) -> RenderableType:
    """A line a source, then every problem, then one line that counts."""
    parts: list[RenderableType] = [
        SourceTable(status) if status.sources else Text("no source has landed or is deployed")
    ]
    if status.warehouse_busy and status.warehouse_problem:
        parts += ["", Text(f"A transform is at work, so the ledger is not shown. {status.warehouse_problem}", "dim")]
    for problem in status.problems:
        since = f"  since {as_time(problem.since)}" if problem.since else ""
        parts += ["", Text.assemble((problem.subject, "bold red"), f"  {problem.what}", (since, "dim"))]
        parts.append(Text(f"  -> {problem.next_step}"))
    return Group(*parts, "", Text(status.summary, "green" if status.ok else "red"))


@dataclass(frozen=True)
class SourceTable:
    """A line a source, with as many of the columns as the terminal has room for."""

    status: Status

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Called by rich."""
        for left_out in range(len(LEFT_OUT_FIRST) + 1):
            table = self.without(LEFT_OUT_FIRST[:left_out])
            if Measurement.get(console, options.update(max_width=WIDTH), table).maximum <= options.max_width:
                break
        yield table

    def without(self, left_out: Collection[str]) -> Table:
        """The table without some of its columns."""
        shown = [number for number, (name, _) in enumerate(COLUMNS) if name not in left_out]
        table = Table(box=None, pad_edge=False, header_style="bold", row_styles=("", ""))
        for number in shown:
            name, side = COLUMNS[number]
            table.add_column(name, justify="left" if side == "left" else "right", no_wrap=True, vertical="bottom")
        for source in self.status.sources:
            line = cells(source, self.status)
            table.add_row(*(line[number] for number in shown))
        return table


def print_status(status: Status) -> None:
    """Prints it; into a file or a pipe without colours, and as wide as it is."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(in_text(status))


def watch_status(read: Callable[[], Status]) -> None:
    """Shows the status and reads it again every five seconds, until Ctrl-C."""
    with Live(in_text(read()), console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(in_text(read()), refresh=True)


def cells(source: SourceStatus, status: Status) -> list[Text]:
    """The cells of one line, in the order of COLUMNS."""
    builds = f"{source.failed_builds.number} of {FAILURES_BEFORE_ISOLATION}" if source.failed_builds else "0"
    overlooked = bool(source.pending_since and status.at - source.pending_since > status.sweep)
    return [
        Text(source.source, "bold red" if any(source.problems(status.sweep, status.at)) else ""),
        marked(as_span(source.age) if source.age else "none yet", source.is_late),
        Text(as_span(source.due) if source.due else NOTHING),
        Text(f"{source.rows:,}" if source.rows is not None else NOTHING),
        Text(as_change(source.row_change)),
        Text(as_percentiles(source.handoff)),
        Text(as_percentiles(source.total)),
        marked(str(source.pending), overlooked),
        marked(str(source.quarantined.number if source.quarantined else 0), source.quarantined is not None),
        marked(str(source.gaps), source.gaps > 0),
        marked(builds, source.failed_builds is not None),
        Text(f"{source.next_try:%m-%d %H:%M}" if source.next_try else NOTHING),
    ]


def marked(text: str, bad: bool) -> Text:
    """Red where something has to be done."""
    return Text(text, "red" if bad else "")


def as_change(rows: int | None) -> str:
    """`+12`, `-3`, `0`, or a dash for a first batch."""
    return NOTHING if rows is None else f"{rows:+,}" if rows else "0"


def as_percentiles(seconds: Percentiles | None) -> str:
    """`1.2 s / 3.4 s`."""
    return f"{as_seconds(seconds.p50)} / {as_seconds(seconds.p95)}" if seconds else NOTHING


def in_json(status: Status) -> str:
    """The status for scripts: spans in seconds, times in ISO 8601."""
    content = {"ok": status.ok, "problems": status.problems, **vars(status)}
    return json.dumps(content, default=as_plain, indent=2)


def as_plain(value: object) -> Any:
    """What JSON has no word for."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return vars(value)
    raise TypeError(f"expected a value of the status, got {value!r}")
