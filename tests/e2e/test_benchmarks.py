"""Every benchmark that a page names runs, at its smallest, in a copy of the project: what it measures is not asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.settings import PROJECT
from stack.local.processes import free_port

pytestmark = pytest.mark.timeout(900)
COMMANDS = [
    "-m benchmarks.extract --records 100 --rounds 1",
    "-m benchmarks.increments --held 1,2 --rounds 1",
    "-m benchmarks.handoff --rounds 1 --only handoffs,runs --systems ours --idle-seconds 1",
    "-m benchmarks.handoff --only report",
    "benchmarks/ledger_scale.py --held 1,2 --times 1",
    "benchmarks/publishing.py --megabytes 1 --times 1",
    "benchmarks/dbt_cost.py --held 1,2 --products 10",
    "benchmarks/dbt_progress.py --nodes 20 --rounds 1",
    "-m benchmarks.versions --only page",
]
ELSEWHERE = {"benchmarks/stages.py", "benchmarks.scale", "benchmarks.prefork_hello"}
"""The first has a test of its own. The others are run by hand: they want Postgres and Redis, or install Prefect."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("benchmarks") / "baton"
    shutil.copytree(PROJECT, made, ignore=shutil.ignore_patterns(".*", "data", "target", "logs", "__pycache__"))
    return made


def run(copy: Path, *command: str) -> str:
    """The output of a command with this Python, in the copy."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "BATON_"))}
    done = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, timeout=850
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_benchmark_runs(copy: Path, command: str) -> None:
    run(copy, *command.split())


def test_the_stages_of_a_hand_off_are_found_on_the_stack_of_make_up(copy: Path) -> None:
    port = free_port()
    try:
        run(copy, "-m", "stack", "up", "--port", str(port))
        shown = run(copy, "benchmarks/stages.py", "--count", "1", "--api", f"http://127.0.0.1:{port}/api")
    finally:
        run(copy, "-m", "stack", "down")
    assert "run completed" in shown


def test_every_benchmark_that_a_page_names_is_run_by_a_test() -> None:
    pages = [page for page in PROJECT.rglob("*.md") if not set(page.relative_to(PROJECT).parts) & {".venv", ".bench"}]
    words = {word.strip("`") for page in pages for line in page.read_text().splitlines() for word in line.split()}
    named = {
        word for word in words if word.startswith(("benchmarks.", "benchmarks/")) and not word.endswith((".md", "/"))
    }
    known = {word for command in COMMANDS for word in command.split()} | ELSEWHERE
    scripts = {
        word for word in named if (PROJECT / word.replace(".py", "").replace(".", "/")).with_suffix(".py").exists()
    }
    assert scripts >= {"benchmarks.extract", "benchmarks/stages.py"}
    assert scripts <= known
