"""The demo, run as its users run it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from flows.settings import PROJECT

OURS = ("PREFECT_", "BATON_LANDING", "BATON_LAKE", "AWS_")


def command_lines() -> Iterator[str]:
    """Of every process; one that ends meanwhile has none."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield " ".join(process.cmdline())


def run_demo(temporary: Path, *options: str) -> str:
    """What it prints. Every number is checked, and that nothing of it runs or stays in the temporary folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    done = subprocess.run(
        [Path(sys.executable).with_name("baton"), "demo", *options],
        cwd=PROJECT,
        env=environment | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    for chaining, rows in (("triggered", "194"), ("imperative", "452"), ("launch-and-leave", "194")):
        assert lines[chaining][-2:] == [rows, rows]
    for source, rows in (("dummyjson.products", "194"), ("dummyjson.carts", "50"), ("dummyjson.users", "208")):
        assert lines[source][1:2] + lines[source][-4:] == ["full"] + [rows] * 4
    changed = lines["shop.orders"][-1]
    assert lines["shop.orders"][1] == "changes"
    assert (lines["a"][:3], lines["a"][4]) == (["a", "day", "later"], changed)
    (before, _, _), (changed_since, in_mart, in_shop) = lines["first"][-3:], lines["a"][-3:]
    assert changed_since == changed and 0 < int(changed) < 100 < int(before) < int(in_mart) == int(in_shop)
    assert lines["category"] == ["category", "carts", "average_age", "units", "revenue"]
    assert "3 chainings, 0 faults" in done.stdout
    assert list(temporary.glob("baton-demo-*")) == []
    assert [line for line in command_lines() if str(temporary) in line] == []
    return done.stdout
