"""Somebody else's project: one flow deployed by `.serve()`, no prefect.yaml, and the tool installed by pip."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from prefect.exceptions import ObjectNotFound

from flows.settings import PROJECT
from tests.integration.automations.support import Here, until

FLOW = """\
from prefect import flow


@flow
def hello(name: str = "world") -> None:
    print(f"hello {name}")


if __name__ == "__main__":
    hello.serve(name="served")
"""


@dataclass
class Stranger:
    """The project, and the command as it was installed."""

    folder: Path
    site: Path
    url: str

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PREFECT_API_URL": self.url, "PYTHONPATH": str(self.site)}

    def run(self, *arguments: str, code: int = 0) -> str:
        """The output of `prefect-automations`."""
        command = [str(self.site / "bin" / "prefect-automations"), *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def serving(self, here: Here) -> Iterator[None]:
        """The flow is served for as long as the block runs."""
        command = [sys.executable, "hello.py"]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                until(lambda: is_deployed(here), "the deployment")
                yield
            finally:
                process.terminate()


def is_deployed(here: Here) -> bool:
    with here.client as client:
        try:
            return client.read_deployment_by_name("hello/served") is not None
        except ObjectNotFound:
            return False


@pytest.fixture
def stranger(tmp_path: Path, here: Here) -> Stranger:
    tool, site = tmp_path / "tool", tmp_path / "site"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(PROJECT / "automations" / "prefect_automations", tool, ignore=ignored)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(tool)]
    subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "hello.py").write_text(FLOW)
    return Stranger(folder, site, here.url)


def test_install_init_validate_plan_apply_rename_plan_export(stranger: Stranger, here: Here) -> None:
    with stranger.serving(here):
        assert "wrote      automations/run_after_event.yaml" in stranger.run(
            "init", "run_after_event", "--deployment", "hello/served"
        )
        assert "0 errors, 1 warning" in stranger.run("validate"), "only the server knows the deployment"
        assert "0 failures" in stranger.run("test")
        assert "Plan: 1 to create, 0 to update, 0 to delete." in stranger.run("plan", "--detailed-exitcode", code=3)
        assert "created    run_after_event" in stranger.run("apply")
        assert "1 unchanged" in stranger.run("plan", "--detailed-exitcode")
        made = here.automations()["run_after_event"]
        here.edit("run_after_event", name="renamed by hand")
        printed = stranger.run("plan", "--detailed-exitcode", code=3)
        assert 'name: "renamed by hand" -> "run_after_event"' in printed
        assert "Plan: 0 to create, 1 to update, 0 to delete." in printed
        stranger.run("apply")
        assert here.automations()["run_after_event"]["id"] == made["id"]
        stranger.run("export", "--dir", "exported")
        (file,) = (stranger.folder / "exported").glob("*.yaml")
        exported = yaml.safe_load(file.read_text())
        assert exported["actions"][0]["deployment"] == "hello/served"
        assert "adopts" not in exported, "it is this project's already"
        assert "1 unchanged" in stranger.run("plan", "--dir", "exported", "--detailed-exitcode")
        here.send("data.landed", {"rows": 1})
        until(lambda: here.runs("hello"), "the run that the event starts")
        stranger.run("destroy", "--yes")
        assert here.automations() == {}
        with here.client as client:
            client.delete_deployment(UUID(str(client.read_deployment_by_name("hello/served").id)))
