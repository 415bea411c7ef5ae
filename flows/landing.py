"""Immutable batches under a landing root. Knows nothing of Prefect.

A batch is a folder with two files, `<root>/<source>/<table>/batch_id=<id>/{records.jsonl.gz,manifest.json}`.
It is written under `<root>/_incoming` and renamed into place whole, so a reader sees all of it or nothing,
with no lock and no database; the rename of the folder is the publication.
"""

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, ValidationError

from flows.settings import split_source

RECORDS = "records.jsonl.gz"
MANIFEST = "manifest.json"
NAME = re.compile(r"[a-z][a-z0-9_]*")
BATCH_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")
SCHEMA_VERSION = 1
COMPRESSION = 1  # twice as fast as the default for files a fifth larger; extracts are bound by it

# `json.dumps` with options of one's own makes a new encoder for each record.
_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class BatchError(Exception):
    """A batch in the landing is not what its manifest says; the message names the file."""


class Manifest(BaseModel):
    """What a batch says of itself; also the payload of its `extract.finished` event."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    batch_id: str
    rows: NonNegativeInt
    """Records in the file, which is also its number of lines."""
    bytes: NonNegativeInt
    """Size of the compressed file."""
    sha256: str
    """Of the compressed file, in hex."""
    total: NonNegativeInt
    """How many records the API said it had."""
    extracted_at: AwareDatetime
    """When the last page had been read, UTC."""
    flow_run_id: UUID
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Batch:
    """A published batch, by its place. Nothing of it has been read yet."""

    root: Path
    source: str
    batch_id: str

    @property
    def key(self) -> tuple[str, str]:
        """What the ledger knows a batch by."""
        return self.source, self.batch_id

    @property
    def folder(self) -> Path:
        return self.root.joinpath(*split_source(self.source), f"batch_id={check_batch_id(self.batch_id)}")

    @property
    def records(self) -> Path:
        return self.folder / RECORDS

    def manifest(self) -> Manifest:
        """The manifest as written; BatchError if it is missing, unreadable or another batch's."""
        path = self.folder / MANIFEST
        try:
            with _open_file(path) as file:
                manifest = Manifest.model_validate_json(file.read())
        except (OSError, ValidationError) as error:
            raise BatchError(f"{path}: not a manifest that can be read: {error}") from error
        if (manifest.source, manifest.batch_id) != (self.source, self.batch_id):
            raise BatchError(f"{path}: is the manifest of {manifest.source} {manifest.batch_id}")
        return manifest

    def verify(self) -> Manifest:
        """The manifest, once the records file has been found to have its size and sha256; else BatchError."""
        manifest = self.manifest()
        try:
            with _open_file(self.records) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise BatchError(f"{self.records}: cannot be read: {error}") from error
        if (size, sha256) != (manifest.bytes, manifest.sha256):
            raise BatchError(
                f"{self.records}: has {size} bytes with sha256 {sha256[:12]}…, but its manifest says "
                f"{manifest.bytes} bytes with {manifest.sha256[:12]}…: the file was damaged after it was published"
            )
        return manifest


class BatchWriter:
    """Collects the records of one batch; made by `writing`, finished by `publish`."""

    def __init__(self, batch: Batch, folder: Path) -> None:
        self.batch = batch
        self.rows = 0
        self._folder = folder
        self._file = (folder / RECORDS).open("xb")
        # mtime=0: the same records always give the same bytes.
        self._gzip = gzip.GzipFile("", "wb", COMPRESSION, self._file, mtime=0)

    def write(self, records: Iterable[dict[str, Any]]) -> None:
        """Append records, one JSON object a line. Half of a surrogate pair, which is not text, becomes `?`."""
        lines = [_line(record) for record in records]
        if lines:
            self._gzip.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))
            self.rows += len(lines)

    def close(self) -> None:
        """Let go of the file, whether or not it was published."""
        self._file.close()

    def publish(self, *, total: int, extracted_at: datetime, flow_run_id: UUID) -> Manifest:
        """Make the batch visible, durably and all at once.

        If the same batch has been published meanwhile (two processes of one flow run), that one stands.
        """
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        path = self._folder / RECORDS
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = Manifest(
            source=self.batch.source,
            batch_id=self.batch.batch_id,
            rows=self.rows,
            bytes=path.stat().st_size,
            sha256=sha256,
            total=total,
            extracted_at=extracted_at.astimezone(UTC),
            flow_run_id=flow_run_id,
        )
        with (self._folder / MANIFEST).open("x") as file:
            file.write(manifest.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        _fsync_folder(self._folder)
        self.batch.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._folder.rename(self.batch.folder)
        except OSError:
            if not self.batch.records.exists():
                raise
            return self.batch.manifest()
        _fsync_folder(self.batch.folder.parent)
        return manifest


@contextlib.contextmanager
def writing(batch: Batch) -> Iterator[BatchWriter]:
    """A writer for one batch. What it wrote is gone if the block ends without `publish`.

    Also removes what killed writers left behind, and only that: a writer holds a lock on its folder
    for as long as it lives, and the system drops the lock when it dies.
    """
    incoming = batch.root / "_incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # The lock on the parent keeps a sweep from taking a folder between its making and its locking.
        with _locked(incoming, wait=True):
            for leftover in incoming.iterdir():
                with contextlib.suppress(OSError), _locked(leftover):
                    shutil.rmtree(leftover, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{batch.source}.{batch.batch_id}.", dir=incoming))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(_locked(folder))
        writer = BatchWriter(batch, folder)
        stack.callback(writer.close)
        yield writer


def new_batch_id(scheduled_at: datetime, flow_run_id: UUID) -> str:
    """Sorts by time, and is the same for every retry of one flow run, since both arguments are.

    The last twelve digits of the run's id are random in every version of UUID; the first are a clock in v7.
    """
    return f"{scheduled_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{flow_run_id.hex[-12:]}"


def check_batch_id(batch_id: str) -> str:
    """The id itself; ValueError on anything that is not one, because it becomes the name of a folder."""
    if not (isinstance(batch_id, str) and BATCH_ID.fullmatch(batch_id)):
        raise ValueError(
            f"batch_id: expected an id such as '20261124T000000Z-0123456789ab', got {str(batch_id)[:80]!r}"
        )
    return batch_id


def published(batch: Batch) -> bool:
    """Whether a reader can see the batch."""
    return batch.records.exists()


def landed(root: Path) -> list[Batch]:
    """Every published batch of every source, oldest id first within a source.

    Whatever else lies under the root is passed over. Costs one listing a source, whatever the
    number of batches: a folder named `batch_id=<id>` is a published batch by construction.

    Raises BatchError for a source's folder that cannot be listed or is a link, which would lead out of the root.
    """
    return [
        Batch(root, f"{source}.{table}", batch_id)
        for source in _folders(root)
        if NAME.fullmatch(source)
        for table in _folders(_no_link(root / source))
        if NAME.fullmatch(table)
        for batch_id in sorted(
            name.removeprefix("batch_id=")
            for name in _folders(_no_link(root / source / table))
            if name.startswith("batch_id=")
        )
        if BATCH_ID.fullmatch(batch_id)
    ]


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BatchError(f"{path}: cannot be listed: {error}") from error


def _no_link(folder: Path) -> Path:
    """The folder itself. Its batches would be passed over in silence if a link were not an error."""
    if folder.is_symlink():
        raise BatchError(f"{folder}: is a link, expected a folder; only BATON_LANDING_ROOT itself may be one")
    return folder


def _open_file(path: Path) -> BufferedReader:
    """Opens a batch's file for reading; OSError for a link, which may lead anywhere, and for what is no file."""
    if path.parent.is_symlink():
        raise OSError(f"{path.parent} is a link, expected a folder")
    # Without O_NONBLOCK a named pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("expected a file")
    return os.fdopen(descriptor, "rb")


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the folder's lock; unless it waits, BlockingIOError (an OSError) if a living process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
