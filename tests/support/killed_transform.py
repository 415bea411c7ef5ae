"""A transform, and its publishing, that kills itself.

The point is a function of `flows` (`flows.warehouse.publishing:_record`), before which the process dies, or a piece of
SQL that dbt is about to run.
"""

import importlib
import multiprocessing
import os
import signal
from collections.abc import Mapping
from typing import Any

from dbt.adapters.sql.connections import SQLConnectionManager

from flows.transform import transform


def die(*_: Any, **__: Any) -> None:
    """As when the kernel, or a person, ends the process: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def install(point: str) -> None:
    """Puts the point around what it names."""
    if point.startswith("flows."):
        module, _, function = point.partition(":")
        setattr(importlib.import_module(module), function, die)
        return
    add_query = SQLConnectionManager.add_query

    def add(self: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        if point in sql:
            die()
        return add_query(self, sql, *arguments, **options)

    SQLConnectionManager.add_query = add  # type: ignore[method-assign]


def kill_at(point: str) -> None:
    """Runs a transform, in the environment of now, in a process that dies at the point.

    It is forked from one that has imported everything, which takes longer than the rest.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "stack.engine.prepare_dbt"])
    process = context.Process(target=run_until, args=(point, dict(os.environ)))
    process.start()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL, f"ended with exit code {process.exitcode}"


def run_until(point: str, environment: Mapping[str, str]) -> None:
    """What the process does."""
    os.environ.clear()
    os.environ.update(environment)
    install(point)
    state = transform(return_state=True)
    print(f"was not killed: {state.name}: {state.message}")
