"""The environment of every system but ours, and where it writes what it did."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.settings import PROJECT
from stack.local.processes import wait_until


def of(folder: Path) -> dict[str, str]:
    """The environment of a system's processes: one landing, one warehouse and one dbt target folder each."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        **inherited,
        "BENCH_STAMPS": str(folder / "stamps.jsonl"),
        "BATON_LANDING_ROOT": str(folder / "landing"),
        "BATON_WAREHOUSE": str(folder / "warehouse.duckdb"),
        "DBT_PROJECT_DIR": str(PROJECT / "dbt"),
        "DBT_PROFILES_DIR": str(PROJECT / "dbt"),
        "DBT_TARGET_PATH": str(folder / "dbt" / "target"),
        "DBT_LOG_PATH": str(folder / "dbt" / "logs"),
        "PYTHONPATH": str(PROJECT),
        "TMPDIR": str(folder / "tmp"),
        "DO_NOT_TRACK": "1",
    }


def build_whole_project(environment: dict[str, str]) -> None:
    """Once, before anything is measured, so that what one source feeds can be selected; ours does so by itself."""
    command = [sys.executable, "-m", "dbt.cli.main", "build", "--exclude-resource-type", "unit_test"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-3000:]}{done.stderr[-1000:]}")


@dataclass
class Stamps:
    """What a system writes from now on."""

    folder: Path

    def __post_init__(self) -> None:
        self.file = self.folder / "stamps.jsonl"
        self.start = self.file.stat().st_size if self.file.exists() else 0

    def read(self) -> dict[str, float]:
        """Stage and its moment; of a stage that comes twice, the first."""
        if not self.file.exists():
            return {}
        moments: dict[str, float] = {}
        for line in self.file.read_text()[self.start :].splitlines():
            stamp = json.loads(line)
            moments.setdefault(stamp["stage"], stamp["at"])
        return moments

    def until(self, stage: str, what: str, seconds: float) -> dict[str, float]:
        """The moments, once this stage is among them."""
        wait_until(lambda: stage in self.read(), f"{what}: {stage}", seconds, every=0.05)
        return self.read()
