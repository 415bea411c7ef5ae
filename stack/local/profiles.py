"""What a profile is: the servers, where the data are, and how much runs at once; the rest of a stack is the same.

`one-machine` has one server on SQLite and a DuckDB file, `scale` several of everything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.settings import Settings
from stack import env_files
from stack.processes import StackError

PROFILES = ("one-machine", "scale")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Profile:
    """One way to run Baton on this machine."""

    workers: int
    transforms: int
    """How many transforms may run at once: the limit of the work queue `warehouse`."""
    start: Callable[[Path, Mapping[str, str], int, Say], "Stack"]
    """Starts, under a folder and with an environment, what workers stand on; the first server gets the port."""
    remove: Callable[[Path], list[str]]
    """Removes what `start` has made outside the folder, once nothing runs any more; says what it was."""


@dataclass(frozen=True)
class Stack:
    """A stack that runs: its folder, the URLs of its API servers, the environment that workers and tools have."""

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


def named(name: str) -> Profile:
    """The profile of that name; StackError if it needs packages that are not installed."""
    if name == "scale":
        try:
            from stack.scale.profile import SCALE
        except ImportError as error:
            raise StackError(f"{error}: pip install -c constraints.txt -e '.[scale]'") from error
        return SCALE
    from stack.one_machine import ONE_MACHINE

    return ONE_MACHINE


SETTINGS = env_files.read_template(Path(__file__).with_name("settings.env"))
"""What Prefect is told on every stack."""
