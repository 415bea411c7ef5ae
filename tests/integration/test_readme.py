"""A source that is added by the steps of the README is read, built and in the ledger."""

import json
import shutil
import textwrap
from decimal import Decimal
from pathlib import Path

import pytest

from flows.extract import extract
from flows.settings import PROJECT
from flows.transform import transform
from stack import cli
from tests.support.api import Answer, Asked, api
from tests.support.pages import code_blocks
from tests.support.room import Room


def snippet(containing: str) -> str:
    """The one code block of the README with this text in it."""
    (found,) = [block for _, block in code_blocks((PROJECT / "README.md").read_text()) if containing in block]
    return textwrap.dedent(found)


def commands() -> list[list[str]]:
    """What the section types into a shell and is ours, in order."""
    section = (PROJECT / "README.md").read_text().partition("## Add a source")[2].partition("\n## ")[0]
    return [line.split()[2:] for _, block in code_blocks(section) for line in block.split("\n") if "$ baton " in line]


def test_a_second_source_is_added_by_the_steps_of_the_readme(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(PROJECT / "dbt", project, ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copy(PROJECT / "prefect.yaml", tmp_path)
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "helpdesk.yaml").write_text(snippet("base_url:"))
    monkeypatch.setattr(cli, "PROJECT", tmp_path)
    monkeypatch.setenv("BATON_DBT_PROJECT", str(project))
    monkeypatch.setenv("BATON_SOURCES", str(folder))
    monkeypatch.setenv("HELPDESK_TOKEN", "secret-token")
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "target"))

    def tickets(asked: Asked) -> Answer:
        assert asked.headers["authorization"] == "Bearer secret-token"
        page = int(asked.query.get("page", 1))
        rows = [{"id": n, "subject": f"ticket {n}", "price": 1.5} for n in range(3 * page - 2, 3 * page + 1)]
        return {"data": rows, "next": f"/api/tickets?page={page + 1}" if page < 3 else None}

    with api(tickets) as url:
        monkeypatch.setenv("BATON_API_URLS", json.dumps({"helpdesk": f"{url}/api"}))
        assert [command[:2] for command in commands()] == [["source", "try"], ["source", "new"], ["source", "check"]]
        assert [cli.run(command) for command in commands()] == [0, 0, 0]
        assert extract("helpdesk.tickets", return_state=True).is_completed()
    state = transform(return_state=True)
    assert state.is_completed(), state.message
    assert room.rows("select source, rows from ops.ledger") == [("helpdesk.tickets", 9)]
    assert room.rows("select sum(ticket_id), sum(price) from staging.stg_helpdesk__tickets") == [(45, Decimal("13.50"))]
