"""Are the data where they should be: landing, warehouse, ledger; and the databases that several machines share."""

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

from flows import ledger
from flows.landing import Batch, BatchError, LandingError, landed
from stack.doctor.findings import Finding
from stack.doctor.patient import Patient
from stack.doctor.server import skew
from stack.doctor.work import sweep_seconds

MOST = 100
"""As many manifests are read; a thousand pending batches are as wrong as a hundred."""


ASK_ONCE = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 5, "retries": {"max_attempts": 1}}}
"""For an object store. Somebody waits for the answer, and one that answers at the fifth try is not well either."""


def landing(patient: Patient) -> Iterator[Finding]:
    """A file can be written under the landing root, read and removed."""
    yield probed("landing", str(patient.baton.landing_root), "BATON_LANDING_ROOT")


def lake_data(patient: Patient) -> Iterator[Finding]:
    """A file can be written where the lake's files go; the catalog alone can be opened without that."""
    if patient.baton.on_lake:
        yield probed("lake data", patient.baton.lake[1], "BATON_LAKE_DATA")
    else:
        yield Finding("lake data", "ok", "none: the warehouse is a DuckDB file")


def probed(name: str, root: str, variable: str) -> Finding:
    """Whether a file can be written under a root, read and removed."""
    mend = f"set {variable}, or let the worker's user write there; for s3:// see AWS_* in README.md"
    if "://" not in root and not os.path.lexists(root):
        parent = next(parent for parent in Path(root).absolute().parents if parent.exists())
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return Finding(name, "ok", f"{root} is not there yet; the first run that needs it makes it")
        return Finding(name, "wrong", f"{root} cannot be made in {parent}", mend)
    probe = f"{root.rstrip('/')}/_doctor-{uuid4().hex}"
    try:
        options = ASK_ONCE if root.startswith("s3://") else {}
        system, path = fsspec.core.url_to_fs(probe, use_listings_cache=False, **options)
        try:
            system.pipe_file(path, b"probe")
            read = system.cat_file(path)
        finally:
            with contextlib.suppress(OSError):
                system.rm_file(path)
    except Exception as error:  # Each file system has errors of its own.
        return Finding(name, "wrong", f"{root}: {type(error).__name__}: {error}", mend)
    if read != b"probe":
        return Finding(name, "wrong", f"{root}: what was read is not what had been written", mend)
    return Finding(name, "ok", f"{root} can be read and written")


def warehouse(patient: Patient) -> Iterator[Finding]:
    """The warehouse can be opened."""
    settings = patient.baton
    shown = f"the lake {settings.lake_data}" if settings.on_lake else str(settings.warehouse)
    if not settings.on_lake and not settings.warehouse.exists():
        yield Finding("warehouse", "ok", f"{shown} is not there yet; the first transform makes it")
        return
    try:
        with ledger.opened(settings, read_only=True) as connection:
            connection.sql("select 1").fetchall()
    except ledger.WarehouseBusy:
        mend = "nothing while a transform runs; else end the program that holds it (fuser FILE)"
        yield Finding("warehouse", "warning", f"{shown} is held by another process", mend)
    except (duckdb.Error, OSError) as error:
        first_line = str(error).partition("\n")[0]
        mend = (
            "see BATON_LAKE_CATALOG, BATON_LAKE_DATA and AWS_*"
            if settings.on_lake
            else "move it away; prefect deployment run transform/warehouse makes it again from the landing"
        )
        yield Finding("warehouse", "wrong", f"{shown} cannot be opened: {first_line}", mend)
    else:
        yield Finding("warehouse", "ok", f"{shown} can be opened")


def in_step(patient: Patient) -> Iterator[Finding]:
    """What has landed is in the ledger, or will be soon."""
    settings = patient.baton
    try:
        batches = landed(settings.landing_root)
        state = ledger.read(settings)
    except ledger.WarehouseBusy:
        yield Finding("ledger", "skipped", "another process holds the warehouse")
        return
    except LandingError as error:
        yield Finding("ledger", "wrong", str(error), "make it readable, and a folder")
        return
    pending = state.pending(batches)
    sweep = sweep_seconds(patient)
    old = [batch for batch in pending[:MOST] if landed_ago(batch) > timedelta(seconds=sweep)]
    if old:
        said = f"{len(old)} batches have been pending for longer than the sweep's {sweep:.0f} s: {shown(old)}"
        mend = "look at the last runs of transform/warehouse, then prefect deployment run transform/warehouse"
        yield Finding("ledger", "wrong", said, mend)
    if lost := state.processed - {batch.key for batch in batches}:
        said = f"{len(lost)} processed batches are not in the landing, the oldest {oldest(lost)}"
        mend = "nothing, if they were pruned; the transform refuses a full refresh without them"
        yield Finding("ledger", "warning", said, mend)
    if state.quarantined:
        said = f"{len(state.quarantined)} batches were set aside, the oldest {oldest(state.quarantined)}"
        yield Finding(
            "ledger", "warning", said, "python -m flows quarantine says why; python -m flows replay tries again"
        )
    if not (old or lost or state.quarantined):
        waiting = f", {len(pending)} wait for the next transform" if pending else ""
        yield Finding("ledger", "ok", f"{len(state.processed)} batches processed{waiting}")


def oldest(keys: Iterable[ledger.Key]) -> str:
    """Source and batch id of the oldest; ids sort by time."""
    batch_id, source = min((batch_id, source) for source, batch_id in keys)
    return f"{source} {batch_id}"


def shown(batches: list[Batch]) -> str:
    """The first three."""
    return ", ".join(f"{batch.source} {batch.batch_id}" for batch in batches[:3]) + (" …" if batches[3:] else "")


def landed_ago(batch: Batch) -> timedelta:
    """How long ago a batch was extracted; for ever, if its manifest cannot be read."""
    try:
        return datetime.now(UTC) - batch.manifest().extracted_at
    except BatchError:
        return timedelta.max


def databases(patient: Patient) -> Iterator[Finding]:
    """Postgres and Redis answer, and are of one time with this machine."""
    redis = patient.server_told.get("PREFECT_REDIS_MESSAGING_URL")
    prefects = patient.server_told.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", "").replace("+asyncpg", "")
    postgres = prefects if prefects.startswith("postgresql://") else None
    if patient.baton.on_lake:
        postgres = patient.baton.lake[0]
    if not (postgres or redis):
        yield Finding("databases", "ok", "neither Postgres nor Redis, as far as can be seen from here")
        return
    for name, url, ask in (("Postgres", postgres, postgres_time), ("Redis", redis, redis_time)):
        if not url:
            yield Finding("databases", "skipped", f"where {name} is cannot be seen from here")
            continue
        try:
            before = time.time()
            theirs = ask(url)
        except Exception as error:  # Of drivers and networks, each with errors of its own.
            mend = f"start {name}, or correct BATON_{name.upper()}_URL and make up again"
            yield Finding("databases", "wrong", f"{name} does not answer: {type(error).__name__}: {error}", mend)
            continue
        yield Finding("databases", "ok", f"{name} answers")
        yield skew(name, theirs - (before + time.time()) / 2)


def postgres_time(url: str) -> float:
    """What time Postgres has, in seconds."""

    async def ask() -> float:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return float(await connection.fetchval("select extract(epoch from clock_timestamp())"))
        finally:
            await connection.close()

    return asyncio.run(ask())


def redis_time(url: str) -> float:
    """What time Redis has, in seconds."""
    from redis import Redis  # Of the scale profile's packages.

    with Redis.from_url(url, socket_timeout=5) as client:
        seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
