"""Sources of other shapes go through landing, event, dbt and ledger by declaration, and no secret goes with them."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.blocks.system import Secret
from prefect.logging.handlers import APILogHandler
from pydantic import SecretStr

from flows.extract import extract
from flows.landing.batch import Manifest, list_batches
from flows.server.secrets import read_secret_block
from flows.settings import PROJECT
from flows.sources.reader.files import Source, load_file
from flows.sources.reader.look import look_at, show
from flows.sources.reader.scaffold import write_models
from flows.sources.reader.secrets import Secrets
from flows.transform import transform
from tests.support.api import Answer, Asked, api, declared
from tests.support.room import Room
from tests.support.shapes import ROWS, SHAPES, UPDATED_SINCE


def run(source: str, **parameters: Any) -> State[Any]:
    return extract(source, return_state=True, **parameters)


@pytest.fixture
def project(room: Room, tmp_path: Path) -> Path:
    """A copy of the dbt project without marts, beside a folder of declarations and a prefect.yaml."""
    made = tmp_path / "dbt"
    without = ("target", "logs", "marts", "exports", "exposures.yml", "analyses", "assert_*.sql")
    shutil.copytree(PROJECT / "dbt", made, ignore=shutil.ignore_patterns(*without))
    # Macros are needed by those names, too.
    shutil.copytree(PROJECT / "dbt" / "macros", made / "macros", dirs_exist_ok=True)
    shutil.copy(PROJECT / "prefect.yaml", tmp_path)
    (tmp_path / "sources").mkdir()
    room.patch.setenv("BATON_DBT_PROJECT", str(made))
    room.patch.setenv("BATON_SOURCES", str(tmp_path / "sources"))
    room.patch.setenv("DBT_TARGET_PATH", str(tmp_path / "target"))
    room.patch.setenv("ISSUES_TOKEN", "s3cret-token")
    return made


def with_models(sources: dict[str, Source], project: Path) -> list[str]:
    """Writes what `baton source new` writes; the names of the sources."""
    for source in sources.values():
        write_models(look_at(source, Secrets(read_secret_block)), project, project.parent / "prefect.yaml")
    return list(sources)


def test_six_shapes_go_through_landing_event_dbt_and_ledger_by_declaration_alone(room: Room, project: Path) -> None:
    with contextlib.ExitStack() as servers:
        names = []
        for number, (text, answer) in enumerate(SHAPES.values()):
            url = servers.enter_context(api(answer))
            names += with_models(declared(project.parent / "sources", text, url, f"shape_{number}"), project)
        manifests = []
        for name in names:
            state = run(name)
            assert state.is_completed(), state.message
            manifests.append(Manifest.model_validate(state.result()))
    said = {shape: (m.primary_key, m.total, m.reading) for shape, m in zip(SHAPES, manifests, strict=True)}
    assert said == {
        "Link header": (("id",), None, "full"),
        "starting_after": (("id",), None, "full"),
        "count, next, results": (("id",), ROWS, "full"),
        "updated_since": (("id",), None, "changes"),
        "composite key": (("order", "line"), ROWS, "full"),
        "uuid key": (("uuid",), None, "full"),
    }
    state = transform(return_state=True)
    assert state.is_completed(), state.message
    # That the ledger knows how a batch was handed over, it has from the event of the batch, as the server has it.
    in_ledger = room.rows("select source, batch_id, rows, handoff from ops.ledger order by source")
    assert in_ledger == [(m.source, m.batch_id, ROWS, "event") for m in manifests]
    for name, manifest in zip(names, manifests, strict=True):
        staged = room.rows(f"select * from staging.stg_{name.replace('.', '__')}")
        assert len(set(staged)) == ROWS
        assert {row[0] for row in staged} == {manifest.batch_id}


class Nights:
    """An API of rows that change from night to night, asked with `updated_since`, four a page."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}

    def change(self, day: int, *ids: int) -> None:
        """So many rows get another value on this day of January, in the order given."""
        for minute, id_ in enumerate(ids):
            at = f"2026-01-{day:02d}T{minute // 60:02d}:{minute % 60:02d}:00Z"
            self.rows[id_] = {"id": id_, "value": f"{day}.{id_}", "meta": {"updated": at}}

    def answer(self, asked: Asked) -> Answer:
        """A page of what changed since."""
        found = [row for row in self.rows.values() if row["meta"]["updated"] >= asked.query["updated_since"]]
        if "updated_until" in asked.query:
            found = [row for row in found if row["meta"]["updated"] < asked.query["updated_until"]]
        first = 4 * (int(asked.query["page"]) - 1)
        return {"rows": sorted(found, key=lambda row: row["meta"]["updated"])[first : first + 4]}


NIGHTLY = UPDATED_SINCE.replace("lag: 2m", "lag: 2m, end_param: updated_until")


def landed(state: State[Any]) -> Manifest:
    assert state.is_completed(), state.message
    time.sleep(1)  # Batches are in order by the second of their runs.
    return Manifest.model_validate(state.result())


def test_night_by_night_only_what_changed_is_read_and_the_current_rows_are_those_of_the_source(
    room: Room, project: Path
) -> None:
    nights = Nights()
    nights.change(1, *range(100))
    with api(nights.answer) as url:
        (name,) = with_models(declared(project.parent / "sources", NIGHTLY, url, "nightly"), project)
        first = landed(run(name))
        assert (first.rows, first.reading, first.follows, first.total) == (100, "changes", None, None)
        assert (first.cursor_from, first.cursor_to) == ("2026-01-01T00:00:00Z", "2026-01-01T01:39:00Z")
        nights.change(2, 3, 5, 7, 11, 13)
        second = landed(run(name))
        # Three rows of the first night lie within the lag.
        assert (second.rows, second.follows, second.cursor_from) == (8, first.batch_id, "2026-01-01T01:37:00Z")
        nights.change(3, *range(90, 97))
        third = landed(run(name))
        assert third.follows == second.batch_id
        backfill = landed(run(name, since="2026-01-02T00:00:00Z", until="2026-01-02T00:03:00Z"))
        assert (backfill.rows, backfill.backfill, backfill.cursor_until) == (3, True, "2026-01-02T00:03:00Z")
        quiet = landed(run(name))
        assert (quiet.follows, quiet.cursor_to) == (third.batch_id, third.cursor_to), "the backfill moves nothing"
        full = landed(run(name, full=True))
        assert (full.rows, full.reading, full.backfill) == (100, "full", False)
    state = transform(return_state=True)
    assert state.is_completed(), state.message
    newest = "qualify row_number() over (partition by row_id order by meta_updated desc, _batch_id desc) = 1"
    current = room.rows(f"select row_id, value from staging.stg_nightly__rows {newest}")
    assert dict(current) == {row["id"]: row["value"] for row in nights.rows.values()}


def test_a_source_without_a_model_is_refused_before_anything_is_asked(room: Room, project: Path) -> None:
    asked: list[Asked] = []

    def answer(request: Asked) -> Answer:
        asked.append(request)
        return {"rows": []}

    with api(answer) as url:
        declared(project.parent / "sources", UPDATED_SINCE, url, "unknown")
        state = run("unknown.rows")
    assert "expected base_unknown__rows.sql" in str(state.message)
    assert (asked, list_batches(room.landing)) == ([], [])


def test_a_source_in_python_is_landed_like_any_other(room: Room, project: Path, tmp_path: Path) -> None:
    example = PROJECT / "flows" / "sources" / "examples" / "csv_files.py"
    shutil.copy(example, tmp_path / "sources" / "files.py")
    lines = tmp_path / "lines.csv"
    lines.write_text("order_id,line,total\n1,1,0012345678901234567890.10\n1,2,3\n")
    room.patch.setenv("ORDER_LINES_CSV", str(lines))
    (name,) = with_models(load_file(tmp_path / "sources" / "files.py"), project)
    manifest = landed(run(name))
    assert (manifest.rows, manifest.primary_key, manifest.completeness) == (2, ("order_id", "line"), "last_page")


CANARY = "canary-5ecret-value"
KEY = f"block-{CANARY}"
WITH_SECRETS = """
base_url: URL
headers: {X-Env: {env: CANARY}}
auth: {type: api_key, name: key, api_key: {block: baton-canary}, location: query}
tables:
  rows: {data_selector: rows, primary_key: id, paginator: {type: json_link, next_url_path: next}}
"""
JSON = {"Content-Type": "application/json"}
FAILURES: dict[str, Answer] = {
    "expected 200, got 401": (401, JSON, json.dumps({"bad key": KEY}).encode()),
    "expected 200, got 403": (403, JSON, json.dumps({"bad header": CANARY}).encode()),
    "expected 200, got 500": (500, {}, f"<html>Traceback: GET /rows?key={KEY} X-Env: {CANARY}".encode()),
    "but it is on another host": {"rows": [], "next": f"http://other.example/{KEY}?key={KEY}&token={CANARY}"},
    "got a redirect to another host": (302, {"Location": f"http://other.example/{KEY}?key={KEY}"}, b""),
    "expected a list under 'rows'": {"rows": CANARY},
    "came twice": {"rows": [{"id": KEY}, {"id": KEY}], "next": None},
}
"""What a failed run says -> the answer that makes it fail, by an API that repeats what it was given."""


def test_a_secret_is_nowhere_afterwards_whether_the_extract_succeeds_or_fails(room: Room, project: Path) -> None:
    """Nowhere: states, logs, events and artifacts are in the server's database, which is searched as a file."""
    room.patch.setenv("CANARY", CANARY)
    block: Secret[str] = Secret(value=SecretStr(KEY))
    block.save("baton-canary", overwrite=True)
    processes: list[str] = []

    def answering(asked: Asked) -> Answer:
        assert (asked.query["key"], asked.headers["x-env"]) == (KEY, CANARY)
        processes.append(subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout)
        return {"rows": [{"id": 1}], "next": None}

    given: list[Answer] = []
    shown = []
    with api(answering) as url:
        sources = declared(project.parent / "sources", WITH_SECRETS, url, "guarded")
        (name,) = with_models(sources, project)
        assert run(name).is_completed()
        assert transform(return_state=True).is_completed()
        shown.append(show(look_at(sources[name], Secrets(read_secret_block))))
    with api(lambda _: given[-1]) as url:
        declared(project.parent / "sources", WITH_SECRETS, url, "guarded")
        for words, answer in FAILURES.items():
            given.append(answer)
            state = run(name)
            assert state.is_failed()
            assert words in str(state.message)
            shown.append(str(state.message))
    APILogHandler().flush()
    assert "pytest" in processes[0], "ps shows arguments"
    assert CANARY not in "\n".join([*shown, *processes])
    home = Path(os.environ["PREFECT_HOME"]).parent
    # What the search would find: a state's message, a line of the log, an event and an artifact.
    for known in (b"expected 200, got 401", b", published at", b"extract.finished", b"batch-guarded-rows"):
        assert files_with(known, home)
    assert files_with(b"guarded", room.landing, room.warehouse.parent)
    assert files_with(CANARY.encode(), home, room.landing, room.warehouse.parent) == []


def files_with(text: bytes, *folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]
