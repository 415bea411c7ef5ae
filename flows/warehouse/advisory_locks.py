"""Named locks in a Postgres, of which a session has none any more when it ends, however it ends.

Advisory locks of a session (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS). A killed
process gives its locks back at once, a machine that is lost after a minute, a Postgres that is restarted all of them.
A pooler in between must not share a connection between sessions (PgBouncer: session mode). Knows nothing of Prefect.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import asyncpg

Lock = Callable[[Sequence[str]], bool]
"""Locks every one of these names and returns True, or none; does not wait."""

SECONDS = 10.0
# A machine that is lost says no farewell.
KEEPALIVES = "set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3"
TRY_LOCK = "select pg_try_advisory_lock(hashtextextended($1, 0))"
UNLOCK = "select pg_advisory_unlock(hashtextextended($1, 0))"
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

Answer = TypeVar("Answer")


@contextmanager
def session(url: str) -> Iterator[Lock]:
    """A session of its own, whose locks are given back at the end of the block; ConnectionError without Postgres."""
    with asyncio.Runner() as runner:

        def ask(question: Coroutine[object, object, Answer]) -> Answer:
            try:
                return runner.run(question)
            except ERRORS as error:
                raise ConnectionError(f"the Postgres of the lake's catalog, which has the locks: {error}") from None

        connection = ask(connect(url))
        try:
            yield lambda names: ask(lock_all(connection, names))
        finally:
            with suppress(*ERRORS):
                runner.run(connection.close(timeout=SECONDS))


async def connect(url: str) -> asyncpg.Connection:
    """A connection that Postgres looks after."""
    connection = await asyncpg.connect(url, timeout=SECONDS, command_timeout=SECONDS)
    await connection.execute(KEEPALIVES)
    return connection


async def lock_all(connection: asyncpg.Connection, names: Sequence[str]) -> bool:
    """Every one of the locks, or none."""
    for position, name in enumerate(names):
        if not await connection.fetchval(TRY_LOCK, name):
            for taken in names[:position]:
                await connection.fetchval(UNLOCK, taken)
            return False
    return True
