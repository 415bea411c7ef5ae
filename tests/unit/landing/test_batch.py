"""Batches are published whole or not at all, and nothing but a batch is ever taken for one."""

import gzip
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from flows.landing import (
    MANIFEST,
    RECORDS,
    Batch,
    BatchError,
    Manifest,
    check_batch_id,
    landed,
    new_batch_id,
    published,
    writing,
)

RUN = UUID("01890000-0000-7000-8000-0123456789ab")
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def batch_of(root: Path, source: str = "dummyjson.products", run: UUID = RUN, at: datetime = NOW) -> Batch:
    return Batch(root, source, new_batch_id(at, run))


def publish(batch: Batch, records: list[dict[str, object]]) -> Manifest:
    with writing(batch) as writer:
        writer.write(records)
        return writer.publish(total=len(records), extracted_at=NOW, flow_run_id=RUN)


def test_a_published_batch_holds_the_records_and_a_manifest_that_describes_them(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    manifest = publish(batch, [{"id": 1, "title": "é 🎉 \x00"}, {"id": 2}])
    lines = gzip.decompress((batch.folder / RECORDS).read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"id": 1, "title": "é 🎉 \x00"}, {"id": 2}]
    assert manifest == batch.manifest() == batch.verify()
    assert (manifest.rows, manifest.total, manifest.bytes) == (2, 2, (batch.folder / RECORDS).stat().st_size)
    assert batch.folder / RECORDS == tmp_path / "dummyjson/products" / f"batch_id={batch.batch_id}" / RECORDS
    assert landed(tmp_path) == [batch]


def test_a_batch_id_sorts_by_time_and_is_the_same_for_every_retry_of_a_run() -> None:
    cet = timezone(timedelta(hours=1))
    assert new_batch_id(NOW, RUN) == new_batch_id(NOW.astimezone(cet), RUN) == "20261124T120000Z-0123456789ab"
    assert new_batch_id(NOW, RUN) < new_batch_id(NOW + timedelta(seconds=1), uuid4())


def test_publishing_the_same_batch_twice_leaves_the_first(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    first = publish(batch, [{"id": 1}])
    second = publish(batch, [{"id": 1}, {"id": 2}])
    assert second == first == batch.verify()
    assert list((tmp_path / "_incoming").iterdir()) == []


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    with pytest.raises(RuntimeError, match="half way"), writing(batch) as writer:
        writer.write([{"id": 1}])
        raise RuntimeError("half way")
    assert not published(batch)
    assert landed(tmp_path) == []
    assert list((tmp_path / "_incoming").iterdir()) == []


def test_what_a_killed_writer_left_is_removed_by_the_next_one_and_a_living_ones_work_is_not(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from flows.landing import *\n"
        "with writing(Batch(Path(sys.argv[1]), 'dummyjson.carts', '20261124T120000Z-0123456789ab')) as writer:\n"
        "    writer.write([{'id': 1}]); print('writing', flush=True); time.sleep(60)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"writing\n"
    incoming = tmp_path / "_incoming"
    with writing(batch_of(tmp_path)) as writer:
        assert len(list(incoming.iterdir())) == 2, "the living writer's folder is left alone"
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        with writing(batch_of(tmp_path, "dummyjson.users")):
            names = sorted(path.name.split(".2026")[0] for path in incoming.iterdir())
            assert names == ["dummyjson.products", "dummyjson.users"], "the dead writer's folder is gone"
        writer.write([{"id": 7}])
        writer.publish(total=1, extracted_at=NOW, flow_run_id=RUN)
    assert [batch.source for batch in landed(tmp_path)] == ["dummyjson.products"]
    killed.stdout.close()


def test_an_empty_batch_is_a_batch(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    assert publish(batch, []).rows == 0
    assert gzip.decompress((batch.folder / RECORDS).read_bytes()) == b""
    assert landed(tmp_path) == [batch]


def test_only_published_batches_of_well_named_sources_are_seen(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1}])
    for strange in ("Dummy/products/batch_id=20261124T120000Z-0123456789ab", "dummyjson/products/batch_id=x", "a/b"):
        (tmp_path / strange).mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("not a source")
    assert landed(tmp_path) == [batch]
    assert landed(tmp_path / "nowhere") == []


@pytest.mark.parametrize("batch_id", ["../../x", "", "20261124T120000Z-0123456789ab/..", "20261124T120000Z", "x" * 500])
def test_what_is_no_batch_id_never_becomes_a_path(tmp_path: Path, batch_id: str) -> None:
    with pytest.raises(ValueError, match="batch_id: expected an id such as"):
        check_batch_id(batch_id)
    with pytest.raises(ValueError, match="batch_id: expected"):
        _ = Batch(tmp_path, "dummyjson.products", batch_id).folder


@pytest.mark.parametrize("source", ["products", "../x.products", "dummyjson.products+", "Dummy.products", "a.b.c", ""])
def test_what_is_no_source_name_never_becomes_a_path(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match=r"source: expected a name such as 'dummyjson\.products'"):
        _ = Batch(tmp_path, source, "20261124T120000Z-0123456789ab").folder


def test_a_file_that_was_damaged_after_publishing_is_named(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1}])
    (batch.folder / RECORDS).write_bytes((batch.folder / RECORDS).read_bytes()[:-1] + b"x")
    with pytest.raises(BatchError, match=f"{batch.batch_id}/records.jsonl.gz: has .* damaged after it was published"):
        batch.verify()


@pytest.mark.parametrize("content", [b"", b"not json", b"{}", b'{"rows": -1}', b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1}])
    (batch.folder / MANIFEST).write_bytes(content)
    with pytest.raises(BatchError, match=f"{batch.batch_id}/manifest.json: not a manifest"):
        batch.verify()


def test_a_manifest_of_another_batch_is_refused(tmp_path: Path) -> None:
    ours, other = batch_of(tmp_path), batch_of(tmp_path, run=uuid4())
    publish(ours, [{"id": 1}])
    publish(other, [{"id": 2}])
    (ours.folder / MANIFEST).write_bytes((other.folder / MANIFEST).read_bytes())
    with pytest.raises(BatchError, match=f"is the manifest of dummyjson.products {other.batch_id}"):
        ours.manifest()


def test_half_a_surrogate_pair_does_not_break_the_file(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1, "title": "broken \ud83c"}])
    assert json.loads(gzip.decompress((batch.folder / RECORDS).read_bytes()).decode())["title"] == "broken ?"
