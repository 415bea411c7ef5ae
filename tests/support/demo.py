"""The demo, run as its users run it."""

import os
import subprocess
import sys
from pathlib import Path

from flows.settings import PROJECT

OURS = ("PREFECT_", "BATON_LANDING", "BATON_LAKE", "AWS_")


def run_demo(temporary: Path, *options: str) -> str:
    """What it prints. Every number is checked, and that nothing of it runs or stays in the temporary folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    done = subprocess.run(
        [sys.executable, "-m", "stack", "demo", *options],
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
        assert lines[source][-4:] == [rows] * 4
    assert lines["category"] == ["category", "carts", "average_age", "units", "revenue"]
    assert "3 chainings, 0 faults" in done.stdout
    assert list(temporary.glob("baton-demo-*")) == []
    assert str(temporary) not in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
    return done.stdout
