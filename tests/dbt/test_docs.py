"""The documentation: one page that a browser opens, and a picture that is in step with the models."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import dbt_cost
from tests.dbt.conftest import PROJECT, Place
from tests.support.browser import show

sys.path.insert(0, str(PROJECT))
import lineage


def test_the_picture_in_the_readme_is_the_manifests(place: Place) -> None:
    assert place.dbt("parse").success
    manifest = json.loads(Path(os.environ["DBT_TARGET_PATH"], "manifest.json").read_text())
    text = (PROJECT / "README.md").read_text()
    assert "base_dummyjson__carts --> stg_dummyjson__cart_items" in text
    for readme in lineage.READMES:
        assert lineage.drawn(readme.read_text(), manifest) == readme.read_text(), "run: python dbt/lineage.py"


def test_the_costs_in_the_readme_are_the_measured_ones() -> None:
    results = json.loads(dbt_cost.RESULTS.read_text())
    assert dbt_cost.drawn(dbt_cost.README.read_text(), results) == dbt_cost.README.read_text()
    assert [size["batches_held"] for size in results["sizes"]] == [10, 1000]
    assert results["largest_against_smallest"]["incremental_models_seconds"] <= 1.5


def test_make_docs_makes_a_page_with_the_types_of_the_columns_and_changes_no_file(tmp_path: Path) -> None:
    here, copy = PROJECT.parent, tmp_path / "copy"
    shutil.copytree(PROJECT, copy / "dbt", ignore=shutil.ignore_patterns("target", "logs", "__pycache__"))
    for name in ("Makefile", "README.md", "pyproject.toml", "constraints.txt"):
        shutil.copy2(here / name, copy)
    (copy / ".venv").symlink_to(here / ".venv")
    before = {file: file.read_text() for file in copy.rglob("*.md")}
    subprocess.run(["make", "docs"], cwd=copy, env=environment(), check=True, capture_output=True, timeout=300)
    assert {file: file.read_text() for file in copy.rglob("*.md")} == before
    page = copy / "dbt" / "target" / "static_index.html"
    shown = show(page, tmp_path, "#!/model/model.baton.dim_products_history").document
    assert "When it was first seen that the version no longer holds" in shown
    assert "TIMESTAMP WITH TIME ZONE" in shown
    for schema_or_model in ("dim_products_history", "category_summary", "fct_cart_items"):
        assert schema_or_model in shown


def environment() -> dict[str, str]:
    """That of a user, who has set nothing of ours or of dbt's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("BATON_", "DBT_"))}
