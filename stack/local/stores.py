"""A stack's own databases in a Postgres, and its own database number in a Redis, that somebody else runs.

Names and marks are made from the host and the folder, so that two stacks never share anything, and one that is
started again finds what it had.
"""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis

from stack.processes import StackError

MARK = "baton:stack"
"""The Redis key that says whose a database number is."""


def stack_id(folder: Path) -> str:
    """Eight hexadecimal digits, the same for the same folder of the same host."""
    return hashlib.sha256(f"{socket.gethostname()}:{folder.resolve()}".encode()).hexdigest()[:8]


def with_path(url: str, path: str) -> str:
    """The URL with another database in it."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))


def for_prefect(url: str) -> str:
    """The Postgres URL with the driver in it that Prefect's servers use."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+asyncpg"))


def without_password(url: str) -> str:
    """The URL as it may be shown to anybody."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def make_databases(url: str, names: Iterable[str]) -> None:
    """Makes the Postgres databases that are not there yet; StackError if Postgres does not let us."""

    async def make(connection: asyncpg.Connection) -> None:
        for name in names:
            if not await connection.fetchval("select true from pg_database where datname = $1", name):
                await connection.execute(f'create database "{name}"')

    asyncio.run(_in_postgres(url, make))


def drop_databases(url: str, names: Iterable[str]) -> list[str]:
    """Drops those of the Postgres databases that are there, whoever is still connected; returns their names."""
    dropped = []

    async def drop(connection: asyncpg.Connection) -> None:
        for name in names:
            if await connection.fetchval("select true from pg_database where datname = $1", name):
                await connection.execute(f'drop database "{name}" with (force)')
                dropped.append(name)

    asyncio.run(_in_postgres(url, drop))
    return dropped


async def _in_postgres(url: str, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await work(connection)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StackError(f"Postgres at {without_password(url)} (BATON_POSTGRES_URL): {error}") from None


def claim_redis(url: str, owner: str) -> str:
    """The URL of a database number in Redis that is marked as the owner's from now on.

    Prefect's streams and keys have no common prefix, so a number of its own is what keeps two stacks apart. A URL with
    a number means that one; else it is the one that the owner has, or an empty one, number 0 only if there is no
    other, because it is everybody's default. StackError if none is to be had or Redis does not answer.
    """
    chosen = _chosen(url)
    try:
        candidates = [chosen] if chosen else [*_numbers(url)[1:], 0]
        for free in (False, True):
            for number in candidates:
                with _database(url, number) as database:
                    if free and (chosen or database.dbsize() == 0):
                        database.set(MARK, owner, nx=True)
                    if database.get(MARK) == owner:
                        return with_path(url, str(number))
    except redis.RedisError as error:
        raise _redis_error(url, error) from None
    raise StackError(
        f"Redis at {without_password(url)}: {'this database belongs' if chosen else 'all its databases belong'} to "
        "somebody else. `make clean PROFILE=scale` where a stack is no longer needed, or another BATON_REDIS_URL"
    )


def release_redis(url: str, owner: str) -> list[str]:
    """Empties every database number that is marked as the owner's; returns what was emptied.

    One that the URL names is the owner's, too, if it has lost its mark: Redis may have been restarted empty.
    """
    released = []
    chosen = _chosen(url)
    try:
        for number in [chosen] if chosen else _numbers(url):
            with _database(url, number) as database:
                mark = database.get(MARK)
                if mark == owner or (chosen and mark is None and database.dbsize()):
                    database.flushdb()
                    released.append(f"database {number} of Redis")
    except redis.RedisError as error:
        raise _redis_error(url, error) from None
    return released


def services_processes(url: str) -> set[str]:
    """The services processes that have told Redis lately that they live, as `host#process id`.

    It is their docket that beats. The readers of the events do not show it: Redis 7.0 knows of one that waits only when
    an event has come.
    """
    with redis.Redis.from_url(url, decode_responses=True) as database:
        return {str(name) for name in database.zrange("prefect:workers", 0, -1)}


def _chosen(url: str) -> int:
    """The database number that a Redis URL names; 0 if it names none."""
    number = urlsplit(url).path.strip("/") or "0"
    if not number.isdecimal():
        raise StackError(f"BATON_REDIS_URL: expected a database number at its end, got {number!r}")
    return int(number)


def _database(url: str, number: int) -> redis.Redis:
    return redis.Redis.from_url(with_path(url, str(number)), decode_responses=True)


def _numbers(url: str) -> list[int]:
    with _database(url, 0) as server:
        try:
            return list(range(int(server.config_get("databases")["databases"])))
        except (redis.ResponseError, KeyError):  # Managed ones don't tell.
            return list(range(16))


def _redis_error(url: str, error: Exception) -> StackError:
    return StackError(f"Redis at {without_password(url)} (BATON_REDIS_URL): {error}")
