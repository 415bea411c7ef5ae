"""Published marts as files: `marts.duckdb` and the Parquet exports, each made beside and renamed into place.

A reader that has a file open goes on reading what it opened; one that opens it gets one moment of all marts. The last
publications are kept as hard links, so that rolling back is a rename, too.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import duckdb

CONTENT = "_publication"
"""The table in the published database that says which dbt invocation built each mart, and who published it."""


def publish_marts(
    connection: duckdb.DuckDBPyConnection, target: Path, run_id: str, builds: Mapping[str, str], gone: Collection[str]
) -> int:
    """Publishes the marts of these builds (mart: dbt invocation), without those that are gone; the file's bytes.

    A mart that no build here names, because it failed its tests since, stays as it is published. Only the marts that
    were built since are copied: copying a file is faster than writing its tables anew.
    """
    new = kept_marts(target, run_id).with_suffix(".new")
    new.parent.mkdir(parents=True, exist_ok=True)
    _remove(new)
    published = _content(connection, target)
    stay = {mart for mart, build in published.items() if builds.get(mart, build) == build} - set(gone)
    if stay:
        shutil.copyfile(target, new)
    with _attached(connection, new, "publication"):
        for mart in published.keys() - stay:
            connection.execute(f"drop table if exists publication.{_quoted(mart)}")
        for mart in builds.keys() - stay:
            connection.execute(f"create table publication.{_quoted(mart)} as from marts.{_quoted(mart)}")
        _write_content(connection, run_id, {**published, **builds}, stay | builds.keys())
    new.chmod(0o444)
    _fsync(new)
    new.rename(kept_marts(target, run_id))
    put_into_place(kept_marts(target, run_id), target)
    return target.stat().st_size


def publish_exports(folder: Path, run_id: str, builds: Mapping[str, str]) -> None:
    """Publishes the Parquet files of these builds (file name: dbt invocation), as dbt has staged them.

    One that is not staged was published before, or was written into its place by a dbt run by hand.
    """
    kept = kept_exports(folder, run_id)
    kept.mkdir(parents=True, exist_ok=True)
    for name, build in builds.items():
        staged = staging_folder(folder) / f"{build}.{name}"
        if _link(staged, kept / name):
            put_into_place(kept / name, folder / name)
        else:
            _link(folder / name, kept / name)


def roll_back_marts(target: Path, run_id: str) -> None:
    """Puts the database that a run has published into its place again."""
    put_into_place(kept_marts(target, run_id), target)


def roll_back_exports(folder: Path, run_id: str) -> None:
    """Puts the Parquet files that a run has published into their places again."""
    for file in sorted(kept_exports(folder, run_id).glob("[!.]*")):
        put_into_place(file, folder / file.name)


def remove_superseded(target: Path, folder: Path, kept: Collection[str], staged: Collection[str]) -> None:
    """Removes what is kept of other runs than these, and staged exports of other names than these."""
    for file in target.with_name(f"{target.name}.kept").glob("*"):
        if file.name.partition(".")[0] not in kept:
            _remove(file)
    for run in (folder / ".kept").glob("*"):
        if run.name not in kept:
            shutil.rmtree(run)
    for file in staging_folder(folder).glob("*"):
        if file.name not in staged:
            _remove(file)


def kept_marts(target: Path, run_id: str) -> Path:
    """The database that a run has published, for as long as it is kept."""
    return target.with_name(f"{target.name}.kept") / f"{run_id}.duckdb"


def kept_exports(folder: Path, run_id: str) -> Path:
    """The folder of the Parquet files that a run has published, for as long as they are kept."""
    return folder / ".kept" / run_id


def staging_folder(folder: Path) -> Path:
    """Where dbt leaves the Parquet files that are not published yet, named `<dbt invocation>.<file name>`."""
    return folder / ".staged"


def put_into_place(file: Path, target: Path) -> None:
    """Makes a kept file appear under the target's name, in one step; it stays under its own name, too."""
    new = file.with_name(f".{file.name}.new")
    _link(file, new)
    new.replace(target)
    new.unlink(missing_ok=True)  # Renaming does nothing where the target is a link to the same file already.
    _fsync(target.parent)


def _link(file: Path, name: Path) -> bool:
    """Gives a file one more name, or copies it where there are no hard links; False if there is no such file."""
    name.unlink(missing_ok=True)
    try:
        os.link(file, name)
    except FileNotFoundError:
        return False
    except OSError:
        shutil.copyfile(file, name)
    _fsync(name)
    return True


def _content(connection: duckdb.DuckDBPyConnection, target: Path) -> dict[str, str]:
    """Which dbt invocation built each mart in the file; nothing if there is no file."""
    if not target.exists():
        return {}
    with _attached(connection, target, "published", "read_only"):
        return dict(connection.sql(f"select mart, invocation_id from published.{CONTENT}").fetchall())


def _write_content(
    connection: duckdb.DuckDBPyConnection, run_id: str, builds: Mapping[str, str], marts: Collection[str]
) -> None:
    connection.execute(
        f"create or replace table publication.{CONTENT} "
        "(mart text, invocation_id text, transform_flow_run_id uuid, published_at timestamptz)"
    )
    connection.executemany(
        f"insert into publication.{CONTENT} values (?, ?, ?, now())",
        [(mart, builds[mart], run_id) for mart in sorted(marts)],
    )


@contextlib.contextmanager
def _attached(connection: duckdb.DuckDBPyConnection, file: Path, name: str, options: str = "") -> Iterator[None]:
    literal = str(file).replace("'", "''")
    connection.execute(f"attach '{literal}' as {name} {f'({options})' if options else ''}")
    try:
        yield
    finally:
        connection.execute(f"detach {name}")


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _remove(file: Path) -> None:
    for leftover in (file, file.with_name(f"{file.name}.wal")):
        leftover.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """A file's bytes, or a folder's names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
