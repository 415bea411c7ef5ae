"""A small project, files in it, and the command."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from automations.prefect_automations.cli import main
from flows.settings import PROJECT

SAMPLES = PROJECT / "automations" / "samples"
GOOD = """\
name: start_it
trigger:
  type: event
  posture: Reactive
  expect: [extract.finished]
  match: {prefect.resource.id: "*", handoff: event}
  threshold: 1
  within: 0
actions:
  - type: run-deployment
    source: selected
    deployment: transform/warehouse
    parameters:
      source: "{{ event.resource.id }}"
"""
FLOWS = """\
from prefect import flow


@flow
def load(table: str, days: int = 1, full: bool = False, mode: str = "append"): ...


@flow
def clean(table: str = "all"): ...
"""


@dataclass
class Small:
    """A project with the deployments load/nightly and clean/weekly, and a folder of automations."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def automations(self) -> Path:
        return self.folder / "automations"

    def write(self, name: str, text: str | Mapping[str, Any]) -> Path:
        """A file of automations; a mapping as YAML."""
        file = self.automations / f"{name}.yaml"
        file.write_text(text if isinstance(text, str) else yaml.safe_dump(dict(text), sort_keys=False))
        return file

    def sample(self, name: str, content: Any) -> Path:
        """A file of samples; what is no text as JSON."""
        file = self.automations / "samples" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def run(self, *arguments: object) -> tuple[int, str]:
        """The exit code and what was printed."""
        self.capsys.readouterr()
        code = main([*map(str, arguments), "--project", str(self.folder)])
        output = self.capsys.readouterr()
        return code, output.err + output.out

    def validate(self, *files: object) -> tuple[int, list[str]]:
        """The exit code and the problems."""
        code, printed = self.run("validate", *files)
        return code, [line for line in printed.splitlines() if ": warning: " in line or ": error: " in line]


def small_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> Small:
    """The project, with nothing in its folder of automations."""
    (folder / "jobs.py").write_text(FLOWS)
    pool = {"name": "p"}
    entries = [
        {"name": "nightly", "entrypoint": "jobs.py:load", "work_pool": pool},
        {"name": "weekly", "entrypoint": "jobs.py:clean", "work_pool": pool, "tags": ["small"]},
    ]
    (folder / "prefect.yaml").write_text(yaml.safe_dump({"name": "small", "deployments": entries}))
    (folder / "automations").mkdir()
    return Small(folder, capsys)


def automation(name: str = "one", **changes: Any) -> dict[str, Any]:
    """A valid one that does nothing, with these changes of the top or, as `trigger__x`, of the trigger."""
    data: dict[str, Any] = {
        "name": name,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": ["prefect.flow-run.Completed"],
            "threshold": 1,
            "within": 0,
        },
        "actions": [{"type": "do-nothing"}],
    }
    for key, value in changes.items():
        first, _, second = key.partition("__")
        if second:
            data[first][second] = value
        else:
            data[first] = value
    return data


def run_deployment(**parameters: Any) -> list[dict[str, Any]]:
    """The actions of an automation that runs load/nightly."""
    return [{"type": "run-deployment", "deployment": "load/nightly", "parameters": parameters}]


def event(name: str = "data.landed", **changes: Any) -> dict[str, Any]:
    """An event as the API gives it."""
    return {
        "id": "0193579f-0000-7000-8000-00000000000e",
        "occurred": "2026-01-01T00:00:00Z",
        "event": name,
        "resource": {"prefect.resource.id": "shop.orders", "prefect.resource.name": "shop.orders", "kind": "full"},
        "related": [],
        "payload": {"rows": 100, "table": "orders"},
    } | changes
