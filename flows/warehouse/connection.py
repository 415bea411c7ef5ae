"""Connections to the warehouse: a DuckDB file, which has one writing process, or the lake, which has many."""

import contextlib
import fcntl
import functools
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import duckdb

from flows.errors import ConflictError, WarehouseBusyError, WarehouseError, machine_fault
from flows.settings import Settings
from flows.warehouse import ducklake

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
TRIES = 20
LOCKED = "IO Error: Could not set lock on file"
"""How DuckDB begins when another process has the file. Its messages also hold paths, which may hold any word."""
HOLDER = re.compile(r"Conflicting lock is held in .* \(PID (\d+)\)")
UNREADABLE_LOG = "Failure while replaying WAL file"


def retry_conflicts(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Calls the function again if, on the lake, another process was first; ConflictError if one always is."""

    @functools.wraps(function)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        for tries_left in reversed(range(TRIES)):
            try:
                return function(*arguments, **options)
            except duckdb.Error as error:
                if not ducklake.is_conflict(error):
                    raise
                if not tries_left:
                    raise ConflictError(str(error)) from error
            time.sleep(random.uniform(0.05, 0.5))
        raise AssertionError("the loop returns or raises")

    return run


@contextlib.contextmanager
def connect(settings: Settings, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse: to the lake, or to the file, which has one writing process at a time.

    Waits for a process that holds the file, and raises WarehouseBusyError, which names it, after
    `settings.warehouse_wait_seconds`.
    """
    connection = ducklake.connect(settings) if settings.on_lake else _open_file(settings, read_only)
    try:
        yield connection
    except duckdb.Error as error:
        if advice := machine_fault(str(error)):
            raise WarehouseError(f"{advice}. The batches stay pending. DuckDB says: {error}") from error
        raise
    finally:
        connection.close()


def _open_file(settings: Settings, read_only: bool) -> duckdb.DuckDBPyConnection:
    warehouse, wait_seconds = settings.warehouse, settings.warehouse_wait_seconds
    deadline = time.monotonic() + wait_seconds
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            return duckdb.connect(str(warehouse), read_only=read_only)
        except duckdb.Error as error:
            if not str(error).startswith(LOCKED):
                raise WarehouseError(f"{warehouse}: {_why_not_opened(error)}") from error
            if time.monotonic() > deadline:
                raise WarehouseBusyError(
                    f"{warehouse}: another process held the file for all of {wait_seconds:.0f} seconds; close it, or "
                    f"set BATON_WAREHOUSE_WAIT_SECONDS higher. The batches stay pending. DuckDB says: {error}"
                ) from error
            time.sleep(0.1)


def _why_not_opened(error: duckdb.Error) -> str:
    said = str(error).partition("\n")[0]
    if log_is_unreadable(error):
        return f"a full disk left it as DuckDB cannot open it; the next transform repairs it. DuckDB says: {said}"
    advice = f" ({advice})" if (advice := machine_fault(said)) else ""
    return f"cannot be opened; the batches stay pending. {said}{advice}"


def log_is_unreadable(error: duckdb.Error) -> bool:
    """Whether DuckDB can never replay the log. One that it cannot replay on a disk that is still full is good."""
    return UNREADABLE_LOG in str(error) and machine_fault(str(error)) is None


def move_unreadable_log(settings: Settings) -> Path | None:
    """Makes a warehouse usable again that a full disk has left with a write-ahead log that DuckDB cannot replay.

    Only for who is its exclusive writer. The file is then as its last checkpoint left it: rows and ledger of one
    moment, so the batches since are pending again. Returns where the log is now, or None if there was nothing to do.
    """
    log = settings.warehouse.with_name(f"{settings.warehouse.name}.wal")
    if not log.exists():  # As after every clean end.
        return None
    try:
        duckdb.connect(str(settings.warehouse)).close()
    except duckdb.Error as error:
        if log_is_unreadable(error):
            return log.rename(log.with_name(f"{log.name}.unreadable.{time.time_ns()}"))
    return None


@contextlib.contextmanager
def exclusive_writer(settings: Settings) -> Iterator[None]:
    """For a whole transform of the file, from reading the ledger to writing it: one at a time, whoever started it.

    DuckDB's own lock does not do that: dbt lets go of the file between two nodes, so two builds would get in each
    other's way and both fail. The system drops this one, on a file beside the warehouse, when its process dies.
    """
    warehouse, wait_seconds = settings.warehouse, settings.warehouse_wait_seconds
    deadline = time.monotonic() + wait_seconds
    try:
        warehouse.parent.mkdir(parents=True, exist_ok=True)
        file = lock_file(settings).open("a+")
    except OSError as error:
        advice = machine_fault(str(error)) or "look at BATON_WAREHOUSE"
        raise WarehouseError(f"{warehouse}: cannot be locked. The batches stay pending. {error}: {advice}") from error
    with file as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WarehouseBusyError(
                        f"{warehouse}: another transform was at work for all of {wait_seconds:.0f} seconds. "
                        "The batches stay pending; the next transform takes them"
                    ) from None
                time.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def lock_file(settings: Settings) -> Path:
    """The file beside the warehouse that a transform locks; it holds the id of the process that locked it last."""
    return settings.warehouse.with_name(f"{settings.warehouse.name}.lock")


def writer_of(settings: Settings) -> int | None:
    """The id of the process that is the exclusive writer; None if there is none, or if it does not say."""
    try:
        with lock_file(settings).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except OSError:
        return None
    return None


def holder_in(message: str) -> int | None:
    """The id of the process that, as DuckDB says, has the file open."""
    found = HOLDER.search(message)
    return int(found[1]) if found else None
