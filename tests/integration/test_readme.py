"""What the README says to type is what works."""

import os
import re
import shutil
import textwrap
from pathlib import Path

import pytest
import yaml

from flows import build
from flows.extract import extract
from flows.orchestrate import extract_deployment
from flows.settings import PROJECT, Settings
from flows.transform import transform
from stack.sample_api import serving
from tests.room import Room

README = (PROJECT / "README.md").read_text()


def snippet(containing: str) -> str:
    """The one code block of the README with this text in it."""
    blocks = [textwrap.dedent(block) for block in re.findall(r"^ *```\w+\n(.*?)^ *```", README, re.S | re.M)]
    (found,) = [block for block in blocks if containing in block]
    return found


def test_a_second_source_is_added_by_the_steps_of_the_readme(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(PROJECT / "dbt", project, ignore=shutil.ignore_patterns("target", "logs"))
    folder = project / "models" / "base" / "shop"
    folder.mkdir()
    # The sample API has products, not orders: the steps are followed with that one word changed.
    for name, text in (
        ("__sources.yml", snippet("tables:")),
        ("base_shop__products_manifests.sql", snippet("landed_manifests(")),
        ("base_shop__products.sql", snippet("landed_records(")),
    ):
        (folder / name).write_text(text.replace("orders", "products"))
    monkeypatch.setattr(build, "DBT_PROJECT", project)
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "target"))
    with serving(7) as url:
        monkeypatch.setenv("BATON_API_URLS", f'{{"shop": "{url}"}}')
        assert extract("shop.products", return_state=True).is_completed()
    state = transform(return_state=True)
    assert state.is_completed(), state.message
    assert room.rows("select source, rows from ops.ledger") == [("shop.products", 7)]
    assert room.rows("select count(*) from base.base_shop__products") == [(7,)]


def test_the_deployment_of_the_readme_is_the_one_that_the_orchestrator_looks_for() -> None:
    deployments = yaml.safe_load(snippet("name: shop-orders").replace("*extract", "{}").replace("*nightly", "[]"))
    assert f"extract/{deployments[0]['name']}" == extract_deployment("shop.orders")
    assert deployments[0]["parameters"]["source"] == "shop.orders"


def test_every_make_target_is_in_the_readme_and_every_target_there_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^\$ |^)make ([a-z]+)", README, re.M))
    assert named <= targets
    assert targets - {"help"} <= named


def test_every_setting_is_in_the_readme_and_every_setting_there_exists() -> None:
    settings = {f"BATON_{name.upper()}" for name in Settings.model_fields}
    read_by_dbt = set()
    for path in (PROJECT / "dbt").rglob("*"):
        if path.suffix in {".sql", ".yml"} and "target" not in path.parts:
            read_by_dbt |= set(re.findall(r"env_var\('(BATON_\w+)'", path.read_text()))
    assert set(re.findall(r"BATON_[A-Z_]+", README)) == settings | read_by_dbt


def test_the_automation_in_the_readme_is_the_one_that_is_shipped() -> None:
    shipped = yaml.safe_load((PROJECT / "automations" / "transform_when_extract_finishes.yaml").read_text())
    shown = yaml.safe_load(snippet("expect: [extract.finished]"))
    assert shown["actions"] == shipped["actions"]
    assert shown["trigger"] == shipped["trigger"]


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert [link for link in links if not os.path.exists(PROJECT / link)] == []  # noqa: PTH110


def test_flows_and_automations_stand_alone_and_the_helpers_know_nothing_of_prefect() -> None:
    for path in (PROJECT / "flows").glob("*.py"):
        assert not re.search(r"^\s*(?:from|import) (?:automations|stack|benchmarks)\b", path.read_text(), re.M), path
    for path in (PROJECT / "automations").glob("*.py"):
        assert not re.search(r"^\s*(?:from|import) (?:flows|stack|benchmarks)\b", path.read_text(), re.M), path
    for name in ("api", "landing", "ledger", "settings"):
        assert "prefect" not in re.sub(r'""".*?"""', "", (PROJECT / "flows" / f"{name}.py").read_text(), flags=re.S)
