"""Env files: what is written is read back, and templates are filled in."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from stack.local import env_files


def test_a_written_file_reads_the_same_here_and_in_a_shell_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "stack.env"
    variables = {"URL": "postgresql://me:pa$$ 'wo\\\\rd\"&@host/db", "PLAIN": "s3://bucket/prefix"}
    env_files.write(file, variables)
    assert env_files.read(file) == variables
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shell = subprocess.run(
        ["sh", "-c", f"set -a; . {file}; exec env"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert variables.items() <= dict(line.split("=", 1) for line in shell.stdout.splitlines()).items()


def test_a_template_leaves_out_empty_values_and_refuses_missing_names(tmp_path: Path) -> None:
    file = tmp_path / "client.env"
    file.write_text("# A comment.\n\nA=1\nB=${B}\nC=x${B}y\n")
    assert env_files.read_template(file, {"B": ""}) == {"A": "1", "C": "xy"}
    with pytest.raises(KeyError, match="B"):
        env_files.read_template(file)
