"""A transform whose locks fail: every session gets every lock. `python -m tests.scale.transform_without_locks FOLDER`.

Two of them wait for each other, at files in the folder, after dbt has found out what is missing and before the
transaction that brings it.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
from dbt.adapters.sql.connections import SQLConnectionManager

from flows.transform import transform
from flows.warehouse import advisory_locks

MEET_AT = "base_dummyjson__products_manifests__turn"


async def everything(connection: asyncpg.Connection, names: Sequence[str]) -> bool:
    """Every lock, for every session."""
    return True


def main(folder: Path) -> int:
    """Prints the name of the state that the flow ends in."""
    advisory_locks.lock_all = everything
    add_query = SQLConnectionManager.add_query
    here = folder / f"{os.getpid()}.here"

    def meet(self: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        if MEET_AT in sql and not here.exists():
            here.touch()
            deadline = time.monotonic() + 60
            while len(list(folder.glob("*.here"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
        return add_query(self, sql, *arguments, **options)

    SQLConnectionManager.add_query = meet  # type: ignore[method-assign]
    state = transform(return_state=True)
    print(f"ended as {state.name}: {state.message}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
