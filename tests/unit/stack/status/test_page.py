"""The status page in a real browser: every plot is drawn, on few batches and on many, on light and on dark."""

import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.errors import BatonError
from flows.server.failed_runs import FailedRun
from flows.server.project_facts import ProjectFacts
from flows.status.collect import collect
from flows.status.model import Status
from flows.warehouse.figures import ProcessedBatch, read_history
from stack.status.page import write_page
from tests.support.browser import Shown, show
from tests.support.ledgers import fill

HOSTILE = "</script><script>console.error('broken out')</script>"


def failed_run(hours: int, message: str = "dbt build: 1 of 9 nodes failed") -> FailedRun:
    at = datetime.now(UTC) - timedelta(hours=hours)
    return FailedRun("0193579f-0000-7000-8000-000000000001", "a run", "transform", None, "Failed", at, at, message)


def made(folder: Path, sources: int, batches: int) -> tuple[Status, list[ProcessedBatch]]:
    """A status with late sources, a failed run and quarantined batches, and the history."""
    settings = fill(folder, sources, batches, bad=2, due_minutes=1)
    found = collect(settings, ProjectFacts(failed_runs=(failed_run(1, HOSTILE),)))
    return replace(found, recovered_runs=(failed_run(5),)), read_history(settings)


def plot(shown: Shown, name: str) -> str:
    """What the browser has drawn of one plot."""
    (found,) = re.findall(rf'<div class="plot[^"]*" id="{name}".*?(?=<h2>)', shown.document, re.S)
    return str(found)


@pytest.mark.parametrize(("sources", "batches", "dark"), [(3, 10, False), (300, 100, True)])
def test_every_plot_is_drawn_and_the_console_is_empty(tmp_path: Path, sources: int, batches: int, dark: bool) -> None:
    status, history = made(tmp_path, sources, batches)
    assert len(history) == sources * batches
    write_page(status, history, tmp_path / "status.html")
    shown = show(tmp_path / "status.html", tmp_path, dark=dark)
    assert shown.console == []
    bars, lines = min(sources, 30), min(sources, 8)
    assert plot(shown, "freshness").count('<g class="point">') == bars
    assert plot(shown, "waiting").count('<g class="point">') >= 2
    assert plot(shown, "rows").count('<g class="trace scatter ') == lines
    times = plot(shown, "times")
    crosses = 2
    if sources * batches <= 1500:
        assert times.count('<path class="point') == 2 * sources * batches + crosses
    else:  # Median and 95th percentile, of hand-off and build.
        assert times.count('<path class="point') == crosses
        assert times.count('class="js-line"') == 4
    ink = set(re.findall(r"<text[^>]*fill: rgb\((\d+), \d+, \d+\)", times))
    assert ink
    assert {int(red) > 128 for red in ink} == {dark}, "text is light on dark and dark on light"
    assert shown.document.count("<tr>") == sources + 1


def test_the_page_asks_for_nothing_and_is_not_broken_by_what_a_message_holds(tmp_path: Path) -> None:
    write_page(*made(tmp_path, 3, 10), tmp_path / "status.html")
    page = (tmp_path / "status.html").read_text()
    own = page[: page.index("<script>")] + page[page.rindex('"use strict";') :]
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", own) == []
    assert "broken out" in own
    assert "<script>console.error" not in own


def test_nothing_landed_yet_is_a_page_too(tmp_path: Path) -> None:
    write_page(collect(fill(tmp_path, 0, 0), ProjectFacts()), [], tmp_path / "status.html")
    shown = show(tmp_path / "status.html", tmp_path)
    assert shown.console == []
    assert "0 sources, nothing to do" in shown.document


def test_without_the_plotting_library_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(BatonError, match=r"plotly.*pip install -c constraints\.txt -e '\.\[status\]'"):
        write_page(collect(fill(tmp_path, 0, 0), ProjectFacts()), [], tmp_path / "status.html")
