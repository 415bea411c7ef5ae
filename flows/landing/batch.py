"""Immutable batches under a landing root. Knows nothing of Prefect.

A batch is its records and its manifest, `<root>/<source>/<table>/batch_id=<id>/{records.jsonl.gz,manifest.json}`. The
root is a folder (`folder_store`) or the URL of an object store (`object_store`). Either way a batch is published
by one act that happens or does not, so a reader sees all of it or nothing, with no lock and no database.
"""

import contextlib
import errno
import gzip
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, ValidationError

from flows.errors import BatchError, LandingError, counted
from flows.landing import folder_store, object_store
from flows.landing.names import BATCH_ID, MANIFEST, NAME, check_batch_id
from flows.settings import split_source

SCHEMA_VERSION = 2
"""2: `total` may be null, and the manifest says how the source was read. What 1 lacks has the default here."""
CursorValue = int | float | str | None
MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)
"""Errors of the system that a batch's own files cause: one is missing, a link, a folder, a named pipe."""


class Store(Protocol):
    """How batches are kept: the functions of `folder_store` and of `object_store`."""

    def records_name(self, _sha256: str) -> str: ...
    def join(self, root: Path | str, *names: str) -> Path | str: ...
    def staging_folder(self, root: Path | str, name: str) -> contextlib.AbstractContextManager[Path]: ...
    def publish(self, written: Path, batch: Path | str) -> bool: ...
    def published(self, batch: Path | str) -> bool: ...
    def batches(self, root: Path | str, sources: Collection[str] | None) -> Iterator[tuple[str, str, str]]: ...
    def open_file(self, path: Path | str) -> contextlib.AbstractContextManager[BufferedIOBase]: ...
    def remove(self, batch: Path | str) -> None: ...
    def remove_leftovers(self, _root: Path | str, _older_than_seconds: float) -> int: ...


class Reading(BaseModel):
    """How a source was read for a batch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reading: Literal["full", "changes"] = "full"
    """`full`: what the batch lacks does not exist. `changes`: it has not changed."""
    primary_key: tuple[str, ...] = ("id",)
    """The fields that identify a record; empty if the source has no key. All sources had `id` in version 1."""
    cursor_from: CursorValue = None
    """Changes were asked for from here; null if nothing was asked for by cursor."""
    cursor_until: CursorValue = None
    """Changes were asked for up to here; null if to the end."""
    cursor_to: CursorValue = None
    """The greatest value that the source has shown so far, as it came; the next reading goes on from it."""
    follows: str | None = None
    """The batch whose `cursor_to` this reading went on from."""
    backfill: bool = False
    """Read with since or until, so later readings don't go on from it."""


class Manifest(Reading):
    """What a batch says of itself; also the payload of its `extract.finished` event."""

    source: str
    batch_id: str
    rows: NonNegativeInt
    """Records in the file, which is also its number of lines."""
    bytes: NonNegativeInt
    """Size of the compressed file."""
    sha256: str
    """Of the compressed file, in hex."""
    total: NonNegativeInt | None
    """How many records the source said it had; null if it does not say."""
    completeness: Literal["total", "last_page"] = "total"
    """What says that nothing is missing: the total, or only that the source named no further page."""
    replaced: NonNegativeInt = 0
    """Records that are not in the file, because one with the same key came after them (`on_change: keep_last`)."""
    extracted_at: AwareDatetime
    """When the last page had been read, UTC."""
    flow_run_id: UUID
    schema_version: int = SCHEMA_VERSION

    def __str__(self) -> str:
        """`194 rows of dummyjson.products in batch 2026…`."""
        return f"{counted(self.rows, 'row', 'rows')} of {self.source} in batch {self.batch_id}"


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
        return store_for(self.root).join(self.root, *names)

    def records(self, manifest: "Manifest") -> Path | str:
        """The file, or the object, that the records are in."""
        store = store_for(self.root)
        return store.join(self.folder, store.records_name(manifest.sha256))

    def manifest(self) -> Manifest:
        """The manifest as written; BatchError if it is missing, unreadable or another batch's."""
        store = store_for(self.root)
        path = store.join(self.folder, MANIFEST)
        try:
            with store.open_file(path) as file:
                content = file.read()
            # Outside of the block, where an exception is the store's fault.
            manifest = Manifest.model_validate_json(content)
        except OSError as error:
            raise unreadable(path, error) from error
        except ValidationError as error:
            raise BatchError(f"{path}: not a manifest: {error}") from error
        if (manifest.source, manifest.batch_id) != (self.source, self.batch_id):
            raise BatchError(f"{path}: is the manifest of {manifest.source} {manifest.batch_id}")
        return manifest

    def verify(self) -> Manifest:
        """The manifest, once the records file has been found to have its size and sha256; else BatchError."""
        manifest = self.manifest()
        records = self.records(manifest)
        try:
            with store_for(self.root).open_file(records) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise unreadable(records, error) from error
        if (size, sha256) != (manifest.bytes, manifest.sha256):
            raise BatchError(
                f"{records}: has {size} bytes with sha256 {sha256[:12]}…, but its manifest says "
                f"{manifest.bytes} bytes with {manifest.sha256[:12]}…: the file was damaged after it was published"
            )
        return manifest

    def count_records(self, manifest: "Manifest") -> int:
        """The lines of the records file, counted; LandingError if it cannot be read to its end."""
        records = self.records(manifest)
        try:
            with store_for(self.root).open_file(records) as file, gzip.open(file) as lines:
                return sum(1 for _ in lines)
        except (OSError, EOFError) as error:
            raise LandingError(f"{records}: cannot be read: {error}") from error


def unreadable(path: Path | str, error: OSError) -> BatchError | LandingError:
    """The batch's own fault only where a file is missing or is none; else the landing's: permissions, the disk."""
    if error.errno in (None, *MISSING):
        return BatchError(f"{path}: cannot be read: {error}")
    return LandingError(f"{path}: cannot be read: {error}; no batch is to blame, all stay pending")


def published(batch: Batch) -> bool:
    """Whether a reader can see the batch."""
    return store_for(batch.root).published(batch.folder)


def list_batches(root: Path | str, sources: Collection[str] | None = None) -> list[Batch]:
    """Every published batch, oldest id first within a source; of all sources, or of these. Passes over anything else.

    Costs one listing a source, whatever the number of batches; in an object store one request for a thousand objects.

    Raises LandingError for a source's folder that cannot be listed or is a link, which would lead out of the root.
    """
    return [
        Batch(root, f"{source}.{table}", batch_id)
        for source, table, batch in store_for(root).batches(root, sources)
        if NAME.fullmatch(source) and NAME.fullmatch(table) and batch.startswith("batch_id=")
        if BATCH_ID.fullmatch(batch_id := batch.removeprefix("batch_id="))
    ]


def remove(batch: Batch) -> None:
    """Removes a published batch."""
    store_for(batch.root).remove(batch.folder)


def remove_leftovers(root: Path | str, older_than_seconds: float) -> int:
    """Removes what killed writers left in an object store; how many objects. In a folder the next writer does it."""
    return store_for(root).remove_leftovers(root, older_than_seconds)


def store_for(root: Path | str) -> Store:
    """How batches are kept under this root."""
    return object_store if "://" in str(root) else folder_store
