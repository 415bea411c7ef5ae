"""The status with real runs on a real server: what fails is shown wherever a person looks, until it is fixed."""

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import State, tags
from prefect.artifacts import Artifact
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from flows.extract import extract
from flows.server import events
from flows.server.client import prefect_client
from flows.server.flow_runs import TAG
from flows.server.project_facts import read_facts
from flows.server.schedules import next_runs, read_schedules
from flows.settings import PROJECT, Settings
from flows.status.artifact import KEY, SCHEDULED
from flows.transform import transform
from flows.warehouse.connection import connect
from stack.cli import run as baton
from stack.doctor import examine
from stack.doctor.findings import Finding
from stack.doctor.target import find
from stack.local.processes import wait_until
from tests.support.ledgers import fill
from tests.support.room import Room
from tests.support.small_project import use_project

SOURCE = "dummyjson.products"


def land(room: Room) -> State[Any]:
    with room.api(products=20), tags(TAG):
        return extract(SOURCE, return_state=True)


def sweep() -> State[Any]:
    """A transform as its schedule starts it."""
    with tags(TAG, SCHEDULED):
        return transform(return_state=True)


def artifact() -> str:
    """What the standing artifact says now."""
    found: Any = Artifact.get(KEY)
    return f"{found.description}\n{found.data}"


def status(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and content of `baton status --json`."""
    capsys.readouterr()
    code = baton(["status", "--json"])
    return code, json.loads(capsys.readouterr().out)


def problems_of(content: dict[str, Any], *subjects: str) -> list[str]:
    return [problem["what"] for problem in content["problems"] if problem["subject"] in subjects]


def doctors_findings() -> list[Finding]:
    """What `baton doctor` says of failures."""
    return [finding for finding in examine(find(Path("nowhere"), scale=False)) if finding.check == "failures"]


def test_a_broken_model_is_shown_everywhere_and_after_it_is_fixed_nowhere(
    room: Room, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    use_project(room, tmp_path_factory.getbasetemp(), "users", "carts")
    with room.api(), tags(TAG):
        assert extract("dummyjson.users", return_state=True).is_completed()
    assert sweep().is_completed()
    project = shutil.copytree(Settings().dbt_project, room.landing.parent / "dbt")
    model = project / "models" / "marts" / "dim_products.sql"
    sound = model.read_text()
    model.write_text(sound.replace("select", "select no_such_column,", 1))
    room.patch.setenv("BATON_DBT_PROJECT", str(project))
    assert land(room).is_completed()
    failed = sweep()
    assert failed.is_failed()

    code, content = status(capsys)
    assert code == 1
    (what,) = problems_of(content, "transform")
    assert str(failed.state_details.flow_run_id) in what
    assert "no_such_column" in what
    (line,) = (line for line in content["sources"] if line["source"] == SOURCE)
    assert (line["pending"], line["rows"]) == (1, None)
    assert "marts are not published" in problems_of(content, "marts")[0]
    assert {"dim_products", "dim_users"} <= set(content["unpublished"])
    assert "no_such_column" in artifact()
    found = [finding for finding in doctors_findings() if finding.level == "error"]
    assert [str(failed.state_details.flow_run_id) in finding.message for finding in found] == [True]

    model.write_text(sound)
    assert sweep().is_completed()
    _, content = status(capsys)
    assert problems_of(content, "transform", "marts", SOURCE) == []
    assert [finding.level for finding in doctors_findings() if finding.message.startswith("transform")] == []
    (line,) = (line for line in content["sources"] if line["source"] == SOURCE)
    assert (line["pending"], line["rows"], line["due_by"]) == (0, 20, "dbt")
    assert "no_such_column" not in artifact()
    assert f"`{SOURCE}`" in artifact()


def test_a_failed_extract_is_shown_until_one_lands(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    source = "dummyjson.carts"
    (room.landing.parent / "models").mkdir()
    with room.patch.context() as patch, tags(TAG):
        patch.setenv("BATON_DBT_PROJECT", str(room.landing.parent))  # Has no model of the source.
        failed = extract(source, return_state=True)
    assert failed.is_failed()
    code, content = status(capsys)
    (what,) = problems_of(content, source)
    assert str(failed.state_details.flow_run_id) in what
    assert code == 1
    with room.api(), tags(TAG):
        assert extract(source, return_state=True).is_completed()
    _, content = status(capsys)
    assert problems_of(content, source) == []
    assert str(failed.state_details.flow_run_id) in {run["id"] for run in content["recovered_runs"]}


def test_without_a_server_the_ledger_is_shown_and_the_exit_code_is_1(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(room.landing.parent, 2, 3)
    room.patch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    code, content = status(capsys)
    assert code == 1
    assert "http://127.0.0.1:1/api cannot be reached" in content["server_problem"]
    assert len(content["sources"]) == 2
    assert all(line["rows"] for line in content["sources"])


def test_watch_shows_it_again_until_it_is_interrupted(room: Room) -> None:
    land(room)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "stack", "status", "--watch"]
    watch = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=PROJECT, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while shown.count(SOURCE.encode()) < 2:
            assert select.select([ours], [], [], 60)[0], shown
            shown += os.read(ours, 65536)
        watch.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # A terminal whose last writer has gone.
            while read := os.read(ours, 65536):  # It could not end while it waits for somebody to read.
                shown += read
        assert watch.wait(60) == 130
    finally:
        watch.kill()
        watch.wait()
        os.close(ours)
    assert b"Traceback" not in shown


def test_a_source_that_becomes_stale_is_one_event_and_a_later_sweep_sends_none(room: Room) -> None:
    assert land(room).is_completed()
    assert sweep().is_completed()
    assert room.rows("select source, status, warn_after from ops.freshness") == [(SOURCE, "pass", timedelta(hours=26))]
    long_ago = datetime.now(UTC) - timedelta(hours=30)
    with connect(Settings()) as connection:
        connection.execute("update base.base_dummyjson__products_manifests set _extracted_at = ?", [long_ago])
    state = sweep()
    assert state.name == "NothingToDo"
    assert room.rows("select status, loaded_at from ops.freshness") == [("warn", long_ago)]
    wanted = events.event_id(events.SOURCE_STALE, SOURCE, f"warn {long_ago.isoformat()}")
    found: dict[UUID, Any] = {}

    def arrived() -> bool:
        found.update(events.received([wanted], long_ago))
        return bool(found)

    wait_until(arrived, "source.stale", 30)
    assert found[wanted].payload["source"] == SOURCE
    assert found[wanted].related[0].id == f"prefect.flow-run.{state.state_details.flow_run_id}"
    room.patch.setattr(events, "send", lambda sent: sent and pytest.fail(f"sent again: {sent}"))
    sweep()
    assert room.rows("select status from ops.freshness") == [("warn",)]


def test_a_status_that_cannot_be_written_fails_no_run(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.patch.setattr("flows.status.artifact.read_facts", lambda *_: 1 / 0)
    assert sweep().is_completed()
    assert f"the artifact {KEY} could not be written: division by zero" in caplog.text


def test_schedules_say_when_the_next_run_is_and_how_far_apart_they_are(server: str) -> None:
    now = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)  # A Friday.
    weekdays = CronSchedule(cron="15 0 * * 1-5", timezone="Europe/Berlin")
    with prefect_client() as client:
        made = client.create_deployment(
            client.create_flow_from_name("extract"),
            "status-test",
            tags=[TAG],
            entrypoint="flows/extract.py:extract",
            parameters={"source": "status.test"},
            schedules=[DeploymentScheduleCreate(schedule=weekdays, active=True)],
        )
        try:
            (found,) = (each for each in read_schedules(client, now) if each.source == "status.test")
            assert read_facts(client, now).deployments
        finally:
            client.delete_deployment(made)
    assert found.name == "extract/status-test"
    assert found.next_run == datetime(2026, 11, 29, 23, 15, tzinfo=UTC)
    assert found.longest_gap == timedelta(days=3)


def test_an_interval_is_counted_from_its_anchor() -> None:
    now = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    quarter = IntervalSchedule(interval=timedelta(minutes=15), anchor_date=datetime(2026, 1, 1, 0, 7, tzinfo=UTC))
    first, second, *_ = next_runs(quarter, now)
    assert (first, second - first) == (datetime(2026, 11, 27, 12, 7, tzinfo=UTC), timedelta(minutes=15))
