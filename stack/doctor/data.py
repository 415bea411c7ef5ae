"""Checks of the data: landing, warehouse, ledger, and the databases that several machines share."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import duckdb
import fsspec
import psutil

from flows.errors import BatchError, LandingError, WarehouseBusyError, WarehouseError, counted, cut
from flows.landing.batch import Batch, list_batches
from flows.orchestrate import extract_deployment
from flows.settings import Settings
from flows.warehouse import ledger
from flows.warehouse.connection import connect, holder_in, writer_of
from flows.warehouse.gaps import Gap, gaps
from stack.doctor.findings import Finding
from stack.doctor.server import skew
from stack.doctor.target import Target
from stack.doctor.work import sweep_seconds

MOST_MANIFESTS = 100
"""How many manifests of pending batches are read: enough to see that the sweep does not work."""
ONE_TRY = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 5, "retries": {"max_attempts": 1}}}
"""Options for an object store: a person waits for the answer, and a store that needs five tries has a problem."""


def landing(target: Target) -> Iterator[Finding]:
    """A file under the landing root can be written, read and removed."""
    yield probe("landing", str(target.baton.landing_root), "BATON_LANDING_ROOT")


def lake_data(target: Target) -> Iterator[Finding]:
    """A file beside the lake's data can be written, read and removed; opening the catalog does not show that."""
    if target.baton.on_lake:
        yield probe("lake data", target.baton.lake[1], "BATON_LAKE_DATA")
    else:
        yield Finding("lake data", "ok", "none: the warehouse is a DuckDB file")


def probe(name: str, root: str, variable: str) -> Finding:
    """Whether a file under a root can be written, read and removed."""
    fix = f"set {variable}, or let the worker's user write there; for s3:// see docs/object_store.md"
    if "://" not in root and not os.path.lexists(root):
        parent = next(parent for parent in Path(root).absolute().parents if parent.exists())
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return Finding(name, "ok", f"{root} does not exist yet; the first run that needs it makes it")
        return Finding(name, "error", f"{root} cannot be made in {parent}", fix)
    file = f"{root.rstrip('/')}/_doctor-{uuid4().hex}"
    try:
        options = ONE_TRY if root.startswith("s3://") else {}
        system, path = fsspec.core.url_to_fs(file, use_listings_cache=False, **options)
        try:
            system.pipe_file(path, b"probe")
            read = system.cat_file(path)
        finally:
            with contextlib.suppress(OSError):
                system.rm_file(path)
    except Exception as error:  # Each file system has errors of its own.
        return Finding(name, "error", f"{root}: {type(error).__name__}: {error}", fix)
    if read != b"probe":
        return Finding(name, "error", f"{root}: expected to read what was written, got something else", fix)
    return Finding(name, "ok", f"{root} can be read and written")


def warehouse(target: Target) -> Iterator[Finding]:
    """The warehouse can be opened."""
    settings = target.baton
    name = f"the lake {settings.lake_data}" if settings.on_lake else str(settings.warehouse)
    if not settings.on_lake and not settings.warehouse.exists():
        yield Finding("warehouse", "ok", f"{name} does not exist yet; the first transform makes it")
        return
    try:
        with connect(settings, read_only=True) as connection:
            connection.sql("select 1").fetchall()
    except WarehouseBusyError as error:
        yield held_by(name, holder_in(str(error)) or writer_of(settings))
    except (WarehouseError, duckdb.Error, OSError) as error:
        first_line = str(error).partition("\n")[0]
        fix = (
            "see BATON_LAKE_CATALOG, BATON_LAKE_DATA and AWS_*"
            if settings.on_lake
            else "move it away; prefect deployment run transform/warehouse makes it again from the landing"
        )
        yield Finding("warehouse", "error", f"{name} cannot be opened: {first_line}", fix)
    else:
        writer = None if settings.on_lake else writer_of(settings)
        if writer is not None and is_frozen(writer):  # Between two nodes dbt lets go of the file.
            yield held_by(name, writer)
        else:
            yield Finding("warehouse", "ok", f"{name} can be opened")


def held_by(warehouse: str, pid: int | None) -> Finding:
    """The finding for a warehouse that another process holds: an error if that one is frozen."""
    check = "warehouse"
    if pid is None:
        fix = "nothing while a transform runs; otherwise end the program that holds it (fuser FILE)"
        return Finding(check, "warning", f"{warehouse} is held by another process", fix)
    who = f"{process_name(pid)} (process {pid})"
    if is_frozen(pid):
        message = f"{warehouse} is held by {who}, which is stopped: no transform can work"
        return Finding(check, "error", message, f"kill -CONT {pid} lets it go on, kill -KILL {pid} ends it")
    fix = f"nothing while a transform runs; otherwise end it: kill {pid}"
    return Finding(check, "warning", f"{warehouse} is held by {who}", fix)


def process_name(pid: int) -> str:
    """What a process was started as, without what it was given."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return "a process of another user or machine"
    return cut(" ".join([Path(words[0]).name, *words[1:3]])) if words else "a process"


def is_frozen(pid: int) -> bool:
    """Whether a process on this machine was stopped, by SIGSTOP, Ctrl-Z or a debugger."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def in_step(target: Target) -> Iterator[Finding]:
    """Every landed batch is in the ledger, or will be after the next sweep."""
    settings = target.baton
    try:
        batches = list_batches(settings.landing_root)
        state = ledger.read(settings)
    except WarehouseBusyError:
        yield Finding("ledger", "skipped", "not checked: another process holds the warehouse")
        return
    except LandingError as error:
        yield Finding("ledger", "error", str(error), "make it readable, and a folder")
        return
    pending = state.pending(batches)
    sweep = sweep_seconds(target)
    old = [batch for batch in pending[:MOST_MANIFESTS] if age(batch) > timedelta(seconds=sweep)]
    if old:
        number = counted(len(old), "batch has", "batches have")
        message = f"{number} been pending for longer than the sweep's {sweep:.0f} s: {first_three(old)}"
        fix = "look at the last runs of transform/warehouse, then prefect deployment run transform/warehouse"
        yield Finding("ledger", "error", message, fix)
    if lost := state.processed - {batch.key for batch in batches}:
        number = counted(len(lost), "processed batch is", "processed batches are")
        message = f"{number} not in the landing, the oldest {oldest(lost)}"
        fix = "nothing, if they were pruned; the transform refuses a full refresh without them"
        yield Finding("ledger", "warning", message, fix)
    if state.quarantined:
        number = counted(len(state.quarantined), "batch is", "batches are")
        message = f"{number} quarantined, the oldest {oldest(state.quarantined)}"
        yield Finding("ledger", "warning", message, "baton quarantine lists the reasons; baton replay tries again")
    yield from missing_changes(settings)
    if not (old or lost or state.quarantined):
        waiting = f", {counted(len(pending), 'waits', 'wait')} for the next transform" if pending else ""
        yield Finding("ledger", "ok", f"{counted(len(state.processed), 'batch', 'batches')} processed{waiting}")


def missing_changes(settings: Settings) -> Iterator[Finding]:
    """The gaps of each source that is read by changes: quarantined batches that later ones went on from."""
    found: dict[str, list[Gap]] = {}
    for gap in gaps(settings):
        found.setdefault(gap.source, []).append(gap)
    for source, its in found.items():
        first = its[0]
        spans = ", ".join(f"{gap.batch_id} (from {gap.cursor_from} to {gap.cursor_to or 'unknown'})" for gap in its[:3])
        message = f"{source}: the marts lack the changes of {len(its)} quarantined batches: {spans}"
        since = "full=true" if first.cursor_from is None else f"'since=\"{first.cursor_from}\"'"
        fix = f"baton replay, or read them again: prefect deployment run {extract_deployment(source)} -p {since}"
        yield Finding("ledger", "error", message, fix)


def oldest(keys: Iterable[ledger.Key]) -> str:
    """Source and batch id of the oldest; ids sort by time."""
    batch_id, source = min((batch_id, source) for source, batch_id in keys)
    return f"{source} {batch_id}"


def first_three(batches: list[Batch]) -> str:
    """Source and batch id of the first three."""
    return ", ".join(f"{batch.source} {batch.batch_id}" for batch in batches[:3]) + (" …" if batches[3:] else "")


def age(batch: Batch) -> timedelta:
    """How long ago a batch was extracted; the maximum if its manifest cannot be read."""
    try:
        return datetime.now(UTC) - batch.manifest().extracted_at
    except BatchError:
        return timedelta.max


def databases(target: Target) -> Iterator[Finding]:
    """Postgres and Redis answer, and their clocks agree with this machine's."""
    redis = target.server_environment.get("PREFECT_REDIS_MESSAGING_URL")
    prefects = target.server_environment.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", "").replace("+asyncpg", "")
    postgres = prefects if prefects.startswith("postgresql://") else None
    if target.baton.on_lake:
        postgres = target.baton.lake[0]
    if not (postgres or redis):
        yield Finding("databases", "ok", "neither Postgres nor Redis, as far as this machine shows")
        return
    for name, url, ask in (("Postgres", postgres, postgres_time), ("Redis", redis, redis_time)):
        if not url:
            yield Finding("databases", "skipped", f"not checked: this machine does not show where {name} is")
            continue
        try:
            before = time.time()
            theirs = ask(url)
        except Exception as error:  # Each driver has errors of its own.
            fix = f"start {name}, or correct BATON_{name.upper()}_URL and make up again"
            yield Finding("databases", "error", f"{name} does not answer: {type(error).__name__}: {error}", fix)
            continue
        yield Finding("databases", "ok", f"{name} answers")
        yield skew(name, theirs - (before + time.time()) / 2)


def postgres_time(url: str) -> float:
    """The time of Postgres's clock, in seconds."""

    async def ask() -> float:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return float(await connection.fetchval("select extract(epoch from clock_timestamp())"))
        finally:
            await connection.close()

    return asyncio.run(ask())


def redis_time(url: str) -> float:
    """The time of Redis's clock, in seconds."""
    from redis import Redis  # Of the scale profile's packages.

    with Redis.from_url(url, socket_timeout=5) as client:
        seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
