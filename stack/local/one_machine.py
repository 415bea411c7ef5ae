"""The profile for one machine: one server on SQLite, a folder as landing, a DuckDB file as warehouse."""

from collections.abc import Mapping
from pathlib import Path

from stack.local import env_files
from stack.local.env_files import PREFIXES
from stack.local.processes import start_prefect_server
from stack.local.profiles import Profile, Say, Stack


def start(folder: Path, environment: Mapping[str, str], port: int, say: Say) -> Stack:
    """Starts the Prefect server. Leaves its settings in `stack.env`, for doctor and for a shell."""
    url = f"http://127.0.0.1:{port}/api"
    own = {
        # A shell may still have the variables of the other profile.
        **{name: value for name, value in environment.items() if name != "BATON_TARGET"},
        "PREFECT_API_URL": url,
        "BATON_LANDING_ROOT": str(folder / "landing"),
        "BATON_WAREHOUSE": str(folder / "warehouse.duckdb"),
    }
    env_files.write(folder / "stack.env", {name: own[name] for name in sorted(own) if name.startswith(PREFIXES)})
    say(f"Prefect server  starts …; its log is {folder / 'server.log'}")
    start_prefect_server(folder, own, port)
    say(f"Prefect server  {url.removesuffix('/api')}")
    return Stack(folder, ONE_MACHINE, (url,), own)


def remove(_folder: Path) -> list[str]:
    """Removes nothing: everything this profile makes is in the folder."""
    return []


# A DuckDB file has one writing process.
ONE_MACHINE = Profile(workers=1, transforms=1, start=start, remove=remove)
