"""Batches are published whole or not at all, and nothing but a batch is ever taken for one."""

import gzip
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from flows.errors import BatchError, LandingError
from flows.landing.batch import Batch, Manifest, Reading, list_batches, published
from flows.landing.names import MANIFEST, RECORDS, check_batch_id, new_batch_id
from flows.landing.watermark import previous_reading
from flows.landing.writer import as_lines, open_writer

RUN = UUID("01890000-0000-7000-8000-0123456789ab")
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def batch_of(root: Path, source: str = "dummyjson.products", run: UUID = RUN, at: datetime = NOW) -> Batch:
    return Batch(root, source, new_batch_id(at, run))


def publish(batch: Batch, records: list[dict[str, object]]) -> Manifest:
    with open_writer(batch) as writer:
        writer.write(as_lines(records))
        return writer.publish(total=len(records), extracted_at=NOW, flow_run_id=RUN)


def test_a_published_batch_holds_the_records_and_a_manifest_that_describes_them(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    manifest = publish(batch, [{"id": 1, "title": "é 🎉 \x00"}, {"id": 2}])
    lines = gzip.decompress(Path(batch.folder, RECORDS).read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"id": 1, "title": "é 🎉 \x00"}, {"id": 2}]
    assert manifest == batch.manifest() == batch.verify()
    assert (manifest.rows, manifest.total, manifest.bytes) == (2, 2, Path(batch.folder, RECORDS).stat().st_size)
    assert Path(batch.folder, RECORDS) == tmp_path / "dummyjson/products" / f"batch_id={batch.batch_id}" / RECORDS
    assert list_batches(tmp_path) == [batch]


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
    with pytest.raises(RuntimeError, match="half way"), open_writer(batch) as writer:
        writer.write([b'{"id":1}'])
        raise RuntimeError("half way")
    assert not published(batch)
    assert list_batches(tmp_path) == []
    assert list((tmp_path / "_incoming").iterdir()) == []


def test_what_a_killed_writer_left_is_removed_by_the_next_one_and_a_living_ones_work_is_not(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from flows.landing.batch import Batch; from flows.landing.writer import open_writer\n"
        "with open_writer(Batch(Path(sys.argv[1]), 'dummyjson.carts', '20261124T120000Z-0123456789ab')) as writer:\n"
        "    writer.write([b'{}']); print('writing', flush=True); time.sleep(60)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"writing\n"
    incoming = tmp_path / "_incoming"
    with open_writer(batch_of(tmp_path)) as writer:
        assert len(list(incoming.iterdir())) == 2, "the living writer's folder is left alone"
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        with open_writer(batch_of(tmp_path, "dummyjson.users")):
            names = sorted(path.name.split(".2026")[0] for path in incoming.iterdir())
            assert names == ["dummyjson.products", "dummyjson.users"], "the dead writer's folder is gone"
        writer.write([b'{"id":7}'])
        writer.publish(total=1, extracted_at=NOW, flow_run_id=RUN)
    assert [batch.source for batch in list_batches(tmp_path)] == ["dummyjson.products"]
    killed.stdout.close()


def test_an_empty_batch_is_a_batch(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    assert publish(batch, []).rows == 0
    assert gzip.decompress(Path(batch.folder, RECORDS).read_bytes()) == b""
    assert list_batches(tmp_path) == [batch]


def test_only_published_batches_of_well_named_sources_are_seen(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1}])
    for strange in ("Dummy/products/batch_id=20261124T120000Z-0123456789ab", "dummyjson/products/batch_id=x", "a/b"):
        (tmp_path / strange).mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("not a source")
    assert list_batches(tmp_path) == [batch]
    assert list_batches(tmp_path / "nowhere") == []


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
    Path(batch.folder, RECORDS).write_bytes(Path(batch.folder, RECORDS).read_bytes()[:-1] + b"x")
    with pytest.raises(BatchError, match=f"{batch.batch_id}/records.jsonl.gz: has .* damaged after it was published"):
        batch.verify()


@pytest.mark.parametrize("content", [b"", b"not json", b"{}", b'{"rows": -1}', b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1}])
    Path(batch.folder, MANIFEST).write_bytes(content)
    with pytest.raises(BatchError, match=f"{batch.batch_id}/manifest.json: not a manifest"):
        batch.verify()


def test_a_manifest_of_another_batch_is_refused(tmp_path: Path) -> None:
    ours, other = batch_of(tmp_path), batch_of(tmp_path, run=uuid4())
    publish(ours, [{"id": 1}])
    publish(other, [{"id": 2}])
    Path(ours.folder, MANIFEST).write_bytes(Path(other.folder, MANIFEST).read_bytes())
    with pytest.raises(BatchError, match=f"is the manifest of dummyjson.products {other.batch_id}"):
        ours.manifest()


def test_half_a_surrogate_pair_does_not_break_the_file(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1, "title": "broken \ud83c"}])
    assert json.loads(gzip.decompress(Path(batch.folder, RECORDS).read_bytes()).decode())["title"] == "broken ?"


def test_rows_that_later_ones_replace_are_not_in_the_batch_and_are_counted(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    with open_writer(batch) as writer:
        writer.write([b'{"id":1}', b'{"id":2,"v":1}'])
        writer.write([b'{"id":2,"v":2}', b'{"id":3}'], replaced=[1])
        manifest = writer.publish(total=3, extracted_at=NOW, flow_run_id=RUN)
    lines = gzip.decompress(Path(batch.folder, RECORDS).read_bytes()).splitlines()
    assert lines == [b'{"id":1}', b'{"id":2,"v":2}', b'{"id":3}']
    assert (manifest.rows, manifest.replaced) == (3, 1)
    assert batch.verify() == manifest
    assert sorted(path.name for path in Path(batch.folder).iterdir()) == [MANIFEST, RECORDS]


def test_a_manifest_says_how_its_source_was_read(tmp_path: Path) -> None:
    how = Reading(reading="changes", primary_key=("a", "b"), cursor_from=5, cursor_to=7.5, follows="x", backfill=True)
    batch = batch_of(tmp_path)
    with open_writer(batch) as writer:
        writer.publish(total=None, extracted_at=NOW, flow_run_id=RUN, reading=how)
    manifest = batch.manifest()
    assert (manifest.total, manifest.completeness) == (None, "last_page")
    assert Reading(**manifest.model_dump()) == how
    assert publish(batch_of(tmp_path, run=uuid4()), []).completeness == "total"


def test_a_manifest_of_version_1_is_a_full_reading_keyed_by_id(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1}])
    path = Path(batch.folder, MANIFEST)
    version_1 = {"source", "batch_id", "rows", "bytes", "sha256", "total", "extracted_at", "flow_run_id"}
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key in version_1}))
    assert Reading(**batch.verify().model_dump()) == Reading(reading="full", primary_key=("id",))


def test_a_reading_goes_on_from_the_newest_published_one_before_it_that_is_no_backfill(tmp_path: Path) -> None:
    def land(hour: int, **how: object) -> Batch:
        batch = batch_of(tmp_path, at=NOW + timedelta(hours=hour))
        with open_writer(batch) as writer:
            reading = Reading(reading="changes", **how)  # type: ignore[arg-type]
            writer.publish(total=None, extracted_at=NOW, flow_run_id=RUN, reading=reading)
        return batch

    def follows(hour: int) -> str | None:
        previous = previous_reading(batch_of(tmp_path, at=NOW + timedelta(hours=hour)))
        return previous.batch_id if previous else None

    assert follows(0) is None
    first = land(0, cursor_to="2026-01-01")
    land(1, cursor_to="2020-01-01", backfill=True)
    land(2, cursor_to=None)
    assert follows(3) == first.batch_id
    second = land(4, cursor_to="2026-01-02")
    assert follows(5) == second.batch_id
    assert follows(4) == first.batch_id, "a retry finds what its first try found"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o027, 0o750), (0o077, 0o700)])
def test_a_published_batch_can_be_read_by_whom_the_umask_lets(tmp_path: Path, umask: int, mode: int) -> None:
    """A transform may run as another user, and share the folder."""
    before = os.umask(umask)
    try:
        batch = batch_of(tmp_path)
        publish(batch, [{"id": 1}])
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(batch.folder).stat().st_mode) == mode
    for file in Path(batch.folder).iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == mode & 0o666


def test_a_disk_that_fails_while_a_batch_is_read_is_not_the_batchs_fault(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    publish(batch, [{"id": 1}])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors), hard))
        with pytest.raises(LandingError, match="no batch is to blame"):
            batch.verify()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in descriptors:
            os.close(descriptor)
    assert batch.verify().rows == 1


def test_records_can_be_counted_in_the_file_itself(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    manifest = publish(batch, [{"id": 1}, {"id": 2}])
    assert batch.count_records(manifest) == 2
