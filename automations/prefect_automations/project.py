"""What `prefect.yaml` says there is: deployments with their flows' parameters, work pools and work queues."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from prefect.flows import load_flow_arguments_from_entrypoint
from prefect.utilities.callables import parameter_schema_from_entrypoint


class ProjectError(Exception):
    """There is no prefect.yaml that could be read; the message says what to do."""


@dataclass(frozen=True)
class Deployment:
    """One entry of `prefect.yaml`; the entrypoint is relative to the project's folder."""

    name: str
    folder: Path
    entrypoint: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def flow(self) -> str:
        """The flow's name, from the decorator or the function, without running the file."""
        return str(load_flow_arguments_from_entrypoint(self.here, {"name"})["name"])

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the flow's parameters, from its signature."""
        return parameter_schema_from_entrypoint(self.here).model_dump(exclude_none=True)

    @property
    def here(self) -> str:
        """The entrypoint, from wherever this runs."""
        if str(self.folder.resolve()) not in sys.path:  # The flow's own imports name the types of its parameters.
            sys.path.insert(0, str(self.folder.resolve()))
        return str(self.folder / self.entrypoint) if ":" in self.entrypoint else self.entrypoint


@dataclass(frozen=True)
class Project:
    """The names that automations may use."""

    name: str
    deployments: dict[str, Deployment]
    """By flow/deployment."""
    unread: dict[str, str]
    """Deployments whose flow is not to be found here (code that is pulled from elsewhere), and why."""
    work_pools: set[str]
    work_queues: set[str]

    @property
    def tag(self) -> str:
        """The mark of ownership: automations with it are this project's, all others are left alone."""
        return f"automations-as-code:{self.name}"


def read_project(folder: Path) -> Project:
    """The project whose `prefect.yaml` is in that folder; ProjectError if there is none."""
    file = folder / "prefect.yaml"
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProjectError(f"{file}: not there; run this where your prefect.yaml is, or give --project") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ProjectError(f"{file}:{line}: not YAML: {getattr(error, 'problem', error)}") from error
    entries = data.get("deployments") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
        raise ProjectError(f"{file}:1: expected `deployments`, a list of mappings with name and entrypoint")
    deployments, unread = read_deployments(folder, entries)
    pools = [entry.get("work_pool") or {} for entry in entries]
    queues = {f"{pool.get('name')}/{pool.get('work_queue_name') or 'default'}" for pool in pools}
    name = str(data.get("name") or folder.resolve().name)
    return Project(name, deployments, unread, {str(pool.get("name")) for pool in pools}, queues)


def read_deployments(folder: Path, entries: list[Mapping[str, Any]]) -> tuple[dict[str, Deployment], dict[str, str]]:
    """Those whose flow can be read, by flow/deployment; and of the others, by deployment, why not."""
    found, unread = {}, {}
    for entry in entries:
        name, entrypoint = str(entry["name"]), str(entry.get("entrypoint") or "")
        deployment = Deployment(name, folder, entrypoint, entry.get("parameters") or {})
        try:
            found[f"{deployment.flow}/{name}"] = deployment
        except (OSError, ImportError, SyntaxError, ValueError, AttributeError, TypeError) as error:
            unread[name] = f"its entrypoint {entrypoint!r} cannot be read here ({error})"
    return found, unread
