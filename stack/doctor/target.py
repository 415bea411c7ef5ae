"""What the doctor examines: a server, wherever it is, and the processes of a stack that run on this machine."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import Settings

from automations.prefect_automations.files import AutomationFile
from automations.prefect_automations.loading import load
from automations.prefect_automations.problems import Problem
from automations.prefect_automations.project import Project
from flows.errors import BatonError
from flows.settings import PROJECT
from flows.settings import Settings as BatonSettings
from flows.sources.reader.check import secrets_in
from flows.sources.reader.files import declaration_files, load_system
from stack.local import env_files, processes
from stack.local.env_files import PREFIXES
from stack.local.processes import running

TIMEOUT_SECONDS = 5.0
WAREHOUSE_WAIT_SECONDS = 2.0
"""How long a check waits for a warehouse that another process holds: a person waits for the answer."""
SERVERS = ("server", "services")
PROCESSES = (*SERVERS, "worker", "prefork-engine")
"""The processes whose environment names the stack's Prefect server."""


@dataclass(frozen=True)
class Target:
    """A server with its workers, as this process's environment names it."""

    folder: Path
    scale: bool
    environments: Mapping[str, Mapping[str, str]]
    """The environment of each process of the stack on this machine, by name."""
    commands: Mapping[str, Sequence[str]]
    """The command line of each of them."""

    @cached_property
    def prefect(self) -> Settings:
        """Prefect's settings of now: the environment, then the profile."""
        return Settings()

    @cached_property
    def baton(self) -> BatonSettings:
        """Baton's settings of now, with a short wait for the warehouse."""
        settings = BatonSettings()
        wait = min(settings.warehouse_wait_seconds, WAREHOUSE_WAIT_SECONDS)
        return settings.model_copy(update={"warehouse_wait_seconds": wait})

    @property
    def api(self) -> str:
        return (self.prefect.api.url or "").rstrip("/")

    @property
    def apis(self) -> list[str]:
        """The API server of this process's environment, and those of the stack's processes."""
        urls = (environment.get("PREFECT_API_URL") for environment in self.environments.values())
        return sorted({self.api, *(url for url in urls if url is not None)})

    @cached_property
    def answering(self) -> list[str]:
        """The API servers that answer."""
        return [api for api in self.apis if not why_unreachable(self, api)]

    @property
    def workers(self) -> dict[str, Mapping[str, str]]:
        """The environments of the workers on this machine."""
        return {name: values for name, values in self.environments.items() if name.startswith("worker")}

    @property
    def server_environment(self) -> Mapping[str, str]:
        """The environment of the servers; empty if it cannot be read from here."""
        for name, environment in self.environments.items():
            if name.startswith("server"):
                return environment
        return env_files.read(self.folder / "server.env") if self.scale else {}

    def get(self, path: str, api: str = "", *, identified: bool = True) -> httpx.Response:
        """The answer to a GET with this environment's credentials, or without any.

        Prefect's client raises where the checks need the status and the headers.
        """
        headers = {}
        if identified and self.prefect.api.key:
            headers["Authorization"] = f"Bearer {self.prefect.api.key.get_secret_value()}"
        auth = None
        if identified and self.prefect.api.auth_string:
            user, _, password = self.prefect.api.auth_string.get_secret_value().partition(":")
            auth = httpx.BasicAuth(user, password)
        return httpx.get(f"{api or self.api}{path}", headers=headers, auth=auth, timeout=TIMEOUT_SECONDS)

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """A client of the server that the environment names now; Prefect's own default was read at its import."""
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
    def described(self) -> tuple[list[AutomationFile], Project, list[Problem]]:
        """The automation files, the project that they refer to, and the problems in them."""
        return load((), PROJECT)


def why_unreachable(target: Target, api: str) -> str:
    """Why an API server cannot be used; empty if it can."""
    try:
        answer = target.get("/health", api, identified=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{api} cannot be reached: {error or type(error).__name__}"
    if answer.status_code == 200 and answer.text == "true":
        return ""
    return f"{api}/health does not answer as Prefect's API does ({answer.status_code})"


def find(folder: Path, scale: bool) -> Target:
    """The stack that runs under the folder, or else the server that the environment names.

    This process takes over the environment of the stack's workers, so that it sees what a flow would see; not if
    PREFECT_API_URL names another server. If no worker runs, or the system does not show its environment, the file
    `stack.env` has it.
    """
    pids = {name: pid for name, pid in running(folder).items() if name.startswith(PROCESSES)}
    written = env_files.read(folder / "stack.env")
    of_servers = {**written, **env_files.read(folder / "server.env")}
    environments = {
        name: environment
        for name, pid in pids.items()
        if (environment := environment_of(pid) or (of_servers if name.startswith(SERVERS) else written))
    }
    chosen = os.environ.get("PREFECT_API_URL")
    if chosen and chosen not in {environment.get("PREFECT_API_URL") for environment in environments.values()}:
        return Target(folder, scale, {}, {})
    # The scale profile's servers know nothing of the landing; workers and engine do.
    of_flows = [environment for environment in environments.values() if "BATON_LANDING_ROOT" in environment]
    source = of_flows[0] if of_flows else written
    secrets = secret_variables(source)
    os.environ.update({name: value for name, value in source.items() if name.startswith(PREFIXES) or name in secrets})
    commands = {name: command_of(pids[name]) for name in environments}
    return Target(folder, scale or "services" in pids, environments, commands)


def secret_variables(environment: Mapping[str, str]) -> set[str]:
    """The variables in which the declarations that flows read in this environment expect secrets."""
    extra = environment.get("BATON_SOURCES")
    found: set[str] = set()
    # What cannot be read is for the check of the sources to say.
    with contextlib.suppress(BatonError):
        for file in declaration_files([Path(extra)] if extra else []).values():
            if file.suffix == ".yaml":
                with contextlib.suppress(BatonError):
                    found |= {secret.env for secret in secrets_in(load_system(file)) if secret.env}
    return found


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process of this user was started with; empty if the system does not show it."""
    try:
        return psutil.Process(pid).environ() if processes.on_linux() else {}
    except psutil.Error:
        return {}


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty if it cannot be read."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []
