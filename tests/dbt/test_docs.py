"""The documentation: one page that a browser opens, and a picture that is in step with the models."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import dbt_cost
from tests.dbt.conftest import PROJECT, Place

sys.path.insert(0, str(PROJECT))
import lineage

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


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


def test_a_browser_finds_the_models_on_the_page(place: Place, tmp_path: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None and not os.environ.get("CI"):
        pytest.skip(f"no browser installed: none of {', '.join(BROWSERS)} found")
    assert browser, f"CI must have a browser: none of {', '.join(BROWSERS)} found"
    assert place.dbt("docs", "generate", "--static").success
    page = Path(os.environ["DBT_TARGET_PATH"], "static_index.html")
    shown = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"{page.as_uri()}#!/model/model.baton.dim_products_history",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "When it was first seen that the version no longer holds" in shown
    for schema_or_model in ("dim_products_history", "category_summary", "fct_cart_items"):
        assert schema_or_model in shown
