"""The import rules of pyproject.toml: the tree keeps them, and each kind of breach is found in a copy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.settings import PROJECT

PACKAGES = ("flows", "automations", "stack", "benchmarks", "tests")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the packages of a folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their rules in another folder."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(PROJECT / "pyproject.toml", folder)
    for package in PACKAGES:
        for file in (PROJECT / package).rglob("*.py"):
            copied = folder / file.relative_to(PROJECT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copied)
    return folder


def test_the_tree_keeps_the_import_rules() -> None:
    done = lint_imports(PROJECT)
    assert done.returncode == 0, done.stdout
    assert " 0 broken." in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        ("flows/landing/writer.py", "import prefect", "Landing, sources and warehouse import no Prefect"),
        ("flows/landing/names.py", "import duckdb", "The landing imports no DuckDB"),
        ("flows/warehouse/ledger.py", "from flows.processing import build", "Each room of flows"),
        ("flows/transform.py", "from flows import extract", "Each room of flows"),
        ("flows/processing/build.py", "import prefect_dbt", "Of flows, only warehouse/dbt.py imports prefect-dbt"),
        ("flows/settings.py", "from stack.local import env_files", "Flows and automations can each be used"),
        ("automations/prefect_automations/project.py", "import flows.settings", "Flows and automations can each be"),
        ("stack/engine/prepare_dbt.py", "import stack.local.up", "Each room of stack"),
        ("stack/local/profiles.py", "import stack.local.up", "There is no import circle"),
        ("stack/demo.py", "import stack.__main__", "No module imports a __main__"),
        ("flows/new_room.py", "", "Each room of flows"),
    ],
)
def test_a_broken_rule_is_found_and_named(copy: Path, file: str, line: str, rule: str) -> None:
    changed = copy / file
    before = changed.read_text() if changed.exists() else None
    changed.write_text(f"{before or ''}\n\ndef hidden():\n    {line or 'pass'}\n")
    try:
        done = lint_imports(copy)
    finally:
        if before is None:
            changed.unlink()
        else:
            changed.write_text(before)
    assert done.returncode == 1, done.stdout
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(rule) for line in broken), done.stdout
