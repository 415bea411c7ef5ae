"""What a quarantined batch leaves out, and which later readings bring it: the spans, without a warehouse."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows.landing.batch import Batch, Manifest, Reading
from flows.landing.names import new_batch_id
from flows.landing.watermark import backfilled, previous_reading
from flows.landing.writer import open_writer
from flows.warehouse.gaps import covered, missing_span


def changes(start: Any, end: Any = None, to: Any = None, **rest: Any) -> Reading:
    return Reading(reading="changes", cursor_from=start, cursor_until=end, cursor_to=to, **rest)


def manifest(rows: int, **reading: Any) -> Manifest:
    return Manifest(
        source="shop.orders",
        batch_id="20260101T000000Z-000000000001",
        rows=rows,
        bytes=1,
        sha256="",
        total=None,
        extracted_at=datetime(2026, 1, 1, tzinfo=UTC),
        flow_run_id=UUID(int=1),
        **reading,
    )


def test_an_increment_lacks_what_it_asked_for_and_a_full_reading_what_came_since_the_one_before() -> None:
    increment = {"reading": "changes", "cursor_from": 10, "cursor_to": 20}
    assert missing_span(manifest(3, **increment), [changes(0, to=11)]) == (10, 20)
    assert missing_span(manifest(0, **increment), []) is None, "it is empty"
    everything = {"reading": "full", "cursor_from": 0, "cursor_to": 20}
    assert missing_span(manifest(3, **everything), [changes(0, to=11), changes(1, 3, to=2, backfill=True)]) == (11, 20)
    assert missing_span(manifest(3, **everything), []) == (0, 20)
    assert missing_span(manifest(3), [Reading()]) is None, "the next one brings everything"


def test_a_damaged_manifest_lacks_all_since_the_one_before_if_the_source_is_read_by_changes() -> None:
    assert missing_span(None, [changes(0, to=11)]) == (11, None)
    assert missing_span(None, [Reading()]) is None


@pytest.mark.parametrize(
    ("span", "later", "closed"),
    [
        ((10, 20), [changes(19)], False),
        ((10, 20), [changes(10)], True),
        ((10, 20), [changes(11), changes(9, 30)], True),
        ((10, 20), [changes(10, 20)], False),  # What is 20 was not asked for.
        ((10, 20), [changes(15, 25), changes(8, 15)], True),
        ((10, 20), [changes(16, 25), changes(8, 15)], False),
        ((10, 20), [changes(19), Reading()], True),
        ((10, None), [changes(10, 99)], False),
        ((10, None), [changes(10)], True),
        ((None, 20), [changes(0)], False),
        (("2026-01-02", "2026-01-03T10:00:00Z"), [changes("2026-01-01T23:00:00Z", "2026-01-03T11:00:00+00:00")], True),
        (("2026-01-02", "2026-01-03T10:00:00Z"), [changes("2026-01-01T23:00:00Z", "2026-01-03T11:00:00+02:00")], False),
    ],
)
def test_a_gap_is_closed_by_what_covers_its_span_without_a_hole(
    span: tuple[Any, Any], later: list[Reading], closed: bool
) -> None:
    assert covered(span, later) is closed


def test_a_damaged_manifest_is_passed_over_and_what_it_had_is_asked_for_again(tmp_path: Path) -> None:
    def land(minute: int, reading: Reading) -> Batch:
        at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
        batch = Batch(tmp_path, "shop.orders", new_batch_id(at, UUID(int=minute)))
        with open_writer(batch) as writer:
            writer.write([b"{}"])
            writer.publish(total=None, extracted_at=at, flow_run_id=UUID(int=minute), reading=reading)
        return batch

    first = land(1, changes(0, to=10))
    damaged = land(2, changes(10, to=20))
    land(3, changes(3, 5, to=4, backfill=True))
    third = land(4, changes(20, to=30))
    before = previous_reading(third)
    assert before is not None and before.batch_id == damaged.batch_id
    (tmp_path / "shop" / "orders" / f"batch_id={damaged.batch_id}" / "manifest.json").write_text("{")
    before = previous_reading(third)
    assert before is not None and before.batch_id == first.batch_id
    assert backfilled(tmp_path, "shop.orders") == {(3, 5)}
