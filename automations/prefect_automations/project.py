"""What a project says there is: its deployments with their flows' parameters, its work pools and work queues.

All of it is in `prefect.yaml`. A project whose deployments are made by `.serve()` or `.deploy()` may have none; then
its name is the folder's, and only a server knows the rest.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from prefect.flows import load_flow_arguments_from_entrypoint
from prefect.utilities.callables import parameter_schema_from_entrypoint

from .errors import ProjectError

TAG = "automations-as-code"


@dataclass(frozen=True)
class Deployment:
    """One entry of `prefect.yaml`; the entrypoint is relative to the project's folder."""

    name: str
    folder: Path
    entrypoint: str
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @cached_property
    def flow(self) -> str:
        """The flow's name, from the decorator or the function, without running the file."""
        return str(load_flow_arguments_from_entrypoint(self.path, {"name"})["name"])

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the flow's parameters, from its signature."""
        return parameter_schema_from_entrypoint(self.path).model_dump(exclude_none=True)

    @property
    def path(self) -> str:
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
        """The mark of ownership: automations with it are this project's, all others are left as they are."""
        return f"{TAG}:{self.name}"

    def tags_of(self, deployment: str) -> tuple[str, ...]:
        """The tags that every run of a deployment has."""
        return self.deployments[deployment].tags if deployment in self.deployments else ()


def read_project(folder: Path) -> Project:
    """The project in a folder; ProjectError if its prefect.yaml cannot be read."""
    file = folder / "prefect.yaml"
    if not folder.is_dir():
        raise ProjectError(f"{folder}: is no folder; give --project the folder of your prefect.yaml")
    data = load(file) if file.exists() else {}
    data = {} if data is None else data
    entries = data.get("deployments", []) if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
        raise ProjectError(f"{file}:1: expected `deployments`, a list of mappings with name and entrypoint")
    deployments, unread = read_deployments(folder, entries)
    pools = [pool for entry in entries if isinstance(pool := entry.get("work_pool"), dict) and pool.get("name")]
    queues = {f"{pool['name']}/{pool.get('work_queue_name') or 'default'}" for pool in pools}
    name = str(data.get("name") or folder.resolve().name)
    return Project(name, deployments, unread, {str(pool["name"]) for pool in pools}, queues)


def load(file: Path) -> Any:
    """The content of a prefect.yaml; ProjectError, with the line, if it is none."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ProjectError(f"{file}:{line}: not YAML: {getattr(error, 'problem', error)}") from error


def read_deployments(folder: Path, entries: list[Mapping[str, Any]]) -> tuple[dict[str, Deployment], dict[str, str]]:
    """Those whose flow can be read, by flow/deployment; and of the others, by deployment, why not."""
    found, unread = {}, {}
    for entry in entries:
        name, entrypoint = str(entry["name"]), str(entry.get("entrypoint") or "")
        tags = tuple(tag for tag in entry.get("tags") or [] if isinstance(tag, str))
        deployment = Deployment(name, folder, entrypoint, entry.get("parameters") or {}, tags)
        try:
            deployment.schema  # noqa: B018  Read here, so that what cannot be read is said once.
            found[f"{deployment.flow}/{name}"] = deployment
        except Exception as error:  # The flow's file may be imported, and can do anything.
            unread[name] = f"its entrypoint {entrypoint!r} cannot be read here ({error})"
    return found, unread
