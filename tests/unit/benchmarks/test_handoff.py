"""The benchmark's books are right, and its tables say what the raw results say. Nothing is timed here."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from benchmarks.handoff import accounting, report, summary
from flows.settings import PROJECT
from stack.local.processes import wait_until

RECORDED = json.loads((Path(__file__).parent / "recorded_benchmark.json").read_text())


def test_percentiles_are_linear_between_the_two_nearest_values() -> None:
    assert summary.percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.5
    assert summary.percentile([1.0, 2.0], 0.95) == pytest.approx(1.95)
    assert summary.percentile([7.0], 0.95) == 7.0


def test_a_hand_off_is_counted_from_its_event_and_its_cpu_without_what_the_system_uses_at_rest() -> None:
    row = {"system": "ours", "variant": "ours triggered", "event": 100.0, "created": 100.5, "taken": 101.0}
    row |= {"first_line": 102.0, "queryable": 104.0, "cpu": 5.0, "seconds": 10.0}
    found = summary.chainings({"handoffs": [row], "idle": {"ours": {"cores": 0.1}}})
    (chaining,) = found.values()
    assert (chaining.first_line, chaining.queryable, chaining.cpu) == (2.0, 4.0, 4.0)
    assert chaining.stages == (0.5, 0.5, 1.0, 2.0)


def test_every_target_is_judged_from_recorded_results() -> None:
    judged = {target.figure: target for target in summary.targets(RECORDED)}
    assert len(judged) == 14
    assert all(target.measured is not None for target in judged.values())
    ratio = judged["first line: ours triggered / Airflow tuned"]
    found = summary.chainings(RECORDED["handoffs"])
    assert ratio.measured == found["ours triggered"].first_line / found["Airflow tuned"].first_line
    assert ratio.holds == (ratio.measured <= 1.8)


def test_hand_offs_of_systems_that_were_not_measured_are_kept_and_others_only_if_they_are_added_to() -> None:
    def rows(system: str, number: int) -> list[dict[str, Any]]:
        return [{"system": system, "round": each} for each in range(number)]

    earlier = {"handoffs": rows("ours", 2) + rows("airflow", 3), "idle": {"airflow": 1}, "memory": {"ours": 2}}
    measured = {"handoffs": rows("ours", 1), "idle": {"ours": 3}, "memory": {"ours": 4}}
    assert summary.together({}, measured, add=False) == measured
    anew = summary.together(earlier, measured, add=False)
    assert anew["handoffs"] == rows("airflow", 3) + rows("ours", 1)
    assert (anew["idle"], anew["memory"]) == ({"airflow": 1, "ours": 3}, {"ours": 4})
    added = summary.together(earlier, measured, add=True)["handoffs"]
    assert len([row for row in added if row["system"] == "ours"]) == 3


@pytest.mark.parametrize("system", ["airflow", "dagster"])
def test_the_environment_of_each_system_has_what_the_work_that_it_does_imports(system: str) -> None:
    code = "import sys, benchmarks.handoff.work; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    packages = importlib.metadata.packages_distributions()
    declared = {Requirement(each).name for each in importlib.metadata.requires("baton") or []}
    imported = {packages[name][0].lower() for name in done.stdout.split() if name in packages} & declared
    pins = (report.FOLDER / f"{system}.txt").read_text().lower().replace("_", "-")
    assert "isal" in imported
    assert [name for name in sorted(imported) if f"\n{name.replace('_', '-')}==" not in pins] == []


def test_medians_of_extracts_and_of_increments_are_compared() -> None:
    judged = {target.figure: target.measured for target in summary.targets(RECORDED)}
    assert judged["extract of 1,000,000 records: ours / bare loop, CPU"] == 51.36 / 54.51
    assert judged["extract of 1,000,000 records: ours / dlt's REST client, CPU"] == 51.36 / 78.5
    assert judged["extract: peak memory at 1,000,000 / at 10,000 records"] == 107 / 105
    assert judged["transform of an increment of 100 rows: 1,000 / 10 batches held"] == 5.46 / ((4.21 + 4.4) / 2)
    assert "| 1,000 | 5.46 | 1.47 |" in report.markdown(RECORDED)
    assert "| 1,000,000 | 233.79 | 182.00 | 219.49 | 54.51 | 78.50 | 51.36 | 107 |" in report.markdown(RECORDED)


def test_what_was_not_measured_is_said_to_be_so_and_never_holds() -> None:
    for target in summary.targets({}):
        assert target.holds is None
        assert target.cells()[2] == "not measured"


def test_a_burst_that_lost_a_batch_misses_its_target() -> None:
    lost: dict[str, Any] = {"burst": {"ours": {"size": 50, "processed": 49, "dbt_builds": 2}}}
    (target,) = [target for target in summary.targets(lost) if target.figure.startswith("burst")]
    assert target.holds is False


def test_the_tables_and_the_picture_name_every_hand_off() -> None:
    markdown = report.markdown(RECORDED)
    picture = report.picture(list(summary.chainings(RECORDED["handoffs"]).values()))
    for variant in summary.VARIANTS:
        assert f"| {variant} |" in markdown
        assert f">{variant}</text>" in picture
    assert picture.count("<title>") == 4 * len(summary.VARIANTS)
    assert "| figure" in markdown
    assert "1,000,000" in markdown
    assert "yes" in report.text(RECORDED) or "no" in report.text(RECORDED)


def test_the_benchmarks_page_is_what_its_results_say() -> None:
    page = (report.FOLDER / "README.md").read_text()
    results = report.load()
    assert report.MARKED.search(page)
    assert page == report.MARKED.sub(lambda found: found[1] + report.markdown(results) + found[2], page)


BURN = "import time\nwhile time.process_time() < 0.4: pass\n"


@contextmanager
def process(code: str) -> Iterator[int]:
    """A Python process that runs the code, then says so and waits; yields its id once it has said so."""
    code += "\nprint('done', flush=True)\ninput()"
    running = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"done\n"
        yield running.pid
    finally:
        running.kill()
        running.communicate()


def test_the_cpu_of_a_child_that_has_ended_is_in_the_books_of_its_tree() -> None:
    with process(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])") as pid:
        assert len(accounting.tree(pid)) == 1
        assert accounting.cpu_seconds(pid) >= 0.4


def test_the_cpu_and_the_memory_of_a_child_that_lives_are_in_the_books_of_its_tree() -> None:
    child = f"{BURN}\nheld = bytearray(range(256)) * 400_000\nprint(flush=True)\ninput()"
    spawn = f"subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)"
    with process(f"import subprocess, sys; made = {spawn}; made.stdout.readline()") as pid:
        assert len(accounting.tree(pid)) == 2
        assert accounting.cpu_seconds(pid) >= 0.4
        assert accounting.memory_mb(pid) > 97


def test_a_paused_tree_stands_still_until_it_is_resumed() -> None:
    spawn = "subprocess.Popen([sys.executable, '-c', 'while True: pass'])"
    with process(f"import subprocess, sys; made = {spawn}") as pid:
        child = accounting.tree(pid)[1].pid
        try:
            accounting.pause(pid)
            assert {process.state for process in accounting.tree(pid)} == {"T"}
            accounting.resume(pid)
            wait_until(lambda: all(found.state != "T" for found in accounting.tree(pid)), "the tree to go on", 30)
        finally:
            accounting.kill(child)


def test_a_process_that_has_gone_is_no_tree() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert accounting.read(ended.pid) is None
    assert accounting.tree(ended.pid) == []
    assert accounting.read(os.getpid()) is not None
