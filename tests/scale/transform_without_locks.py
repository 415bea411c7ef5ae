"""A transform whose turns fail: everybody gets every lock. `python -m tests.scale.transform_without_turns FOLDER`.

Two of them wait for each other, at files in the folder, after dbt has found out what is missing and before the
transaction that brings it.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from dbt.adapters.sql.connections import SQLConnectionManager

from flows import locks
from flows.transform import transform

MEET_AT = "base_dummyjson__products_manifests__turn"


async def everything(*_: object) -> bool:
    """Every lock, for everybody."""
    return True


def main(folder: Path) -> int:
    """Prints the name of the state that the flow ends in."""
    locks.take = everything
    add_query = SQLConnectionManager.add_query
    mine = folder / f"{os.getpid()}.here"

    def meet(self: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        if MEET_AT in sql and not mine.exists():
            mine.touch()
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
