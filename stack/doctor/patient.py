"""What is looked at: a server, wherever it is, and the processes of a stack that run on this machine."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import Settings

from automations.__main__ import load
from automations.files import Described, Problem
from automations.project import Project
from flows.settings import PROJECT
from flows.settings import Settings as BatonSettings
from stack import env_files
from stack.processes import running

SECONDS = 5.0
TOLD = ("PREFECT_", "BATON_", "AWS_", "DBT_")
"""What a stack tells its processes begins with one of these."""


@dataclass(frozen=True)
class Patient:
    """A server with its workers, as this process's environment names it.

    `told` is the environment of each process of the stack that runs here, by name, and `commands` its command line;
    empty where that cannot be seen.
    """

    folder: Path
    scale: bool
    told: Mapping[str, Mapping[str, str]]
    commands: Mapping[str, Sequence[str]]

    @cached_property
    def prefect(self) -> Settings:
        """Prefect's settings, read anew: environment, then profile."""
        return Settings()

    @cached_property
    def baton(self) -> BatonSettings:
        """Where the data are. What holds the warehouse is waited for no longer than a person waits."""
        settings = BatonSettings()
        return settings.model_copy(update={"warehouse_wait_seconds": min(settings.warehouse_wait_seconds, 2.0)})

    @property
    def api(self) -> str:
        return (self.prefect.api.url or "").rstrip("/")

    @property
    def apis(self) -> list[str]:
        """The API server that this process is told of, and every one that a process of the stack here is told of."""
        return sorted(
            {self.api, *(told["PREFECT_API_URL"] for told in self.told.values() if "PREFECT_API_URL" in told)}
        )

    @cached_property
    def answering(self) -> list[str]:
        """Those of them that answer."""
        return [api for api in self.apis if not why_not(self, api)]

    @property
    def workers(self) -> dict[str, Mapping[str, str]]:
        """The environments of the workers that run here."""
        return {name: told for name, told in self.told.items() if name.startswith("worker")}

    @property
    def server_told(self) -> Mapping[str, str]:
        """What the servers were told; empty if that cannot be seen from here."""
        here = [told for name, told in self.told.items() if name.startswith("server")]
        return here[0] if here else env_files.read(self.folder / "server.env") if self.scale else {}

    def get(self, path: str, api: str = "", *, identified: bool = True) -> httpx.Response:
        """The answer to a GET, as a client with our credentials, or without any, is given it."""
        headers = {}
        if identified and self.prefect.api.key:
            headers["Authorization"] = f"Bearer {self.prefect.api.key.get_secret_value()}"
        auth = None
        if identified and self.prefect.api.auth_string:
            user, _, password = self.prefect.api.auth_string.get_secret_value().partition(":")
            auth = httpx.BasicAuth(user, password)
        return httpx.get(f"{api or self.api}{path}", headers=headers, auth=auth, timeout=SECONDS)

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """A client of the server that the environment of now names, whenever Prefect was imported."""
        key, auth = self.prefect.api.key, self.prefect.api.auth_string
        with SyncPrefectClient(
            self.api,
            api_key=key.get_secret_value() if key else None,
            auth_string=auth.get_secret_value() if auth else None,
        ) as client:
            yield client

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """The deployments as prefect.yaml has them."""
        return list(yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"])

    @cached_property
    def described(self) -> tuple[list[Described], Project, list[Problem]]:
        """The automations and deployments that the files describe, and what is wrong with the files."""
        return load((), PROJECT)


def why_not(patient: Patient, api: str) -> str:
    """Why an API server cannot be asked; empty if it can."""
    try:
        answer = patient.get("/health", api, identified=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{api} cannot be reached: {error or type(error).__name__}"
    if answer.status_code == 200 and answer.text == "true":
        return ""
    return f"{api}/health does not answer as Prefect's API does ({answer.status_code})"


def find(folder: Path, scale: bool) -> Patient:
    """The stack that runs under the folder, or whatever server the environment names.

    This process then has the environment of the stack's workers, so that it sees what a flow would see; unless
    PREFECT_API_URL says that another server is meant. Where none of them lives, `stack.env` says what they were told.
    """
    alive = running(folder)
    told = {name: variables for name, pid in alive.items() if (variables := environment_of(pid))}
    chosen = os.environ.get("PREFECT_API_URL")
    if chosen and chosen not in {variables.get("PREFECT_API_URL") for variables in told.values()}:
        return Patient(folder, scale, {}, {})
    # Of the stack's processes those that have the data; a server of the scale profile is told nothing of them.
    of_flows = [variables for variables in told.values() if "BATON_LANDING_ROOT" in variables]
    for variables in [*of_flows, env_files.read(folder / "stack.env")][:1]:
        os.environ.update({name: value for name, value in variables.items() if name.startswith(TOLD)})
    return Patient(folder, scale or "services" in alive, told, {name: command_of(alive[name]) for name in told})


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process of this user was started with; empty where the system does not tell."""
    return dict(pair.split("=", 1) for pair in _strings(pid, "environ") if "=" in pair)


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty where the system does not tell."""
    return _strings(pid, "cmdline")


def _strings(pid: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace").split("\0")
    except OSError:
        return []
