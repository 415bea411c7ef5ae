"""Writes a batch: records into a staging folder, then one act that publishes them."""

import contextlib
import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from isal import igzip
from msgspec import Raw

from flows.errors import LandingError, machine_fault
from flows.landing.batch import Batch, Manifest, Reading, store_for
from flows.landing.names import MANIFEST, RECORDS

COMPRESSION = 1  # isal's: a fifth of the time of zlib's level 1, for files of the same size

GzipFile: Any = igzip.IGzipFile  # Has no types.
FULL = Reading()

# `json.dumps` with options of one's own makes a new encoder for each record.
_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def as_lines(records: Iterable[dict[str, Any]]) -> list[bytes]:
    """Objects as lines to write. Half of a surrogate pair, which is not text, becomes `?`."""
    return [_line(record).encode("utf-8", "replace") for record in records]


class BatchWriter:
    """Collects the records of one batch; made by `open_writer`, finished by `publish`."""

    def __init__(self, batch: Batch, folder: Path) -> None:
        self.batch = batch
        self.rows = 0
        self._folder = folder
        self._path = folder / RECORDS
        self._replaced: set[int] = set()
        self._open = contextlib.ExitStack()
        self._gzip = self._open.enter_context(_compressed(self._path))

    def write(self, lines: Sequence[bytes | Raw], replaced: Iterable[int] = ()) -> None:
        """Append records, each a JSON object on one line. Rows `replaced` (from 0) will not be in the batch."""
        if lines:
            with _named(self._path):
                self._gzip.write(b"\n".join(lines) + b"\n")
            self.rows += len(lines)
        self._replaced.update(replaced)

    def close(self) -> None:
        """Let go of the file, whether or not it was published."""
        self._open.close()

    def publish(
        self, *, total: int | None, extracted_at: datetime, flow_run_id: UUID, reading: Reading = FULL
    ) -> Manifest:
        """Make the batch visible, durably and all at once.

        If the same batch has been published meanwhile (two processes of one flow run), that one stands. LandingError
        if it cannot be written.
        """
        with _named(self.batch.folder):
            return self._publish(total, extracted_at, flow_run_id, reading)

    def _publish(self, total: int | None, extracted_at: datetime, flow_run_id: UUID, reading: Reading) -> Manifest:
        self.close()
        if self._replaced:
            _leave_out(self._path, self._replaced)
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = Manifest(
            **dict(reading),
            source=self.batch.source,
            batch_id=self.batch.batch_id,
            rows=self.rows - len(self._replaced),
            bytes=self._path.stat().st_size,
            sha256=sha256,
            total=total,
            completeness="last_page" if total is None else "total",
            replaced=len(self._replaced),
            extracted_at=extracted_at.astimezone(UTC),
            flow_run_id=flow_run_id,
        )
        with (self._folder / MANIFEST).open("x") as manifest_file:
            manifest_file.write(manifest.model_dump_json(indent=2))
            manifest_file.flush()
            os.fsync(manifest_file.fileno())
        store = store_for(self.batch.root)
        self._path.rename(self._folder / store.records_name(sha256))
        return manifest if store.publish(self._folder, self.batch.folder) else self.batch.manifest()


@contextlib.contextmanager
def _named(place: Path | str) -> Iterator[None]:
    """The system's errors as LandingErrors, which say where and what to do."""
    try:
        yield
    except OSError as error:
        advice = machine_fault(str(error)) or "look at BATON_LANDING_ROOT"
        raise LandingError(f"{place}: could not be written: {error}. Nothing was landed: {advice}") from error


@contextlib.contextmanager
def _compressed(path: Path) -> Iterator[Any]:
    """A new gzip file. mtime=0 and no name in it: the same records always give the same bytes."""
    with path.open("xb") as file, GzipFile("", "wb", COMPRESSION, file, mtime=0) as compressed:
        yield compressed


def _leave_out(path: Path, rows: set[int]) -> None:
    """Writes the file once more, without these lines."""
    before = path.rename(path.with_name("before.gz"))
    with gzip.open(before, "rb") as lines, _compressed(path) as kept:
        for row, line in enumerate(lines):
            if row not in rows:
                kept.write(line)
    before.unlink()


@contextlib.contextmanager
def open_writer(batch: Batch) -> Iterator[BatchWriter]:
    """A writer for one batch. What it wrote is gone if the block ends without `publish`.

    LandingError if it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with _named(batch.root):
            staging = store_for(batch.root).staging_folder(batch.root, f"{batch.source}.{batch.batch_id}")
            writer = BatchWriter(batch, stack.enter_context(staging))
        try:
            yield writer
        finally:
            with contextlib.suppress(OSError):  # What is not published is removed; only the first error matters.
                writer.close()
