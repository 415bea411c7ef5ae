"""Publishing: readers see the marts as they were when they last passed their tests, all of one moment.

dbt builds a mart first and tests it then, so the schema `marts` may hold rows that a test refuses, and after a killed
build some marts are new and some old. Readers therefore read what was published: on one machine the file
`marts.duckdb`, on the lake the schema `published`, whose views are pinned to a snapshot, and the Parquet exports.

dbt itself notes in the warehouse which marts it begins to build, and that all their tests have passed (the macros
note_mart_builds and note_tested_build). A mart whose last build did not get that far is not published; readers keep
the one before. So publishing needs no other state, and may happen at any time that no dbt run is at work.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import duckdb

from flows.errors import InvalidInputError, PublishingError, cut
from flows.settings import Settings
from flows.warehouse import published_files
from flows.warehouse.connection import connect, retry_conflicts
from flows.warehouse.ducklake import NAME, is_conflict
from flows.warehouse.migrations import migrate

Connection = duckdb.DuckDBPyConnection

TESTED = """
select mart, invocation_id
from (select mart, arg_max(invocation_id, started_at) as invocation_id from ops.mart_builds group by mart)
where invocation_id in (select invocation_id from ops.tested_builds)
"""
UNTESTED = """
select mart, started_at
from (select mart, arg_max(invocation_id, started_at) as invocation_id, max(started_at) as started_at
      from ops.mart_builds group by mart)
where invocation_id not in (select invocation_id from ops.tested_builds)
"""
IN_MARTS = """
select table_name from duckdb_tables() where database_name = current_database() and schema_name = 'marts'
union all
select view_name from duckdb_views() where database_name = current_database() and schema_name = 'marts'
"""
SUPERSEDED = """
delete from ops.mart_builds where (mart, invocation_id) not in (
    select (mart, arg_max(invocation_id, started_at)) from ops.mart_builds group by mart
);
delete from ops.tested_builds where invocation_id not in (select invocation_id from ops.mart_builds);
"""
BEGUN_EXPORTS = """
select invocation_id || '.' || mart from ops.mart_builds
where contains(mart, '.') and invocation_id not in (select invocation_id from ops.tested_builds)
"""
NOT_KEPT = """
update ops.publications set kept = false
where kept and (transform_flow_run_id, published_at) not in (
    select (transform_flow_run_id, max(published_at)) from ops.publications
    group by transform_flow_run_id order by max(published_at) desc limit ?
)
"""


@dataclass(frozen=True)
class Mart:
    """A mart, or an export, as readers see it: the dbt invocation that built it and, on the lake, the snapshot."""

    build: str
    snapshot: int | None = None


@dataclass(frozen=True)
class Publication:
    """What readers see, or have seen, since a moment."""

    transform_run_id: str
    published_at: datetime
    place: str
    """Where readers find it: the file, or the schema of the lake with the snapshot."""
    bytes: int
    """Of the file; 0 on the lake, where nothing is copied."""
    marts: dict[str, Mart]
    rolled_back: bool
    kept: bool
    """Whether `roll_back` can bring it back."""


def publish_if_changed(settings: Settings, transform_run_id: str) -> Publication | None:
    """Publishes the marts if any was built and tested since the last publication; else None.

    Call it while no dbt run is at work: on one machine in the block of `exclusive_writer`, on the lake whenever the
    ledger has been written. What a killed transform has not published, the next one does.
    """
    if settings.published_marts is None or not (settings.on_lake or settings.warehouse.exists()):
        return None
    with _open(settings) as connection:
        missing = not settings.on_lake and not settings.published_marts.exists()
        state = _read_state(connection)
        if state.has_changed or (missing and state.tables):
            return _publish(connection, settings, _check_run_id(transform_run_id))
    return None


def publish(settings: Settings, transform_run_id: str) -> Publication:
    """Publishes the marts that have passed their tests, by one act.

    Raises PublishingError, with what was published before still in place, if that cannot be done, and
    InvalidInputError if publishing is switched off.
    """
    run_id = _check_run_id(transform_run_id)
    with _open(settings) as connection:
        return _publish(connection, settings, run_id)


def roll_back(settings: Settings, transform_run_id: str) -> Publication:
    """Puts what a transform has published into place again, until something is built and published after that.

    Raises InvalidInputError, which names the kept publications, if that is none of them.
    """
    run_id = _check_run_id(transform_run_id)
    with _open(settings) as connection:
        kept = [publication for publication in _publications(connection) if publication.kept]
        found = next((publication for publication in kept if publication.transform_run_id == run_id), None)
        if found is None:
            runs = ", ".join(publication.transform_run_id for publication in kept) or "none"
            raise InvalidInputError(f"run: expected that of a kept publication ({runs}), got {run_id}")
        if settings.on_lake:
            return _roll_back_lake(connection, settings, found)
        return _roll_back_file(connection, settings, found)


def list_publications(settings: Settings) -> list[Publication]:
    """What was published when, newest first; the first is what readers see."""
    if not settings.on_lake and not settings.warehouse.exists():
        return []
    with connect(settings) as connection:
        migrate(connection)
        return _publications(connection)


def untested_marts(connection: Connection) -> dict[str, datetime]:
    """The marts and exports whose last build failed, or was killed, or is still at work, with when it began."""
    return dict(connection.sql(UNTESTED).fetchall())


def delete_untested(connection: Connection) -> None:
    """The builds that were not tested. For after a build of everything: a mart that it has not built is gone."""
    connection.execute(
        "delete from ops.mart_builds where invocation_id not in (select invocation_id from ops.tested_builds)"
    )


def pinned_snapshots(connection: Connection) -> set[int]:
    """The lake's snapshots that published views, or kept publications, read: `maintain` must not expire them."""
    migrate(connection)
    kept = [publication for publication in _publications(connection) if publication.kept]
    return {mart.snapshot for publication in kept for mart in publication.marts.values() if mart.snapshot is not None}


def dbt_variables(settings: Settings) -> dict[str, str]:
    """The environment that makes a dbt build leave its exports for publishing, where that is switched on."""
    folder = settings.exports.absolute()
    if settings.published_marts is None:
        return {"BATON_EXPORTS": str(folder), "BATON_STAGED_EXPORTS": ""}
    staging = published_files.staging_folder(folder)
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishingError(
            f"{staging}: cannot be made, and dbt leaves the Parquet exports there. The batches stay pending; set "
            f"BATON_EXPORTS to a folder that can be written. {error}"
        ) from error
    return {"BATON_EXPORTS": str(folder), "BATON_STAGED_EXPORTS": str(staging)}


@contextmanager
def _open(settings: Settings) -> Iterator[Connection]:
    """A connection to publish with; PublishingError for what goes wrong meanwhile."""
    target = _target(settings)
    try:
        with connect(settings) as connection:
            migrate(connection)
            yield connection
    except (OSError, duckdb.Error) as error:
        if is_conflict(error):
            raise
        raise PublishingError(
            f"{target}: the marts could not be published, so readers still see the ones before. What was built is in "
            f"the ledger, and the next transform publishes it. {error}"
        ) from error


def _publish(connection: Connection, settings: Settings, run_id: str) -> Publication:
    publish_one = _publish_lake if settings.on_lake else _publish_file
    publication, *before = publish_one(connection, settings, run_id)
    kept = {each.transform_run_id for each in (publication, *before) if each.kept}
    staged = connection.sql(BEGUN_EXPORTS).fetchall()
    published_files.remove_superseded(_target(settings), settings.exports, kept, {name for (name,) in staged})
    return publication


def _publish_file(connection: Connection, settings: Settings, run_id: str) -> list[Publication]:
    target, state = _target(settings), _read_state(connection)
    size = published_files.publish_marts(connection, target, run_id, state.tables, state.gone)
    published_files.publish_exports(settings.exports, run_id, state.exports)
    marts = state.still_published | {name: Mart(build) for name, build in state.tested.items()}
    with _transaction(connection):
        return _record(connection, settings, run_id, str(target), size, marts)


@retry_conflicts
def _publish_lake(connection: Connection, settings: Settings, run_id: str) -> list[Publication]:
    """One transaction, which sees one snapshot: of the marts, of what is known of their tests, and pins it."""
    with _transaction(connection):
        state = _read_state(connection)
        snapshot = connection.execute(f"select id from {NAME}.current_snapshot()").fetchall()[0][0]
        marts = state.still_published | {name: Mart(build, snapshot) for name, build in state.tested.items()}
        _pin_views(connection, dict.fromkeys(state.tables, snapshot), state.gone)
        published_files.publish_exports(settings.exports, run_id, state.exports)
        return _record(connection, settings, run_id, f"schema published, snapshot {snapshot}", 0, marts)


@retry_conflicts
def _roll_back_lake(connection: Connection, settings: Settings, found: Publication) -> Publication:
    pins = {name: mart.snapshot for name, mart in found.marts.items() if mart.snapshot and not _is_export(name)}
    with _transaction(connection):
        state = _read_state(connection)
        _pin_views(connection, pins, state.tables.keys() - pins.keys())
        published_files.roll_back_exports(settings.exports, found.transform_run_id)
        marts = _as_if_newest(found, state)
        return _record(connection, settings, found.transform_run_id, found.place, 0, marts, rolled_back=True)[0]


def _roll_back_file(connection: Connection, settings: Settings, found: Publication) -> Publication:
    run_id = found.transform_run_id
    published_files.roll_back_marts(_target(settings), run_id)
    published_files.roll_back_exports(settings.exports, run_id)
    marts = _as_if_newest(found, _read_state(connection))
    with _transaction(connection):
        return _record(connection, settings, run_id, found.place, found.bytes, marts, rolled_back=True)[0]


def _as_if_newest(found: Publication, state: "_State") -> dict[str, Mart]:
    """The marts of a publication with the newest builds: what was rolled back is published once more is built."""
    builds = {name: mart.build for name, mart in found.marts.items()} | state.tested
    return {
        name: Mart(build, found.marts[name].snapshot if name in found.marts else None) for name, build in builds.items()
    }


@dataclass(frozen=True)
class _State:
    """What can be published, and what is."""

    tested: dict[str, str]
    """Marts and exports whose last build passed its tests, with the dbt invocation that built them."""
    existing: set[str]
    """The tables and views of the schema `marts`."""
    last: dict[str, Mart]
    """What the last publication holds."""

    @property
    def tables(self) -> dict[str, str]:
        return {name: build for name, build in self.tested.items() if not _is_export(name)}

    @property
    def exports(self) -> dict[str, str]:
        return {name: build for name, build in self.tested.items() if _is_export(name)}

    @property
    def gone(self) -> set[str]:
        """What was published of models that the warehouse no longer has."""
        return {name for name in self.last if not _is_export(name)} - self.existing

    @property
    def still_published(self) -> dict[str, Mart]:
        return {name: mart for name, mart in self.last.items() if name not in self.gone}

    @property
    def has_changed(self) -> bool:
        published = {name: mart.build for name, mart in self.last.items()}
        return bool(self.gone) or any(published.get(name) != build for name, build in self.tested.items())


def _read_state(connection: Connection) -> _State:
    existing = {name for (name,) in connection.sql(IN_MARTS).fetchall()}
    noted = connection.sql(TESTED).fetchall()
    publications = _publications(connection)
    return _State(
        {name: build for name, build in noted if name in existing or _is_export(name)},
        existing,
        publications[0].marts if publications else {},
    )


def _pin_views(connection: Connection, snapshots: Mapping[str, int], gone: Collection[str]) -> None:
    # Of two transactions that replace a table, the second to commit fails; with appends alone both would succeed.
    connection.execute("create or replace table ops.publications__turn as select now() as at")
    connection.execute("create schema if not exists published")
    for name, snapshot in snapshots.items():
        mart = _quoted(name)
        connection.execute(
            f"create or replace view published.{mart} as select * from marts.{mart} at (version => {snapshot})"
        )
    for name in gone:
        connection.execute(f"drop view if exists published.{_quoted(name)}")


def _record(
    connection: Connection,
    settings: Settings,
    run_id: str,
    place: str,
    size: int,
    marts: Mapping[str, Mart],
    rolled_back: bool = False,
) -> list[Publication]:
    """Enters a publication and forgets what none needs any more; all publications, newest first."""
    content = json.dumps({name: asdict(mart) for name, mart in sorted(marts.items())})
    connection.execute(
        "insert into ops.publications values (?, now(), ?, ?, ?, ?, true)", [run_id, place, size, content, rolled_back]
    )
    connection.execute(NOT_KEPT, [settings.kept_publications + 1])
    connection.execute(SUPERSEDED)
    return _publications(connection)


def _publications(connection: Connection) -> list[Publication]:
    rows = connection.sql(
        "select transform_flow_run_id::text, published_at, place, bytes, marts, rolled_back, kept "
        "from ops.publications order by published_at desc"
    ).fetchall()
    return [
        Publication(run_id, at, place, size, {name: Mart(**mart) for name, mart in json.loads(marts).items()}, *flags)
        for run_id, at, place, size, marts, *flags in rows
    ]


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        with suppress(duckdb.TransactionException):  # A commit that failed has ended it.
            connection.rollback()
        raise


def _target(settings: Settings) -> Path:
    if settings.published_marts is None:
        raise InvalidInputError(
            "expected BATON_PUBLISHED_MARTS to name a file, got an empty value, which switches publishing off; unset it"
        )
    return settings.published_marts


def _check_run_id(run_id: str) -> str:
    try:
        return str(UUID(run_id))
    except ValueError:
        raise InvalidInputError(f"run: expected the id of a transform's flow run, got {cut(repr(run_id))}") from None


def _is_export(name: str) -> bool:
    """A Parquet file by its name; a mart's name has no dot."""
    return "." in name


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
