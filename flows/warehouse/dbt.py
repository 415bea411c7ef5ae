"""One dbt invocation through prefect-dbt, and what came of it.

dbt is reached through its files, its environment variables and prefect-dbt only. It is imported when it is used:
a run that finds nothing to do, or a bad argument, never pays for it.
"""

import contextvars
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from flows.errors import (
    BatonError,
    BuildError,
    ConflictError,
    DataError,
    InvalidInputError,
    LandingError,
    WarehouseBusyError,
    WarehouseError,
    machine_fault,
    some_lines,
)
from flows.settings import Settings
from flows.warehouse import ducklake, publishing
from flows.warehouse.freshness import Freshness
from flows.warehouse.progress import FAILED, Progress

COMMANDS = ("build", "run", "test", "seed", "snapshot", "compile", "list")
REFRESHING = ("build", "run", "seed")
DATA_FAULT = re.compile(r"^\s*(Conversion|Out of Range|Invalid Input|Constraint) Error: ", re.MULTILINE)
"""How DuckDB begins when values are to blame. Everything else is the machine's fault, the project's or a network's."""


@dataclass(frozen=True)
class Node:
    """The result of one dbt node."""

    name: str
    kind: str
    status: str
    seconds: float
    message: str | None

    @property
    def failed(self) -> bool:
        return self.status in FAILED


def arguments(command: str, select: str | None, full_refresh: bool) -> list[str]:
    """A dbt command line, made of values that a person typed; ValueError on one that is none or would be a flag."""
    if command not in COMMANDS:
        raise InvalidInputError(f"command: expected one of {', '.join(COMMANDS)}, got {command!r}")
    if full_refresh and command not in REFRESHING:
        raise InvalidInputError(f"full_refresh: goes with {', '.join(REFRESHING)}, not with {command}")
    selectors = [] if select is None else select.split()
    for selector in selectors:
        if selector.startswith("-") or not selector.isprintable():
            raise InvalidInputError(
                f"select: expected dbt selectors such as 'stg_dummyjson__products+', got {select!r}: "
                f"{selector!r} would be an option of dbt, not a selector"
            )
    if select is not None and not selectors:
        raise InvalidInputError("select: expected dbt selectors, got only white space; leave it out to select all")
    return [command, *(["--select", *selectors] if selectors else []), *(["--full-refresh"] if full_refresh else [])]


def fingerprint(project: Path) -> str:
    """Of a dbt project's files: the same for the same models, macros, tests and settings, wherever they are.

    A changed project is built whole once, so a new model exists before something selects its neighbours.
    """
    digest = hashlib.sha256()
    parts = ("models", "macros", "tests", "seeds", "snapshots", "dbt_project.yml", "profiles.yml", "packages.yml")
    for part in parts:
        path = project / part
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in {".sql", ".yml", ".yaml", ".csv", ".py"} and file.is_file():
                digest.update(f"{file.relative_to(project).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def run_dbt(dbt_arguments: Sequence[str], settings: Settings, progress: Progress | None = None) -> list[Node]:
    """Runs dbt once; the nodes' results, in the order they ended. Meanwhile `progress` says how far it is.

    prefect-dbt makes a task run of each node when it finds a flow run in its context. On two cores that made a build
    of 18 nodes take 4.3 s in place of 1.2 s, so it gets an empty context; the nodes are listed in an artifact.
    An error has the results, too, as `nodes`.

    Raises DataError if a test failed or a value could not be cast, BuildError if dbt could not run, a node failed
    otherwise, or the selection matched nothing at all; WarehouseBusyError if another process, such as an open
    database client, held the file for longer than dbt waits (profiles.yml); LandingError if an object store did not
    answer; WarehouseError if the lake's catalog did not, or if the machine is at a limit.
    """
    command_line = f"dbt {' '.join(dbt_arguments)}"
    result = _invoke(dbt_arguments, settings, progress or Progress())
    if dbt_arguments[0] == "list":
        return [Node(name, "", "listed", 0.0, None) for name in _some(result.result, command_line)]
    results = [_node(node) for node in getattr(result.result, "results", None) or ()]
    failed = [node for node in results if node.failed]
    # The project's own hooks come with every run, whatever was selected.
    nodes = [node for node in results if node.kind != "operation" or node.failed]
    _some(nodes, command_line)
    if failed or not result.success:
        lines = some_lines([f"  {node.kind} {node.name}: {node.status}: {node.message}" for node in failed])
        failure = _error(f"{command_line}: {len(failed)} of {len(nodes)} nodes failed\n{lines}", failed)
        failure.nodes = tuple(nodes)
        raise failure
    return nodes


def _invoke(dbt_arguments: Sequence[str], settings: Settings, progress: Progress) -> Any:
    """What prefect-dbt's runner returns; the error, if dbt could not run at all."""
    from dbt_common.events.base_types import EventLevel
    from prefect_dbt import PrefectDbtRunner, PrefectDbtSettings

    # log_level is given because prefect-dbt takes Prefect's own, and has no word for WARNING (it says `warn`).
    project = settings.dbt_project.absolute()
    dbt_settings = PrefectDbtSettings(project_dir=project, profiles_dir=project, log_level=EventLevel.INFO)
    with _environment(_variables(settings)):
        try:
            runner = PrefectDbtRunner(settings=dbt_settings, raise_on_failure=False, _force_nodes_as_tasks=True)
            # prefect-dbt listens to dbt's events only where it makes tasks of nodes, and takes no listener but its own.
            runner._create_unified_callback = lambda *_, **__: progress.on_event
            # Quiet: what dbt would print is in its log file, and making each line a second time takes time.
            return contextvars.Context().run(runner.invoke, [*dbt_arguments, "--quiet"])
        except ValueError as error:  # What prefect-dbt makes of every exception in dbt.
            where = _where_dbt_writes(error, settings)
            raise _error(f"dbt {' '.join(dbt_arguments)}: {error}{where}", ()) from error
        finally:
            _close_warehouse()


def _variables(settings: Settings) -> dict[str, str]:
    """What profiles.yml and the base models read; absolute, because dbt changes the working directory."""
    root = settings.landing_root
    return {
        "BATON_TARGET": settings.target,
        "BATON_LANDING_ROOT": str(root.absolute() if isinstance(root, Path) else root),
        "BATON_WAREHOUSE": str(settings.warehouse.absolute()),
        "DBT_DUCKDB_KEEP_OPEN": "True",
        # A unit test reads the declaration of its source in the project's folder.
        "DBT_PROJECT_DIR": str(settings.dbt_project.absolute()),
        **publishing.dbt_variables(settings),
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The process's environment with these variables for as long as the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _close_warehouse() -> None:
    """Lets go of the file, which dbt-duckdb keeps open for the whole process (see profiles.yml)."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
        DuckDBConnectionManager.close_all_connections()


def _error(message: str, failed: Sequence[Node]) -> BatonError:
    """The error for a dbt run that failed: DataError only where every failed node is known to fail by its data.

    What somebody else held, or changed first, is no batch's fault, nor is a store that is away: three short outages
    would have quarantined good batches.
    """
    # The message shows some of the failed nodes; what counts may be in any.
    said = "\n".join([message, *(node.message or "" for node in failed)])
    if ducklake.is_catalog_away(said):
        return ducklake.catalog_error(message)
    if ducklake.is_conflict(said):
        return ConflictError(message)
    if ducklake.is_store_away(said):
        return LandingError(f"the object store could not be used; the batches stay pending: {message}")
    if "Could not set lock on file" in said:
        return WarehouseBusyError(message)
    if failed and all(map(_fails_by_data, failed)):
        return DataError(message)
    faults = "\n".join(node.message or "" for node in failed if not _fails_by_data(node)) if failed else message
    if advice := machine_fault(faults):
        return WarehouseError(f"{advice}. The batches stay pending. {message}")
    return BuildError(message)


def _where_dbt_writes(error: ValueError, settings: Settings) -> str:
    """The places to look at, because the system's errors name none."""
    if machine_fault(str(error)) is None:
        return ""
    project = settings.dbt_project
    written = [os.environ.get("DBT_TARGET_PATH", project / "target"), os.environ.get("DBT_LOG_PATH", project / "logs")]
    return f" (dbt writes to {', '.join(map(str, [*written, settings.warehouse.parent, tempfile.gettempdir()]))})"


def _fails_by_data(node: Node) -> bool:
    """Whether a failed node failed by what the batches hold: a test found rows, or a value could not be cast."""
    return node.status == "fail" or DATA_FAULT.search(node.message or "") is not None


def _some(results: Sequence[Any] | None, command_line: str) -> Sequence[Any]:
    if not results:
        raise BuildError(f"{command_line}: nothing was selected, which dbt calls a success; check the selector's names")
    return results


def _node(result: Any) -> Node:
    return Node(
        name=result.node.name,
        kind=str(result.node.resource_type),
        status=str(result.status),
        seconds=round(result.execution_time, 3),
        message=result.message,
    )


def source_freshness(sources: Sequence[str], settings: Settings) -> dict[str, Freshness]:
    """What `dbt source freshness` says of these sources; of one that declares none, or cannot be asked, nothing.

    BuildError if dbt could not run.
    """
    selected = [f"source:{source}" for source in sources]
    result = _invoke(["source", "freshness", "--select", *selected], settings, Progress())
    results = getattr(result.result, "results", None) or ()
    asked = [each for each in results if str(each.status) in ("pass", "warn", "error") and each.node.freshness]
    return {
        f"{each.node.source_name}.{each.node.name}": Freshness(
            str(each.status),
            each.max_loaded_at,
            _span(each.node.freshness.warn_after),
            _span(each.node.freshness.error_after),
        )
        for each in asked
    }


def _span(threshold: Any) -> timedelta | None:
    """dbt's `{count: 26, period: hour}`; None where it has none."""
    if threshold is None or not threshold.count:
        return None
    return timedelta(**{f"{threshold.period}s": threshold.count})
