"""Finds keys that come twice, over any number of records: SQLite's temporary database spills to disk."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec


class SeenKeys:
    """The keys so far, and the row that each came with last."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("pragma synchronous = off")
        database.execute("create table seen (key primary key, row integer) without rowid")

    def add(self, keys: Sequence[Any], first_row: int) -> list[tuple[int, int]]:
        """Adds the keys of rows that follow each other; pairs of rows, earlier and later, that have the same key."""
        rows = [(_stored(key), row) for row, key in enumerate(keys, first_row)]
        before = self._database.total_changes
        self._database.execute("begin")
        self._database.executemany("insert into seen values (?, ?) on conflict do nothing", rows)
        new = self._database.total_changes - before
        repeated = [] if new == len(rows) else self._repeated(rows)
        self._database.execute("commit")
        return repeated

    def _repeated(self, rows: list[tuple[int | bytes, int]]) -> list[tuple[int, int]]:
        found = []
        for key, row in rows:
            (known,) = self._database.execute("select row from seen where key = ?", (key,)).fetchone()
            if known != row:
                found.append((known, row))
                self._database.execute("update seen set row = ? where key = ?", (row, key))
        return found


def _stored(key: Any) -> int | bytes:
    """Text and numbers differ, and a number may be larger than SQLite's integers are."""
    return key if isinstance(key, int) and -(2**63) <= key < 2**63 else msgspec.json.encode(key)


@contextlib.contextmanager
def seen_keys() -> Iterator[SeenKeys]:
    """An empty set of keys, gone after the block."""
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as database:
        yield SeenKeys(database)
