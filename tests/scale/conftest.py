"""Postgres and Redis, where they answer. In CI (`CI=1`) they have to: a skipped test fails there."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import fsspec
import pytest
import redis
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from stack.local.object_store import start_object_store
from stack.local.processes import stop_all
from tests.support.lake_room import LakeRoom
from tests.support.room import empty_folder
from tests.support.small_project import use_project

POSTGRES = os.environ.get("BATON_POSTGRES_URL", "postgresql://root@127.0.0.1:5432/postgres")
REDIS = os.environ.get("BATON_REDIS_URL", "redis://127.0.0.1:6379/0")


def absent(what: str, error: Exception) -> None:
    """Skips the test, or fails it in CI."""
    message = f"{what} does not answer ({error}); tests/scale wants Postgres and Redis on their standard local ports"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def execute(statement: str, url: str = POSTGRES) -> list[asyncpg.Record]:
    """One statement in Postgres, outside of any transaction."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture(scope="session")
def postgres() -> str:
    """The URL of a Postgres in which databases may be made."""
    try:
        execute("select 1")
    except (OSError, asyncpg.PostgresError) as error:
        absent("Postgres", error)
    return POSTGRES


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The URL of a Redis."""
    try:
        with redis.Redis.from_url(REDIS) as client:
            client.ping()
    except redis.RedisError as error:
        absent("Redis", error)
    return REDIS


@contextmanager
def catalog(postgres: str) -> Iterator[str]:
    """The URL of a new and empty database, gone after the block."""
    name = f"baton_{uuid.uuid4().hex[:8]}_lake"
    execute(f'create database "{name}"')
    try:
        yield postgres.rpartition("/")[0] + f"/{name}"
    finally:
        execute(f'drop database "{name}" with (force)')


@pytest.fixture
def lake_room(
    server: str,
    postgres: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LakeRoom]:
    """An empty landing and an empty lake, for flows that run in the test's process or in one that it starts."""
    folder = empty_folder(tmp_path_factory.getbasetemp() / "lake-room")
    with catalog(postgres) as url:
        made = LakeRoom(folder / "landing", folder / "warehouse.duckdb", monkeypatch)
        for name, value in {
            "BATON_LANDING_ROOT": made.landing,
            "BATON_EXPORTS": folder,
            "BATON_TARGET": "lake",
            "BATON_LAKE_CATALOG": url,
            "BATON_LAKE_DATA": folder / "lake",
            "DBT_TARGET": "lake",
        }.items():
            monkeypatch.setenv(name, str(value))
        use_project(made, tmp_path_factory.getbasetemp(), "users", "carts")
        monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path_factory.getbasetemp() / "dbt-target-lake"))
        monkeypatch.setenv("DBT_LOG_PATH", str(tmp_path / "dbt-logs"))
        # A run with heartbeats ends up to a second later, when their thread has seen that it should stop.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield made


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an object store on loopback that speaks S3, with a bucket `baton`."""
    folder = tmp_path_factory.mktemp("object-store")
    try:
        yield start_object_store(folder, os.environ)
    finally:
        stop_all(folder)


@pytest.fixture
def bucket(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URL in it where nothing is yet, and the environment that lets one in."""
    for name, value in {
        "AWS_ENDPOINT_URL": object_store,
        "AWS_ACCESS_KEY_ID": "baton",
        "AWS_SECRET_ACCESS_KEY": "canary-of-the-store",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield f"s3://baton/{uuid.uuid4().hex[:8]}"
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def objects_room(
    server: str,
    bucket: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LakeRoom]:
    """An empty landing in the object store and a DuckDB file, which needs no Postgres."""
    for name, value in {
        "BATON_LANDING_ROOT": f"{bucket}/landing",
        "BATON_WAREHOUSE": tmp_path / "warehouse.duckdb",
        "BATON_EXPORTS": tmp_path,
    }.items():
        monkeypatch.setenv(name, str(value))
    made = LakeRoom(tmp_path / "landing", tmp_path / "warehouse.duckdb", monkeypatch)
    use_project(made, tmp_path_factory.getbasetemp())
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path_factory.getbasetemp() / "dbt-target-objects"))
    monkeypatch.setenv("DBT_LOG_PATH", str(tmp_path / "dbt-logs"))
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield made
