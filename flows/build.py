"""One dbt invocation through prefect-dbt, and what came of it.

dbt is reached through its files, its environment variables and prefect-dbt only. It is imported when it is used:
a run that finds nothing to do, or a bad argument, never pays for it.
"""

import contextvars
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import lake
from flows.landing import LandingError
from flows.ledger import Conflict, WarehouseBusy
from flows.settings import PROJECT, Settings

DBT_PROJECT = PROJECT / "dbt"
COMMANDS = ("build", "run", "test", "seed", "snapshot", "compile", "list")
REFRESHING = ("build", "run", "seed")


class BuildFailed(Exception):
    """dbt did not do all it was asked to; the message names the nodes that failed."""


@dataclass(frozen=True)
class Node:
    """The result of one dbt node."""

    name: str
    kind: str
    status: str
    seconds: float
    message: str | None


def arguments(command: str, select: str | None, full_refresh: bool) -> list[str]:
    """A dbt command line, made of values that a person typed; ValueError on one that is none or would be a flag."""
    if command not in COMMANDS:
        raise ValueError(f"command: expected one of {', '.join(COMMANDS)}, got {command!r}")
    if full_refresh and command not in REFRESHING:
        raise ValueError(f"full_refresh: goes with {', '.join(REFRESHING)}, not with {command}")
    selectors = [] if select is None else select.split()
    for selector in selectors:
        if selector.startswith("-") or not selector.isprintable():
            raise ValueError(
                f"select: expected dbt selectors such as 'stg_dummyjson__products+', got {select!r}: "
                f"{selector!r} would be an option of dbt, not a selector"
            )
    if select is not None and not selectors:
        raise ValueError("select: expected dbt selectors, got only white space; leave it out to select everything")
    return [command, *(["--select", *selectors] if selectors else []), *(["--full-refresh"] if full_refresh else [])]


def fingerprint() -> str:
    """Of the dbt project's files: the same for the same models, macros, tests and settings, wherever they are.

    A changed project is built whole once, so a new model exists before something selects its neighbours.
    """
    digest = hashlib.sha256()
    parts = ("models", "macros", "tests", "seeds", "snapshots", "dbt_project.yml", "profiles.yml", "packages.yml")
    for part in parts:
        path = DBT_PROJECT / part
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in {".sql", ".yml", ".yaml", ".csv", ".py"} and file.is_file():
                digest.update(f"{file.relative_to(DBT_PROJECT).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def invoke(dbt_arguments: Sequence[str], settings: Settings) -> list[Node]:
    """Runs dbt once; the nodes' results, in the order they ended.

    prefect-dbt makes a task run of each node when it finds a flow run in its context. On two cores that made a build
    of 18 nodes take 4.3 s in place of 1.2 s, so it gets an empty context; the nodes are listed in an artifact.

    Raises BuildFailed if dbt could not run, if a node failed, or if the selection matched nothing at all; WarehouseBusy
    if another process, such as an open database client, held the file for longer than dbt waits (profiles.yml);
    LandingError if an object store did not answer.
    """
    from dbt_common.events.base_types import EventLevel
    from prefect_dbt import PrefectDbtRunner, PrefectDbtSettings

    # profiles.yml and the base models read these; dbt changes the working directory, so relative ones would move.
    os.environ["BATON_TARGET"] = settings.target
    root = settings.landing_root
    os.environ["BATON_LANDING_ROOT"] = str(root.absolute() if isinstance(root, Path) else root)
    os.environ["BATON_WAREHOUSE"] = str(settings.warehouse.absolute())
    os.environ["DBT_DUCKDB_KEEP_OPEN"] = "True"
    # log_level is given because prefect-dbt takes Prefect's own, and has no word for WARNING (it says `warn`).
    dbt_settings = PrefectDbtSettings(project_dir=DBT_PROJECT, profiles_dir=DBT_PROJECT, log_level=EventLevel.INFO)
    command_line = f"dbt {' '.join(dbt_arguments)}"
    try:
        runner = PrefectDbtRunner(settings=dbt_settings, raise_on_failure=False)
        # Quiet: what dbt would print is in its log file, and making each line a second time takes time.
        result = contextvars.Context().run(runner.invoke, [*dbt_arguments, "--quiet"])
    except ValueError as error:  # What prefect-dbt makes of every exception in dbt.
        raise _failure(f"{command_line}: {error}") from error
    finally:
        _close_warehouse()
    if dbt_arguments[0] == "list":
        return [Node(name, "", "listed", 0.0, None) for name in _some(result.result, command_line)]
    nodes = [_node(node) for node in _some(getattr(result.result, "results", None), command_line)]
    failed = [node for node in nodes if node.status in ("error", "fail", "runtime error")]
    if failed or not result.success:
        lines = "\n".join(f"  {node.kind} {node.name}: {node.status}: {node.message}" for node in failed)
        raise _failure(f"{command_line}: {len(failed)} of {len(nodes)} nodes failed\n{lines}")
    return nodes


def _close_warehouse() -> None:
    """Lets go of the file, which dbt-duckdb keeps open for the whole process (see profiles.yml)."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
        DuckDBConnectionManager.close_all_connections()


def _failure(message: str) -> BuildFailed | WarehouseBusy | LandingError:
    """What somebody else held, or changed first, is no batch's fault, so it must not count as a failed build.

    Nor is an object store that is away: three short outages would have had good batches set aside.
    """
    if lake.is_conflict(message):
        return Conflict(message)
    if lake.is_store_away(message):
        return LandingError(f"the object store could not be used; the batches stay pending: {message}")
    return WarehouseBusy(message) if "Could not set lock on file" in message else BuildFailed(message)


def _some(results: Sequence[Any] | None, command_line: str) -> Sequence[Any]:
    if not results:
        raise BuildFailed(
            f"{command_line}: nothing was selected, which dbt calls a success; check the selector's names"
        )
    return results


def _node(result: Any) -> Node:
    return Node(
        name=result.node.name,
        kind=str(result.node.resource_type),
        status=str(result.status),
        seconds=round(result.execution_time, 3),
        message=result.message,
    )
