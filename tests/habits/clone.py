"""A copy of the project in a place of its own, used as a person uses a clone: from outside, by its commands."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.settings import PROJECT
from stack.local.processes import free_port, wait_until

NOT_COPIED = ("data", "target", "logs", "__pycache__", "*.egg-info", "node_modules", "results", "docs")
OF_THIS_SESSION = ("PREFECT_", "BATON_", "DBT_", "PYTEST_", "AWS_")
SOURCE = "dummyjson.products"


def copy_project(to: Path) -> None:
    """Everything that a clone has and a stack needs."""
    hidden = [path.name for path in PROJECT.iterdir() if path.name.startswith(".")]
    shutil.copytree(PROJECT, to, ignore=shutil.ignore_patterns(*hidden, *NOT_COPIED))


@dataclass
class Clone:
    """A copy of the project, and how whoever uses it has set up the machine."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    user: str | None = None
    prepare: Callable[[], None] = lambda: None
    """Runs in each process before the command: limits, umask."""
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.port}/api"

    def type(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command of Python's in the folder."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OF_THIS_SESSION)}
        return subprocess.run(
            [self.python, "-m", *command],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": str(self.folder), **self.environment, **variables},
            user=self.user,
            group=None if self.user is None else "nogroup",
            extra_groups=None if self.user is None else [],
            preexec_fn=self.prepare,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def up(self) -> None:
        """`make up`, on a port of its own."""
        done = self.type("stack", "up", "--port", str(self.port))
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> str:
        """`make down`; what it says."""
        return self.type("stack", "down").stdout

    def status(self) -> dict[str, Any]:
        """The line of the source in `baton status`."""
        done = self.type("stack", "status", "--json", PREFECT_API_URL=self.url)
        (line,) = [each for each in json.loads(done.stdout)["sources"] if each["source"] == SOURCE]
        return dict(line)

    def hand_off(self) -> None:
        """An extract by hand, and the transform that the automation starts."""
        before = self.status()["last_batch"]
        command = ("prefect", "deployment", "run", "extract/dummyjson-products")
        started = self.type(*command, PREFECT_API_URL=self.url)  # As `make up` says.
        assert started.returncode == 0, started.stdout + started.stderr

        def processed() -> bool:
            now = self.status()
            return bool(now["last_batch"] != before and now["pending"] == 0 and now["rows"] == 194)

        wait_until(processed, f"a hand-off in {self.folder}", 240, every=1)


def few_descriptors() -> None:
    """256 open files, as macOS and some Linux systems allow."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def private_files() -> None:
    """Nobody else may read what this user makes."""
    os.umask(0o077)
