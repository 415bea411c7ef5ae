"""An engine of the test's own, and modules for it to run beside a fresh interpreter."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.settings import PROJECT
from stack.local import processes

ENGINE = PROJECT / "stack" / "engine"
SECONDS = 120.0


@dataclass(frozen=True)
class Engine:
    """A prefork engine that runs."""

    pid: int
    socket: Path
    log: Path

    def command(self, *module: str) -> list[str]:
        """What replaces `python -m MODULE ARGUMENTS`."""
        return [sys.executable, "-I", "-S", str(ENGINE / "client.py"), str(self.socket), *module]

    def start(self, folder: Path, *module: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a client in a folder; its output can be read."""
        return subprocess.Popen(
            self.command(*module),
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, *module: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a client in a folder to its end."""
        with self.start(folder, *module, **environment) as client:
            out, err = client.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(client.args, client.returncode, out, err)


def start_engine(folder: Path, *preparations: Path) -> Engine:
    """Starts an engine whose socket and log are under the folder."""
    socket = folder / "prefork" / "socket"
    socket.unlink(missing_ok=True)
    command = [sys.executable, str(ENGINE / "server.py"), str(socket), *map(str, preparations)]
    pid = processes.start("engine", command, folder, os.environ, ready=socket.exists)
    return Engine(pid, socket, folder / "engine.log")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for the session, prepared for Prefect, dbt and DuckDB as the stack's is."""
    folder = tmp_path_factory.mktemp("engine")
    yield start_engine(folder, ENGINE / "prepare_dbt.py")
    processes.stop(folder, "engine")


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Engine]:
    """An engine that the test may end, prepared for Prefect only."""
    yield start_engine(tmp_path / "engine")
    processes.stop(tmp_path / "engine", "engine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder of what is run, with room for its modules."""
    made = tmp_path / "work"
    made.mkdir()
    return made
