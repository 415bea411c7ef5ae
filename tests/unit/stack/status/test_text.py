"""What `baton status` prints: a line a source, every problem with what comes next, and JSON for scripts."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from flows.server.failed_runs import FailedRun
from flows.server.project_facts import ProjectFacts
from flows.server.schedules import ScheduledDeployment
from flows.settings import Settings
from flows.status.collect import collect
from flows.status.markdown import in_markdown
from flows.status.model import TRANSFORM, Status
from flows.warehouse import figures, ledger
from flows.warehouse.connection import connect
from stack.status.text import in_json, in_text
from tests.support.ledgers import fill

FIRST = "system00.table_00"
SWEEP = ScheduledDeployment(TRANSFORM, None, datetime(2030, 1, 1, 12, 15, tzinfo=UTC), timedelta(minutes=15))
EXTRACT = ScheduledDeployment("extract/first", FIRST, datetime(2030, 1, 2, 0, 15, tzinfo=UTC), timedelta(hours=24))
FACTS = ProjectFacts((EXTRACT, SWEEP))


def printed(status: Status, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(in_text(status))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_each_source_has_a_line_and_a_healthy_project_has_nothing_to_do(tmp_path: Path) -> None:
    status = collect(fill(tmp_path, 3, 30), FACTS)
    text = printed(status)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("system")] == [
        each.source for each in status.sources
    ]
    assert "3 sources, nothing to do" in text
    assert status.ok


@pytest.mark.parametrize(("width", "left_out"), [(80, {"gaps", "change", "hand-off"}), (120, {"gaps"}), (200, set())])
def test_a_narrow_terminal_shows_fewer_columns_and_cuts_none(tmp_path: Path, width: int, left_out: set[str]) -> None:
    text = printed(collect(fill(tmp_path, 3, 30), FACTS), width)
    assert FIRST in text
    assert "…" not in text
    assert {name for name in ("gaps", "change", "hand-off", "due", "total") if name not in text} == left_out


def test_rows_change_and_percentiles_are_of_the_last_batches(tmp_path: Path) -> None:
    settings = fill(tmp_path, 1, 30)
    with connect(settings) as connection:
        connection.execute(
            "update ops.ledger set landed_at = '2026-01-01', event_at = '2026-01-01', rows = 100, "
            "started_at = '2026-01-01 00:00:02', processed_at = '2026-01-01 00:00:07'"
        )
        connection.execute(
            "update ops.ledger set rows = 90, processed_at = '2026-01-01 01:00:00' where batch_id = "
            "(select min(batch_id) from ops.ledger)"
        )
        connection.execute("update ops.ledger set rows = 120 where batch_id = (select max(batch_id) from ops.ledger)")
    (line,) = collect(settings, FACTS).sources
    assert (line.rows, line.row_change) == (120, 20)
    assert line.handoff and line.total
    assert (line.handoff.p50, line.handoff.p95) == (2, 2)
    assert (line.total.p50, line.total.p95) == (7, 7), "the slow batch is not among the last 20"


def test_a_late_source_says_when_its_next_extract_starts(tmp_path: Path) -> None:
    status = collect(fill(tmp_path, 1, 3, due_minutes=-399), FACTS, datetime.now(UTC) + timedelta(hours=1))
    (problem,) = status.problems
    assert "the last batch is" in problem.what
    assert problem.next_step == "Its next extract starts at 2030-01-02 00:15 UTC"
    assert not status.ok


@pytest.mark.parametrize(("hours", "late"), [(35, False), (37, True)])
def test_a_source_without_dbts_freshness_is_late_one_and_a_half_times_its_schedule_after_the_last_batch(
    tmp_path: Path, hours: int, late: bool
) -> None:
    settings = fill(tmp_path, 1, 3)
    with connect(settings) as connection:
        connection.execute("delete from ops.freshness")
    (line,) = collect(settings, FACTS, datetime.now(UTC) + timedelta(hours=hours - 1)).sources
    assert (line.due, line.due_by) == (timedelta(hours=36), "schedule")
    assert line.is_late == late


def run(flow: str, source: str | None, at: datetime) -> FailedRun:
    return FailedRun(f"id of {flow}", f"{flow} run", flow, source, "Failed", at, at, "no route\n  to the API")


def test_a_run_that_failed_before_the_last_success_is_no_problem_any_more(tmp_path: Path) -> None:
    settings, now = fill(tmp_path, 1, 3), datetime.now(UTC)
    old, new = now - timedelta(hours=5), now
    runs = (run("extract", FIRST, new), run("extract", FIRST, old), run("transform", None, old))
    facts = replace(FACTS, failed_runs=runs, last_success={"transform": now})
    status = collect(settings, facts)
    assert status.failed_runs == (runs[0],)
    assert status.recovered_runs == runs[1:]
    (problem,) = status.problems
    assert problem.subject == FIRST
    assert problem.what == "its last run Failed (extract run, id of extract): no route: to the API"
    assert "prefect deployment run extract/first tries now; its schedule tries again at 2030" in problem.next_step


def test_failed_builds_and_quarantine_say_how_many_why_and_what_next(tmp_path: Path) -> None:
    status = collect(fill(tmp_path, 2, 3, bad=1), FACTS)
    text = printed(status)
    assert "1 of 3" in text
    assert "1 of 3 failed builds: dbt build: 1 of 9 nodes failed" in text
    assert "`baton replay` tries again" in text
    assert "2 sources, 2 problems" in text


def test_what_can_be_known_without_the_server_is_shown(tmp_path: Path) -> None:
    status = collect(fill(tmp_path, 2, 3), "http://127.0.0.1:1/api cannot be reached")
    text = printed(status)
    assert "server  http://127.0.0.1:1/api cannot be reached" in text
    assert "system01.table_00" in text
    assert not status.ok


def test_json_has_the_lines_in_seconds_and_iso_times(tmp_path: Path) -> None:
    content = json.loads(in_json(collect(fill(tmp_path, 2, 3, bad=1), FACTS)))
    assert content["ok"] is False
    (line, _) = content["sources"]
    assert line["due"] >= 90 * 60
    assert datetime.fromisoformat(line["landed_at"]).tzinfo
    assert line["quarantined"]["number"] == 1
    assert {problem["subject"] for problem in content["problems"]} == {FIRST}


def test_the_artifact_is_short_also_for_300_sources(tmp_path: Path) -> None:
    status = collect(
        fill(tmp_path, 300, 3, bad=40), replace(FACTS, failed_runs=(run("orchestrate", None, datetime.now(UTC)),))
    )
    text = in_markdown(status)
    assert text.startswith(f"**{status.summary}**")
    assert "- **orchestrate**: its last run Failed" in text
    assert f"- and {len(status.problems) - 20} more" in text
    assert text.count("\n| `system") == 30
    assert "270 more sources are further from being late" in text


class Counted:
    """A connection that notes its statements."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, statements: list[str]) -> None:
        self.connection, self.statements = connection, statements

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        self.statements.append(query)
        return self.connection.sql(query)


def test_300_sources_and_30_000_batches_cost_six_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, statements = fill(tmp_path, 300, 100), list[str]()

    @contextmanager
    def counted(settings: Settings) -> Iterator[Counted]:
        with ledger.connect_migrated(settings) as connection:
            yield Counted(connection, statements)

    monkeypatch.setattr(figures, "connect_migrated", counted)
    assert len(collect(settings, FACTS).sources) == 300
    assert len(statements) == 6
