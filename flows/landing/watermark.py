"""Where a reading by changes goes on: from what the newest published manifest of its source came to. No state store."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from flows.errors import BatchError
from flows.landing.batch import Batch, CursorValue, Manifest, list_batches


def previous_reading(batch: Batch) -> Manifest | None:
    """The manifest that this batch goes on from: the newest one before it that has a cursor and is no backfill.

    Only batches with a smaller id count, so a retry of the same run finds the same one. A damaged manifest is passed
    over: the reading goes on from the one before it, and so repeats what the damaged batch had.
    """
    earlier = [other for other in list_batches(batch.root, [batch.source]) if other.batch_id < batch.batch_id]
    for manifest in _manifests(reversed(earlier)):
        if not manifest.backfill and manifest.cursor_to is not None:
            return manifest
    return None


def backfilled(root: Path | str, source: str) -> set[tuple[CursorValue, CursorValue]]:
    """From where and up to where the published backfills of a source asked."""
    manifests = _manifests(list_batches(root, [source]))
    return {(manifest.cursor_from, manifest.cursor_until) for manifest in manifests if manifest.backfill}


def _manifests(batches: Iterable[Batch]) -> Iterator[Manifest]:
    """The manifests that are not damaged."""
    for batch in batches:
        with contextlib.suppress(BatchError):
            yield batch.manifest()
