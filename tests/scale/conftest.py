"""A Postgres and a Redis that somebody else runs; without them these tests are skipped, and in CI they fail."""

import asyncio
import os

import asyncpg
import pytest
import redis

POSTGRES = os.environ.get("BATON_POSTGRES_URL", "postgresql://root@127.0.0.1:5432/postgres")
REDIS = os.environ.get("BATON_REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture(scope="session")
def postgres() -> str:
    """The URL of a Postgres in which tests may make databases."""

    async def ask() -> None:
        await (await asyncpg.connect(POSTGRES, timeout=5)).close()

    try:
        asyncio.run(ask())
    except (OSError, asyncpg.PostgresError) as error:
        missing(f"Postgres (BATON_POSTGRES_URL) does not answer: {error}")
    return POSTGRES


@pytest.fixture(scope="session")
def redis_server() -> str:
    """The URL of a Redis in which tests may take empty databases."""
    try:
        with redis.Redis.from_url(REDIS, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        missing(f"Redis (BATON_REDIS_URL) does not answer: {error}")
    return REDIS


def missing(reason: str) -> None:
    """Skips, with one line; in CI nothing of this may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
