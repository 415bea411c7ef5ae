"""`source try`, `new` and `check` show, write and check what a source needs."""

import shutil
from pathlib import Path

import pytest
import yaml

from flows.errors import ApiChangedError, InvalidInputError
from flows.settings import PROJECT
from flows.sources.reader.check import check_sources
from flows.sources.reader.files import Source, find_source
from flows.sources.reader.look import look_at, show
from flows.sources.reader.scaffold import write_models
from tests.support.api import api, declared

TICKETS = """
base_url: URL
auth: {type: bearer, token: {env: DESK_TOKEN}}
tables:
  tickets:
    data_selector: data
    primary_key: [team, number]
    paginator: {type: cursor, cursor_path: next, cursor_param: after}
    reading: changes
    incremental: {cursor_path: changed, start_param: since, initial_value: 2026-01-01}
"""
ROWS = [
    {
        "team": "a",
        "number": n,
        "changed": f"2026-02-0{n}",
        "who": {"firstName": "Ada"},
        "tags": [0],
        "order": "canary-1",
    }
    for n in range(1, 4)
]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("DESK_TOKEN", "canary-1")
    (tmp_path / "sources").mkdir()
    with api(lambda _: {"data": ROWS, "next": "t2"}) as url:
        yield declared(tmp_path / "sources", TICKETS, url, "desk")["desk.tickets"]


@pytest.fixture
def project(tmp_path: Path) -> tuple[Path, Path]:
    """A dbt project and a prefect.yaml to write into."""
    shutil.copytree(PROJECT / "dbt", tmp_path / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copy(PROJECT / "prefect.yaml", tmp_path)
    return tmp_path / "dbt", tmp_path / "prefect.yaml"


def test_one_page_shows_what_a_reading_would_make_of_it_and_no_secret(desk: Source) -> None:
    shown = show(look_at(desk))
    lines = {line[:9].strip(): line[9:] for line in shown.splitlines()}
    assert lines["request"].endswith("/tickets (since=2026-01-01, page 1)")
    assert lines["records"] == "3 on this page"
    assert lines["key"] == "team, number: ('a', 1), ('a', 2), ('a', 3)"
    assert lines["total"].startswith("none, so only the paginator")
    assert lines["next"].endswith("/tickets (since=2026-01-01, after=t2, page 2)")
    assert lines["cursor"] == "changed, here up to 2026-02-03"
    assert lines["record"].startswith('{"team": "a", "number": 1, ')
    assert "canary-1" not in shown


def test_a_key_that_is_none_is_seen_on_the_first_page(tmp_path: Path, desk: Source) -> None:
    table = desk.table.model_copy(update={"primary_key": ("team",)})
    with pytest.raises(ApiChangedError, match="team 'a' came twice"):
        look_at(Source(desk.name, desk.file, table, desk.system))


def test_a_new_source_gets_its_models_and_its_deployment_and_every_comment_stays(
    desk: Source, project: tuple[Path, Path]
) -> None:
    before = project[1].read_text()
    written = [str(path.relative_to(project[0].parent)) for path in write_models(look_at(desk), *project)]
    base, staging = "dbt/models/base/desk", "dbt/models/staging/desk"
    assert written == [
        f"{base}/__sources.yml",
        f"{base}/base_desk__tickets_manifests.sql",
        f"{base}/base_desk__tickets.sql",
        f"{base}/base_desk__tickets_batches.sql",
        f"{base}/base_desk__tickets.yml",
        f"{staging}/stg_desk__tickets.sql",
        f"{staging}/stg_desk__tickets.yml",
        "prefect.yaml",
    ]
    after = project[1].read_text()
    assert after.startswith(before.rstrip("\n"))
    assert yaml.safe_load(after)["deployments"][-1]["parameters"] == {"source": "desk.tickets", "handoff": "event"}
    (source,) = yaml.safe_load((project[0].parent / written[0]).read_text())["sources"]
    (table,) = source["tables"]
    assert table["config"]["meta"] == {"primary_key": ["team", "number"]}
    assert {column["name"]: column["data_type"] for column in table["columns"]} == {
        "team": "text",
        "number": "bigint",
        "changed": "date",
        "who.firstName": "text",
        "tags[]": "bigint",
        "order": "text",
    }
    model = (project[0].parent / f"{staging}/stg_desk__tickets.sql").read_text()
    assert '"who.firstName" as who_first_name' in model and '"order" as order_' in model
    assert write_models(look_at(desk), *project) == [], "a second time there is nothing left to write"


def test_a_second_table_of_a_system_is_added_to_its_sources(desk: Source, project: tuple[Path, Path]) -> None:
    write_models(look_at(desk), *project)
    other = Source("desk.more_tickets", desk.file, desk.table.model_copy(update={"path": "x"}), desk.system)
    write_models(look_at(other), *project)
    text = (project[0] / "models/base/desk/__sources.yml").read_text()
    assert [table["name"] for table in yaml.safe_load(text)["sources"][0]["tables"]] == ["tickets", "more_tickets"]


def test_a_file_that_ends_otherwise_is_left_as_it_is(desk: Source, project: tuple[Path, Path]) -> None:
    project[1].write_text(project[1].read_text() + "\npull: []\n")
    before = project[1].read_text()
    with pytest.raises(InvalidInputError, match=r"the list to add to is not at its end; put this where it belongs:\n"):
        write_models(look_at(desk), *project)
    assert project[1].read_text() == before


def test_a_page_without_records_has_no_columns_to_see(tmp_path: Path, project: tuple[Path, Path]) -> None:
    with api(lambda _: []) as url:
        text = "base_url: URL\ntables: {rows: {primary_key: [], paginator: {type: single_page}}}"
        look = look_at(declared(tmp_path, text, url)["shop.rows"])
        assert "none: this is the last page" in show(look)
        with pytest.raises(InvalidInputError, match="expected records to see its columns from"):
            write_models(look, *project)


def test_the_check_names_what_a_deployed_source_lacks(
    desk: Source, project: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dbt, prefect = project
    monkeypatch.setenv("SHOP_TOKEN", "any")
    assert check_sources(prefect, dbt) == []
    assert check_sources(prefect, dbt, only="desk.tickets") == [
        f"desk.tickets: expected a deployment in {prefect}, found none; `baton source new desk.tickets` writes it"
    ]
    write_models(look_at(desk), *project)
    (problem,) = check_sources(prefect, dbt, only="desk.tickets")
    assert problem.startswith("desk.tickets: source: 'desk.tickets' belongs to 'desk', which no file declares")
    folders = [desk.file.parent]
    assert check_sources(prefect, dbt, folders) == []
    monkeypatch.delenv("DESK_TOKEN")
    sources = dbt / "models/base/desk/__sources.yml"
    sources.write_text(sources.read_text().replace("- number\n", "- numero\n", 1))
    (dbt / "models/base/desk/base_desk__tickets.sql").unlink()
    assert [problem.partition(";")[0] for problem in check_sources(prefect, dbt, folders)] == [
        "desk.tickets: expected a secret in the environment variable DESK_TOKEN, which is not set",
        f"desk.tickets: expected the base model base_desk__tickets.sql in {dbt}/models, found none",
        "desk.tickets: primary_key is ['team', 'number'] in desk.yaml, but ['team', 'numero'] in the dbt source",
    ]
    assert len(check_sources(prefect, dbt, folders, environments=[])) == 2, "without secrets"
    sources.unlink()
    assert "expected the dbt source desk.tickets in a __sources.yml" in check_sources(prefect, dbt, folders)[-1]


def test_the_sources_of_the_project_are_as_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "any")
    assert check_sources(PROJECT / "prefect.yaml", PROJECT / "dbt") == []
    assert find_source("dummyjson.products").table.primary_key == ("id",)
