"""A stack's own databases: made once, other stacks' left as they are, removed completely, and no password shown."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import redis

from stack.local import stores
from stack.local.processes import StackError

CANARY = "canary-3f9c"


def databases_of(url: str, like: str) -> set[str]:
    async def ask() -> set[str]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("select datname from pg_database where datname like $1", like)
        finally:
            await connection.close()
        return {row["datname"] for row in rows}

    return asyncio.run(ask())


@pytest.fixture
def owner(redis_url: str) -> Iterator[str]:
    """An owner whose Redis databases are emptied in the end."""
    name = f"test-{uuid4().hex[:8]}"
    yield name
    stores.release_redis(redis_url, name)


def test_databases_are_made_once_and_dropped_with_open_connections(postgres: str) -> None:
    name = f"baton_{uuid4().hex[:8]}_test"
    stores.make_databases(postgres, [name])
    stores.make_databases(postgres, [name])
    assert databases_of(postgres, name) == {name}

    async def connected() -> list[str]:
        connection = await asyncpg.connect(stores.with_path(postgres, name))
        try:
            return await asyncio.to_thread(stores.drop_databases, postgres, [name, f"{name}_2"])
        finally:
            connection.terminate()

    assert asyncio.run(connected()) == [name]
    assert databases_of(postgres, name) == set()


def test_a_redis_database_is_claimed_once_found_again_and_emptied(redis_url: str, owner: str) -> None:
    url = stores.claim_redis(redis_url, owner)
    assert url != redis_url
    assert stores.claim_redis(redis_url, owner) == url
    with redis.Redis.from_url(url) as database:
        database.set("something", "of this stack")
        assert stores.release_redis(redis_url, owner)
        assert database.dbsize() == 0


def test_a_redis_database_of_another_owner_is_not_taken(redis_url: str, owner: str) -> None:
    url = stores.claim_redis(redis_url, owner)
    other = f"{owner}-other"
    try:
        taken = stores.claim_redis(redis_url, other)
        assert taken != url
        with pytest.raises(StackError, match="this one is in use"):
            stores.claim_redis(url, other)
        stores.release_redis(url, other)
        with redis.Redis.from_url(url, decode_responses=True) as database:
            assert database.get(stores.MARK) == owner
    finally:
        stores.release_redis(redis_url, other)


def test_a_redis_database_that_the_url_names_is_emptied_without_its_mark(redis_url: str, owner: str) -> None:
    url = stores.claim_redis(redis_url, owner)
    with redis.Redis.from_url(url) as database:
        database.delete(stores.MARK)
        database.set("after a restart", "without persistence")
        assert stores.release_redis(url, owner)
        assert database.dbsize() == 0


def test_a_stack_is_known_by_its_folder(tmp_path: Path) -> None:
    assert stores.stack_id(tmp_path / "a") == stores.stack_id(tmp_path / "a")
    assert stores.stack_id(tmp_path / "a") != stores.stack_id(tmp_path / "b")


def test_a_store_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(
        StackError, match=r"Postgres at postgresql://127\.0\.0\.1:1/db \(BATON_POSTGRES_URL\)"
    ) as refused:
        stores.make_databases(f"postgresql://me:{CANARY}@127.0.0.1:1/db", ["x"])
    assert CANARY not in repr(refused.getrepr(chain=True))
    with pytest.raises(StackError, match=r"Redis at redis://127\.0\.0\.1:1/0 \(BATON_REDIS_URL\)") as refused:
        stores.claim_redis(f"redis://:{CANARY}@127.0.0.1:1/0", "x")
    assert CANARY not in repr(refused.getrepr(chain=True))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db?password=secret", "postgresql://host:5432/db"),
        ("redis://host/3", "redis://host/3"),
    ],
)
def test_a_url_is_shown_without_what_is_secret(url: str, shown: str) -> None:
    assert stores.without_password(url) == shown
