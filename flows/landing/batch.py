"""Immutable batches under a landing root. Knows nothing of Prefect.

A batch is its records and its manifest, `<root>/<source>/<table>/batch_id=<id>/{records.jsonl.gz,manifest.json}`. The
root is a folder (`landing_folder`) or the URL of an object store (`landing_objects`). Either way a batch is published
by one act that happens or does not, so a reader sees all of it or nothing, with no lock and no database.
"""

import contextlib
import gzip
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, ValidationError

from flows import landing_folder, landing_objects
from flows.landing_folder import MANIFEST, NAME, RECORDS, LandingError
from flows.settings import split_source

__all__ = ["MANIFEST", "RECORDS", "Batch", "BatchError", "LandingError", "Manifest", "landed", "published", "writing"]

BATCH_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")
SCHEMA_VERSION = 1
COMPRESSION = 1  # twice as fast as the default for files a fifth larger; extracts are bound by it

# `json.dumps` with options of one's own makes a new encoder for each record.
_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class BatchError(Exception):
    """A batch in the landing is not what its manifest says; the message names the file."""


class Store(Protocol):
    """How batches are kept: the functions of `landing_folder` and of `landing_objects`."""

    def records_name(self, _sha256: str) -> str: ...
    def join(self, root: Path | str, *names: str) -> Path | str: ...
    def incoming(self, root: Path | str, name: str) -> contextlib.AbstractContextManager[Path]: ...
    def publish(self, written: Path, batch: Path | str) -> bool: ...
    def published(self, batch: Path | str) -> bool: ...
    def batches(self, root: Path | str, sources: Collection[str] | None) -> Iterator[tuple[str, str, str]]: ...
    def opened(self, path: Path | str) -> contextlib.AbstractContextManager[BufferedIOBase]: ...
    def remove(self, batch: Path | str) -> None: ...
    def remove_leftovers(self, _root: Path | str, _older_than_seconds: float) -> int: ...


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

    root: Path | str
    """A folder, or the URL of an object store such as s3://bucket/landing."""
    source: str
    batch_id: str

    @property
    def key(self) -> tuple[str, str]:
        """What the ledger knows a batch by."""
        return self.source, self.batch_id

    @property
    def folder(self) -> Path | str:
        """The folder of the batch, or the URL that its objects begin with."""
        names = *split_source(self.source), f"batch_id={check_batch_id(self.batch_id)}"
        return store_of(self.root).join(self.root, *names)

    def records(self, manifest: "Manifest") -> Path | str:
        """The file, or the object, that the records are in."""
        store = store_of(self.root)
        return store.join(self.folder, store.records_name(manifest.sha256))

    def manifest(self) -> Manifest:
        """The manifest as written; BatchError if it is missing, unreadable or another batch's."""
        store = store_of(self.root)
        path = store.join(self.folder, MANIFEST)
        try:
            with store.opened(path) as file:
                content = file.read()
            # Outside of the block, where an exception is the store's fault.
            manifest = Manifest.model_validate_json(content)
        except (OSError, ValidationError) as error:
            raise BatchError(f"{path}: not a manifest that can be read: {error}") from error
        if (manifest.source, manifest.batch_id) != (self.source, self.batch_id):
            raise BatchError(f"{path}: is the manifest of {manifest.source} {manifest.batch_id}")
        return manifest

    def verify(self) -> Manifest:
        """The manifest, once the records file has been found to have its size and sha256; else BatchError."""
        manifest = self.manifest()
        records = self.records(manifest)
        try:
            with store_of(self.root).opened(records) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise BatchError(f"{records}: cannot be read: {error}") from error
        if (size, sha256) != (manifest.bytes, manifest.sha256):
            raise BatchError(
                f"{records}: has {size} bytes with sha256 {sha256[:12]}…, but its manifest says "
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
        store = store_of(self.batch.root)
        path.rename(self._folder / store.records_name(sha256))
        return manifest if store.publish(self._folder, self.batch.folder) else self.batch.manifest()


@contextlib.contextmanager
def writing(batch: Batch) -> Iterator[BatchWriter]:
    """A writer for one batch. What it wrote is gone if the block ends without `publish`."""
    with store_of(batch.root).incoming(batch.root, f"{batch.source}.{batch.batch_id}") as folder:
        writer = BatchWriter(batch, folder)
        try:
            yield writer
        finally:
            writer.close()


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
    return store_of(batch.root).published(batch.folder)


def landed(root: Path | str, sources: Collection[str] | None = None) -> list[Batch]:
    """Every published batch, oldest id first within a source; of all sources, or of these. Passes over anything else.

    Costs one listing a source, whatever the number of batches; in an object store one request for a thousand objects.

    Raises LandingError for a source's folder that cannot be listed or is a link, which would lead out of the root.
    """
    return [
        Batch(root, f"{source}.{table}", batch_id)
        for source, table, batch in store_of(root).batches(root, sources)
        if NAME.fullmatch(source) and NAME.fullmatch(table) and batch.startswith("batch_id=")
        if BATCH_ID.fullmatch(batch_id := batch.removeprefix("batch_id="))
    ]


def remove(batch: Batch) -> None:
    """Removes a published batch."""
    store_of(batch.root).remove(batch.folder)


def remove_leftovers(root: Path | str, older_than_seconds: float) -> int:
    """Removes what killed writers left in an object store; how many objects. In a folder the next writer does it."""
    return store_of(root).remove_leftovers(root, older_than_seconds)


def store_of(root: Path | str) -> Store:
    """How batches are kept under this root."""
    return landing_objects if "://" in str(root) else landing_folder
