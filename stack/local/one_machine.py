"""The profile for one machine: one server on SQLite, a folder as landing, a DuckDB file as warehouse."""

from collections.abc import Mapping
from pathlib import Path

from stack.processes import start_prefect_server
from stack.profiles import Profile, Say, Stack


def start(folder: Path, environment: Mapping[str, str], port: int, say: Say) -> Stack:
    """Starts the Prefect server."""
    url = f"http://127.0.0.1:{port}/api"
    own = {
        # A shell may still have the variables of the other profile.
        **{name: value for name, value in environment.items() if name != "BATON_TARGET"},
        "PREFECT_API_URL": url,
        "BATON_LANDING_ROOT": str(folder / "landing"),
        "BATON_WAREHOUSE": str(folder / "warehouse.duckdb"),
    }
    start_prefect_server(folder, own, port)
    say(f"Prefect server  {url.removesuffix('/api')}")
    return Stack(folder, ONE_MACHINE, (url,), own)


def remove(_folder: Path) -> list[str]:
    """Nothing: all of it is in the folder."""
    return []


# A DuckDB file has one writing process.
ONE_MACHINE = Profile(workers=1, transforms=1, start=start, remove=remove)
