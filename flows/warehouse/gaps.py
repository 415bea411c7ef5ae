"""Gaps: changes that the marts lack, because the batch that has them is in quarantine and later ones went on from it.

A source that is read in full has none: its next batch brings everything. A gap is closed by a replay of its batch, by
a later full reading, or by later readings of changes that cover its span, such as an extract with `since`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.errors import BatchError
from flows.landing.batch import Batch, CursorValue, Manifest, Reading
from flows.settings import Settings
from flows.sources.reader.cursors import sort_key
from flows.warehouse.connection import retry_conflicts
from flows.warehouse.ledger import connect_migrated

QUARANTINED = "select source, batch_id, reason from ops.quarantine where not held order by batch_id, source"
PROCESSED = """
select source, batch_id, reading from ops.ledger
where reading is not null and source in (select unnest(?::text[])) order by batch_id
"""


@dataclass(frozen=True)
class Gap:
    """Changes of a source that the marts lack; between two values of its cursor, None where the batch cannot say."""

    source: str
    batch_id: str
    cursor_from: CursorValue
    cursor_to: CursorValue
    reason: str
    """Why its batch is in quarantine, or was dropped."""


@retry_conflicts
def gaps(settings: Settings) -> list[Gap]:
    """Every gap that is not closed, oldest first; none if there is no warehouse yet."""
    if not settings.on_lake and not settings.warehouse.exists():
        return []
    with connect_migrated(settings) as connection:
        quarantined = connection.sql(QUARANTINED).fetchall()
        rows = connection.execute(PROCESSED, [[source for source, *_ in quarantined]]).fetchall()
    processed: dict[str, list[tuple[str, Reading]]] = {}
    for source, batch_id, reading in rows:
        processed.setdefault(source, []).append((batch_id, Reading.model_validate_json(reading)))
    found = []
    for source, batch_id, reason in quarantined:
        known = processed.get(source, [])
        span = missing_span(
            manifest_of(Batch(settings.landing_root, source, batch_id)),
            [reading for other, reading in known if other < batch_id],
        )
        if span is not None and not covered(span, [reading for other, reading in known if other > batch_id]):
            found.append(Gap(source, batch_id, *span, reason))
    return found


def manifest_of(batch: Batch) -> Manifest | None:
    """The manifest of a quarantined batch; None if that is what is damaged, or gone."""
    try:
        return batch.manifest()
    except BatchError:
        return None


def missing_span(manifest: Manifest | None, before: Sequence[Reading]) -> tuple[CursorValue, CursorValue] | None:
    """From where and up to where changes are only in this batch, of which these were processed before.

    None if it has none: it is empty, or of a source that is read in full.
    """
    reached = next((one.cursor_to for one in reversed(before) if one.cursor_to is not None and not one.backfill), None)
    if manifest is None:
        return None if reached is None else (reached, None)
    if manifest.cursor_to is None or not manifest.rows:
        return None
    # What a full reading repeats is in the marts already.
    from_before = manifest.reading == "full" and reached is not None
    return reached if from_before else manifest.cursor_from, manifest.cursor_to


def covered(span: tuple[CursorValue, CursorValue], later: Iterable[Reading]) -> bool:
    """Whether later readings bring all changes of the span."""
    later = list(later)
    if any(reading.reading == "full" for reading in later):
        return True
    start, end = span
    reach = -math.inf if start is None else sort_key(start)
    windows = [
        (sort_key(reading.cursor_from), math.inf if reading.cursor_until is None else sort_key(reading.cursor_until))
        for reading in later
        if reading.cursor_from is not None
    ]
    for first, last in sorted(windows):
        if first <= reach:
            reach = max(reach, last)
    return reach == math.inf or (end is not None and reach > sort_key(end))
