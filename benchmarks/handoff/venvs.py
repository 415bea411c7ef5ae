"""A virtual environment for each system that is not Prefect, made when it is first needed, with pinned versions."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from flows.settings import PROJECT

FOLDER = PROJECT / ".bench" / "venvs"


def folder(name: str) -> Path:
    """Where it is."""
    return FOLDER / name


def make(name: str) -> None:
    """Installs `benchmarks/<name>.txt`, unless that has been done already."""
    pins = PROJECT / "benchmarks" / f"{name}.txt"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    note = folder(name) / "installed"
    if note.exists() and note.read_text() == digest:
        return
    print(f"making the virtual environment of {name}, once; this takes a few minutes", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder(name))], check=True)
    python = str(folder(name) / "bin" / "python")
    clean = {variable: value for variable, value in os.environ.items() if variable != "PYTHONDONTWRITEBYTECODE"}
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
    subprocess.run(install, check=True, env=clean)
    subprocess.run([python, "-m", "compileall", "-q", "-j", "0", str(folder(name))], env=clean)
    note.write_text(digest)
