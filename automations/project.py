"""What `prefect.yaml` says there is: deployments with their flows' parameters, and work pools."""

import sys
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
        return str(load_flow_arguments_from_entrypoint(str(self.folder / self.entrypoint), {"name"})["name"])

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the flow's parameters, from its signature."""
        if str(self.folder) not in sys.path:  # The flow's own imports name the types of its parameters.
            sys.path.insert(0, str(self.folder))
        return parameter_schema_from_entrypoint(str(self.folder / self.entrypoint)).model_dump(exclude_none=True)


@dataclass(frozen=True)
class Project:
    """The names that automations may use."""

    name: str
    deployments: dict[str, Deployment]
    """By flow/deployment."""
    work_pools: set[str]

    @property
    def tag(self) -> str:
        """The mark of ownership: automations with it are this project's, all others are left alone."""
        return f"automations-as-code:{self.name}"


def read_project(folder: Path) -> Project:
    """The project whose `prefect.yaml` is in that folder; ProjectError if there is none."""
    file = folder / "prefect.yaml"
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        deployments = [
            Deployment(str(entry["name"]), folder, str(entry["entrypoint"]), entry.get("parameters") or {})
            for entry in data["deployments"]
        ]
        by_name = {f"{deployment.flow}/{deployment.name}": deployment for deployment in deployments}
    except FileNotFoundError as error:
        raise ProjectError(f"{file}: not there; run this where your prefect.yaml is, or give --project") from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProjectError(f"{file}: expected deployments with name and entrypoint: {error!r}") from error
    pools = {str((entry.get("work_pool") or {}).get("name")) for entry in data["deployments"]}
    return Project(str(data.get("name") or folder.resolve().name), by_name, pools)
