"""The plots of the status page, as Plotly's figures. Colours that are read on light and on dark."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from statistics import median, quantiles
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from flows.server.failed_runs import FailedRun
from flows.status.model import SourceStatus, Status
from flows.status.words import as_span, in_short
from flows.warehouse.figures import ProcessedBatch

BLUE, ORANGE, RED, GREY = "#4a86c9", "#d98324", "#d0413f", "#8a8f98"
PALETTE = (BLUE, ORANGE, "#4c9f70", "#9a6fb8", "#c25b8a", "#7a8b3a", "#3fa3ad", GREY)
MOST_BARS = 30
"""More bars than these are no picture; the table has all sources."""
MOST_POINTS = 1500
"""Up to so many batches each is a point; of more the median and the 95th percentile of each interval are drawn."""
INTERVALS = 150
LEAST_SECONDS = 0.01
"""A logarithmic axis has no zero."""
BAR_HEIGHT, FRAME_HEIGHT = 24, 100


def freshness(sources: Sequence[SourceStatus]) -> go.Figure:
    """The age of each source's last batch in per cent of the age at which the next is due, the latest at the top."""
    shown = nearest_to_late(sources)[-MOST_BARS:]
    figure = go.Figure(
        go.Bar(
            x=[share(each) for each in shown],
            y=[each.source for each in shown],
            orientation="h",
            marker_color=[RED if each.is_late else BLUE for each in shown],
            text=[as_span(each.age) for each in shown if each.age],
            textposition="auto",
            customdata=[as_span(each.due) for each in shown if each.due],
            hovertemplate="%{y}<br>%{text} old, due after %{customdata}<extra></extra>",
        )
    )
    figure.add_vline(x=100, line={"width": 1.5, "dash": "dot"})
    figure.update_xaxes(title="age of the last batch, % of what is due", ticksuffix=" %", rangemode="tozero")
    return as_bars(figure, len(shown))


def nearest_to_late(sources: Iterable[SourceStatus]) -> list[SourceStatus]:
    """The sources of which the age and what is due are known, the latest at the end."""
    return sorted((each for each in sources if each.age and each.due), key=share)


def share(source: SourceStatus) -> float:
    """The age of the last batch in per cent of what is due."""
    return 100 * source.age / source.due if source.age and source.due else 0.0


def times(history: Sequence[ProcessedBatch], status: Status) -> go.Figure:
    """Seconds of each hand-off and each build over time, and below them when which flow failed."""
    flows = sorted({run.flow for run in (*status.failed_runs, *status.recovered_runs)})
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.44, 0.44, 0.12])
    for row, name, colour in ((1, "handoff", BLUE), (2, "build", ORANGE)):
        points = [(batch, seconds) for batch in history if (seconds := getattr(batch, name)) is not None]
        draw = as_points if len(points) <= MOST_POINTS else as_percentiles
        for trace in draw(points, colour):
            figure.add_trace(trace, row=row, col=1)
    for runs, colour in ((status.recovered_runs, GREY), (status.failed_runs, RED)):
        figure.add_trace(crosses(runs, colour), row=3, col=1)
    figure.update_yaxes(type="log", nticks=6, title="hand-off, s", row=1, col=1)
    figure.update_yaxes(type="log", nticks=6, title="build, s", row=2, col=1)
    figure.update_yaxes(row=3, col=1, categoryarray=flows, showgrid=False, visible=bool(flows))
    figure.update_xaxes(title="processed at (failed at), UTC", row=3, col=1)
    figure.update_layout(height=560, showlegend=False)
    return figure


def as_points(points: Sequence[tuple[ProcessedBatch, float]], colour: str) -> list[go.Scatter]:
    """A point a batch."""
    return [
        go.Scatter(
            x=[batch.processed_at.astimezone(UTC) for batch, _ in points],
            y=[max(seconds, LEAST_SECONDS) for _, seconds in points],
            customdata=[[batch.source, batch.batch_id] for batch, _ in points],
            mode="markers",
            marker={"color": colour, "size": 6, "opacity": 0.75},
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>%{y:.2f} s at %{x|%Y-%m-%d %H:%M}<extra></extra>",
        )
    ]


def as_percentiles(points: Sequence[tuple[ProcessedBatch, float]], colour: str) -> list[go.Scatter]:
    """Median and 95th percentile of each of some 150 intervals."""
    intervals = in_intervals([(batch.processed_at, seconds) for batch, seconds in points])
    numbers = [len(values) for values in intervals.values()]
    lines = (("median", lambda values: median(values), 2.0, 1.0), ("p95", p95, 1.2, 0.55))
    return [
        go.Scatter(
            x=list(intervals),
            y=[max(of(values), LEAST_SECONDS) for values in intervals.values()],
            customdata=numbers,
            mode="lines",
            line={"color": colour, "width": width},
            opacity=opacity,
            hovertemplate=f"{name} of %{{customdata}} batches<br>%{{y:.2f}} s at %{{x|%Y-%m-%d %H:%M}}<extra></extra>",
        )
        for name, of, width, opacity in lines
    ]


def in_intervals(values: Sequence[tuple[datetime, float]]) -> dict[datetime, list[float]]:
    """The values of each interval, by its middle; an interval without any is left out."""
    first, last = values[0][0].timestamp(), max(at for at, _ in values).timestamp()
    width = max((last - first) / INTERVALS, 1.0)
    found: dict[int, list[float]] = {}
    for at, value in values:
        number = min(int((at.timestamp() - first) // width), INTERVALS - 1)
        found.setdefault(number, []).append(value)
    middle = {number: datetime.fromtimestamp(first + (number + 0.5) * width, UTC) for number in found}
    return {middle[number]: found[number] for number in sorted(found)}


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


def crosses(runs: Sequence[FailedRun], colour: str) -> go.Scatter:
    """A cross a failed run, on the line of its flow."""
    return go.Scatter(
        x=[run.ended_at.astimezone(UTC) for run in runs],
        y=[run.flow for run in runs],
        customdata=[[run.name, run.state, in_short(run.message)] for run in runs],
        mode="markers",
        marker={"color": colour, "size": 9, "symbol": "x"},
        hovertemplate="%{customdata[0]}: %{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    )


def waiting(sources: Sequence[SourceStatus]) -> go.Figure | None:
    """Batches in quarantine and pending, of each source that has any; None if there are none."""
    numbers = {each.source: (each.quarantined.number if each.quarantined else 0, each.pending) for each in sources}
    shown = sorted((name for name, number in numbers.items() if any(number)), key=numbers.__getitem__)[-MOST_BARS:]
    if not shown:
        return None
    figure = go.Figure(
        [
            go.Bar(
                name=name,
                x=[numbers[source][position] for source in shown],
                y=shown,
                orientation="h",
                marker_color=colour,
                hovertemplate="%{y}: %{x:,} " + name + "<extra></extra>",
            )
            for position, name, colour in ((0, "in quarantine", RED), (1, "pending", ORANGE))
        ]
    )
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    figure.update_layout(barmode="stack", legend=legend)
    most = max(sum(numbers[source]) for source in shown)
    few = {"dtick": 1, "range": [0, max(most, 4)]} if most < 10 else {}
    figure.update_xaxes(title="batches", rangemode="tozero", tickformat=",d", **few)
    return as_bars(figure, len(shown))


def rows_by_source(history: Iterable[ProcessedBatch]) -> dict[str, dict[str, list[Any]]]:
    """Times in milliseconds and rows of each source's batches: the page draws those that a person chooses."""
    found: dict[str, dict[str, list[Any]]] = {}
    for batch in history:
        series = found.setdefault(batch.source, {"x": [], "y": []})
        series["x"].append(round(batch.processed_at.timestamp() * 1000))
        series["y"].append(batch.rows)
    return found


def as_bars(figure: go.Figure, lines: int) -> go.Figure:
    """The figure with room for so many bars and their names, all equally thick."""
    figure.update_yaxes(automargin=True, ticksuffix="  ", showgrid=False)
    figure.update_layout(height=FRAME_HEIGHT + BAR_HEIGHT * lines, bargap=0.25)
    return figure
