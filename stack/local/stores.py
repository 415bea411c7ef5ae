"""A stack's own databases in an existing Postgres, and its own database number in an existing Redis.

Names and marks follow from the host and the folder: two stacks share nothing, and a restarted one finds what it had.
"""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis

from stack.local.processes import StackError

POSTGRES_SECONDS = 10
MARK = "baton:stack"
"""The Redis key that names the owner of a database number."""


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
    """The URL without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def make_databases(url: str, names: Iterable[str]) -> None:
    """Makes the Postgres databases that do not exist yet; StackError if Postgres refuses."""

    async def make(connection: asyncpg.Connection) -> None:
        for name in names:
            if not await connection.fetchval("select true from pg_database where datname = $1", name):
                await connection.execute(f'create database "{name}"')

    asyncio.run(_in_postgres(url, make))


def drop_databases(url: str, names: Iterable[str]) -> list[str]:
    """Drops those of the Postgres databases that exist, open connections included; returns their names."""
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
        connection = await asyncpg.connect(url, timeout=POSTGRES_SECONDS)
        try:
            await work(connection)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        said = str(error) or f"no answer within {POSTGRES_SECONDS} seconds"
        raise StackError(f"Postgres at {without_password(url)} (BATON_POSTGRES_URL): {said}") from None


def claim_redis(url: str, owner: str) -> str:
    """Marks a database number in Redis as the owner's and returns its URL.

    Prefect's streams and keys have no common prefix, so two stacks need two numbers. A URL with a number means that
    one. Otherwise it is the owner's present number, or an empty one; number 0 comes last, because it is the default of
    other programs. StackError if no number is free or Redis does not answer.
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
        f"Redis at {without_password(url)}: expected a free database, but {'this one is' if chosen else 'all are'} in "
        "use. Run `make clean PROFILE=scale` for a stack that is no longer needed, or set another BATON_REDIS_URL"
    )


def release_redis(url: str, owner: str) -> list[str]:
    """Empties every database number that is marked as the owner's; returns what it emptied.

    A number that the URL names belongs to the owner even without a mark: Redis may have been restarted empty.
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
    """The services processes whose docket sent a heartbeat to Redis lately, as `host#process id`.

    The consumers of the event stream do not show it: Redis 7.0 lists a consumer only once it got an event.
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
        except (redis.ResponseError, KeyError):  # Managed servers refuse the command.
            return list(range(16))


def _redis_error(url: str, error: Exception) -> StackError:
    return StackError(f"Redis at {without_password(url)} (BATON_REDIS_URL): {error}")
