"""The second system of the demo, night by night: dim_orders is what the shop has, whatever happened to the batches."""

import gzip
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prefect import State

from flows.extract import extract
from flows.landing.batch import Batch, Manifest, list_batches
from flows.landing.names import RECORDS
from flows.processing.batches import drop_quarantined, replay
from flows.settings import Settings
from flows.transform import transform
from flows.warehouse import ledger
from flows.warehouse.gaps import gaps
from stack.sample_api import shop as sample
from stack.sample_api.orders import Orders, order_id, written
from tests.support.api import Answer, Asked, api
from tests.support.room import Room
from tests.support.small_project import use_project

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
Current = dict[str, tuple[str, Decimal]]


@dataclass(frozen=True)
class Book(Orders):
    """The orders of the shop, as the test changes them; the sample API's own code answers with them."""

    book: dict[str, dict[str, Any]] = field(default_factory=dict)

    def change(self, night: int, *numbers: int, hour: int = 0) -> None:
        """These orders get another status and total on that night of January, a minute after each other."""
        for minute, number in enumerate(numbers):
            at = NEW_YEAR + timedelta(days=night, hours=hour, minutes=minute)
            self.book[order_id(number)] = {
                "order_id": order_id(number),
                "customer": {"number": number},
                "status": "placed" if night == 0 else "paid",
                "currency": "EUR",
                "total": night * 1000 + number,
                "placed_at": written(NEW_YEAR),
                "updated_at": written(at),
            }

    def changed(self, since: datetime, before: datetime) -> list[dict[str, Any]]:
        """What the API gives for a span."""
        found = [order for order in self.book.values() if written(since) <= order["updated_at"] < written(before)]
        return sorted(found, key=lambda order: (order["updated_at"], order["order_id"]))

    @property
    def truth(self) -> Current:
        return {name: (order["status"], Decimal(order["total"])) for name, order in self.book.items()}


@pytest.fixture
def book(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    """The shop behind the URL that `shop` is read from."""
    use_project(room, tmp_path_factory.getbasetemp(), "shop")
    made = Book(NEW_YEAR + timedelta(days=3))

    def answer(asked: Asked) -> Answer:
        return sample.answer(made, asked.path.removeprefix(sample.PREFIX), asked.query, asked.headers)

    room.patch.setenv("SHOP_TOKEN", sample.TOKEN)
    with api(answer) as url:
        room.patch.setenv("BATON_API_URLS", json.dumps({"shop": f"{url}{sample.PREFIX}"}))
        yield made


def read(source: str = "shop.orders", **parameters: Any) -> Manifest:
    """An extract. Batches are in order by the second of their runs, so the next one waits for the next second."""
    state = extract(source, handoff="caller", return_state=True, **parameters)
    assert state.is_completed(), state.message
    time.sleep(1)
    return Manifest.model_validate(state.result())


def build() -> State[Any]:
    state: State[Any] = transform(return_state=True)
    return state


def orders(room: Room) -> Current:
    """dim_orders."""
    rows = room.rows("select order_id, status, total from marts.dim_orders")
    assert len(rows) == len({row[0] for row in rows})
    return {name: (status, total) for name, status, total in rows}


def computed(room: Room) -> Current:
    """What dim_orders should be, from the landed files of the processed batches, in plain Python."""
    processed = ledger.read(Settings()).processed
    batches = [batch for batch in list_batches(room.landing, ["shop.orders"]) if batch.key in processed]
    versions: dict[str, list[tuple[str, datetime, str, Decimal]]] = {}
    for batch in sorted(batches, key=lambda batch: batch.manifest().extracted_at):
        manifest = batch.manifest()
        if manifest.reading == "full":
            versions = {}
        with gzip.open(Path(batch.folder, RECORDS)) as lines:
            for order in map(json.loads, lines):
                version = (order["updated_at"], manifest.extracted_at, order["status"], Decimal(str(order["total"])))
                versions.setdefault(order["order_id"], []).append(version)
    return {name: max(of_order)[2:] for name, of_order in versions.items()}


def file_of(room: Room, manifest: Manifest) -> Path:
    return Path(Batch(room.landing, manifest.source, manifest.batch_id).folder)


def damage(room: Room, manifest: Manifest) -> bytes:
    """Overwrites the records of a batch; what they were."""
    records = file_of(room, manifest) / RECORDS
    content = records.read_bytes()
    records.write_bytes(b"damaged")
    return content


def test_after_each_night_the_orders_are_those_of_the_shop_whatever_happened_to_the_batches(
    room: Room, book: Book, tmp_path: Path
) -> None:
    book.change(0, *range(1, 101))
    first = read()
    assert (first.rows, first.reading, first.follows) == (100, "changes", None)
    lines = read("shop.order_lines")
    assert lines.rows == lines.total
    assert build().is_completed()
    assert orders(room) == computed(room) == book.truth
    assert room.rows("select count(*) from staging.stg_shop__order_lines") == [(lines.rows,)]

    # Five change. The lag of an hour brings the last 60 minutes of the night before once more.
    book.change(1, 3, 5, 7, 11, 13)
    second = read()
    assert (second.rows, second.follows) == (5 + 61, first.batch_id)
    assert build().is_completed()
    assert orders(room) == computed(room) == book.truth

    # Seven change, but the batch comes late, after that of a night on which nothing has changed.
    book.change(2, 5, *range(90, 96))
    seven = read()
    assert seven.rows == 7 + 4, "one of the five has changed again"
    shutil.move(file_of(room, seven), tmp_path / "late")
    none = read()
    assert (none.rows, none.follows) == (seven.rows, second.batch_id)
    assert build().is_completed()
    assert orders(room) == computed(room) == book.truth
    book.change(3, 5)
    newer = read()
    shutil.move(tmp_path / "late", file_of(room, seven))
    assert (newer.rows, newer.follows) == (1 + 6, none.batch_id)
    assert build().is_completed()
    assert orders(room) == computed(room) == book.truth
    quiet = read()
    assert (quiet.rows, quiet.cursor_to, quiet.follows) == (1, newer.cursor_to, newer.batch_id)

    # One is quarantined: the next goes on from it, and what it had is missing until it is replayed.
    book.change(4, 20, 21, 22)
    book.change(4, 23, hour=12)
    broken = read()
    content = damage(room, broken)
    book.change(5, 23, 24)
    after = read()
    assert (after.rows, after.follows) == (2, broken.batch_id)
    state = build()
    assert "in quarantine, everything else was processed" in str(state.message)
    assert orders(room) == computed(room)
    differing = {name for name, values in book.truth.items() if orders(room)[name] != values}
    assert differing == {order_id(number) for number in (20, 21, 22)}
    (gap,) = gaps(Settings())
    assert (gap.source, gap.batch_id) == ("shop.orders", broken.batch_id)
    assert (gap.cursor_from, gap.cursor_to) == (broken.cursor_from, "2026-01-05T12:00:00Z")
    assert "damaged after it was published" in gap.reason
    (file_of(room, broken) / RECORDS).write_bytes(content)
    assert replay(Settings(), "shop.orders", broken.batch_id)
    assert gaps(Settings()) == []
    assert build().is_completed()
    assert orders(room) == computed(room) == book.truth

    # The shop shows a change days later than it was made: a backfill finds it, and moves nothing.
    book.change(4, 30, 31, hour=12)
    backfill = read(since="2026-01-05T11:00:00Z", until="2026-01-05T13:00:00Z")
    assert (backfill.rows, backfill.backfill) == (2, True)
    assert build().is_completed()
    assert orders(room) == computed(room) == book.truth
    assert read().follows == after.batch_id


def test_a_gap_stays_when_its_batch_is_dropped_and_is_closed_by_since_or_by_a_full_reading(
    room: Room, book: Book
) -> None:
    book.change(0, *range(1, 101))
    read()
    book.change(1, 1, 2)
    book.change(1, 3, hour=12)
    broken = read()
    damage(room, broken)
    book.change(2, 3, 4)
    read()
    assert build().is_failed()
    assert drop_quarantined(Settings(), "shop.orders", broken.batch_id)
    (gap,) = gaps(Settings())
    assert gap.batch_id == broken.batch_id
    assert orders(room) == computed(room) != book.truth
    read(since="2026-01-03T00:00:00Z")
    assert build().is_completed()
    assert gaps(Settings()) == [gap], "what was read again begins too late"
    read(since=str(gap.cursor_from))
    assert len(gaps(Settings())) == 1, "the reading is not in the marts yet"
    assert build().is_completed()
    assert gaps(Settings()) == []
    assert orders(room) == computed(room) == book.truth

    book.change(3, 50, 51)
    damage(room, read())
    book.change(4, 51)
    del book.book[order_id(100)]
    full = read(full=True)
    assert (full.rows, full.reading) == (99, "full")
    assert "in quarantine, everything else was processed" in str(build().message)
    assert gaps(Settings()) == [], "the full reading has it"
    assert orders(room) == computed(room) == book.truth
