"""What a profile is, and what a running stack is; the two profiles are `one_machine` and `scale`.

`one-machine` has one server on SQLite and a DuckDB file, `scale` several of everything. The rest is the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.settings import Settings

ProfileName = Literal["one-machine", "scale"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Profile:
    """One way to run Baton on this machine."""

    workers: int
    transforms: int
    """How many transforms may run at once: the limit of the work queue `warehouse`."""
    start: Callable[[Path, Mapping[str, str], int, Say], "Stack"]
    """Starts, under a folder and with an environment, the servers and stores; the first server gets the port."""
    remove: Callable[[Path], list[str]]
    """Removes what `start` made outside the folder, once nothing runs any more; returns what it removed."""


@dataclass(frozen=True)
class Stack:
    """A running stack: its folder, the URLs of its API servers, the environment of its workers and tools."""

    folder: Path
    profile: Profile
    apis: tuple[str, ...]
    environment: dict[str, str]

    @property
    def prefect_api(self) -> str:
        return self.environment["PREFECT_API_URL"]

    @property
    def settings(self) -> Settings:
        """What this stack's flows read, whatever the environment of this process says."""
        names = ("target", "landing_root", "warehouse", "lake_catalog", "lake_data")
        values = {name: self.environment.get(f"BATON_{name.upper()}") for name in names}
        return Settings.model_validate({"target": "dev", **{name: value for name, value in values.items() if value}})

    @property
    def landing(self) -> Path | str:
        return self.settings.landing_root

    @property
    def warehouse(self) -> Path:
        return self.settings.warehouse
