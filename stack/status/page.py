"""The status as one page: the plotting library, the data and the style are in the file, so it needs no network."""

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from flows.errors import BatonError
from flows.status.model import SourceStatus, Status
from flows.status.words import as_time
from flows.warehouse.figures import ProcessedBatch
from stack.status.text import COLUMNS, cells

MOST_LINES = 8
"""So many sources can be distinguished by the colours of their lines."""


def write_page(status: Status, history: list[ProcessedBatch], file: Path) -> None:
    """Writes the page. BatonError with the command that installs the plotting library if it is not there."""
    try:
        from plotly.offline import get_plotlyjs

        from stack.status import plots
    except ImportError as error:
        raise BatonError(
            f"--html: expected the package plotly, which draws the page ({error}); "
            "install it: pip install -c constraints.txt -e '.[status]'"
        ) from error
    figures: dict[str, Any] = {
        "freshness": plots.freshness(status.sources),
        "times": plots.times(history, status),
        "waiting": plots.waiting(status.sources),
    }
    rows = plots.rows_by_source(history)
    data = {
        "figures": {name: figure.to_plotly_json() for name, figure in figures.items() if figure is not None},
        "rows": rows,
        "chosen": largest_changes(status, rows.keys()),
        "palette": plots.PALETTE,
    }
    page = template().render(
        status=status,
        columns=[name.replace("-\n", "").replace("\n", " ") for name, _ in COLUMNS],
        lines=[[cell_of(text) for text in cells(source, status)] for source in status.sources],
        shown={"freshness": plots.MOST_BARS, "lines": MOST_LINES, "points": plots.MOST_POINTS},
        without_due=[source.source for source in status.sources if source.age and source.due is None],
        known=len(plots.nearest_to_late(status.sources)),
        history=history,
        data_sources=len(rows),
        has_waiting=figures["waiting"] is not None,
        data=as_script(data),
        plotly=get_plotlyjs(),
    )
    file.write_text(page, encoding="utf-8")


def template() -> Any:
    """The page without its data."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"time": as_time, "code": as_code}
    return environment.get_template("page.html")


def as_code(text: str) -> Markup:
    """Commands in backticks as HTML."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def cell_of(text: Any) -> dict[str, str]:
    """The text of a cell, and whether it is marked."""
    return {"text": text.plain, "mark": "bad" if "red" in str(text.style) else ""}


def largest_changes(status: Status, known: Any) -> list[str]:
    """The sources whose rows changed most against the batch before, in per cent; those the plot shows at first."""

    def change(source: SourceStatus) -> float:
        return abs(source.row_change or 0) / max(source.rows_before or 1, 1)

    by_change = sorted((each for each in status.sources if each.source in known), key=change, reverse=True)
    return sorted(each.source for each in by_change[:MOST_LINES])


def as_script(data: Any) -> str:
    """JSON that can be in a script element whatever it holds."""
    from plotly.utils import PlotlyJSONEncoder

    return json.dumps(data, cls=PlotlyJSONEncoder, separators=(",", ":")).replace("<", "\\u003c")
