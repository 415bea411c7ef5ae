"""What `make` says before anything is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

from flows.settings import PROJECT

OLD_PYTHON = """#!/bin/sh
exec {python} -c 'import sys; sys.version_info, sys.version = (3, 9, 1), "3.9.1 (old)"; exec(sys.argv[2])' "$@"
"""
"""A Python that thinks it is 3.9, for what `-c` runs."""


def test_a_python_that_is_too_old_is_named_before_anything_is_made(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    python = tmp_path / "python3.9"
    python.write_text(OLD_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    command = ["make", "up", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "expected Python 3.11 or later, got 3.9.1" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_uv_installs_where_it_is_found(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)

    def commands(uv: str) -> str:
        command = ["make", "--dry-run", "up", f"UV={uv}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "uv pip install -c constraints.txt -e ." in commands("/usr/bin/uv")
    assert ".venv/bin/pip install" in commands("")
