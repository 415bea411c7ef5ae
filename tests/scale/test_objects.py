"""The landing on an object store: a real HTTP server on loopback that speaks S3, and a proxy that makes it fail."""

import gzip
import json
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

import duckdb
import fsspec
import pytest

from flows.errors import BatchError, InvalidInputError, LandingError
from flows.landing.batch import Batch, list_batches, published, remove_leftovers
from flows.landing.names import new_batch_id
from flows.landing.writer import as_lines, open_writer
from flows.processing import build
from flows.processing.pending import Pending, find_pending
from flows.settings import PROJECT, Settings
from flows.transform import transform
from flows.warehouse import ducklake, ledger
from stack.cli import run as baton
from stack.local.processes import free_port
from tests.scale.faulty_store import proxy
from tests.support.lake_room import LakeRoom

NOW = datetime(2026, 11, 24, tzinfo=UTC)
KINDS = ("HEAD", "LIST", "GET", "PUT")
COST_OF_AN_EXTRACT = {"LIST": 1, "HEAD manifest": 1, "PUT records": 1, "PUT manifest": 1}
COST_OF_A_TRANSFORM = {"LIST": 3, "GET manifest": 2, "HEAD manifest": 2, "GET records": 2, "HEAD records": 1}
RECORDS = [{"id": 1, "title": "é"}, {"id": 2, "title": "b"}]


def put(
    root: str, number: int = 1, records: list[dict[str, object]] = RECORDS, source: str = "dummyjson.products"
) -> Batch:
    """A published batch."""
    batch = Batch(root, source, new_batch_id(NOW, UUID(int=number)))
    with open_writer(batch) as writer:
        writer.write(as_lines(records))
        writer.publish(total=len(records), extracted_at=NOW, flow_run_id=UUID(int=number))
    return batch


def objects(root: str) -> list[str]:
    """The keys below a URL."""
    store, path = fsspec.core.url_to_fs(root, use_listings_cache=False)
    return [key.removeprefix(f"{path}/") for key in store.find(path)]


def requests(seen: list[str], under: str = "") -> Counter[str]:
    """How many of each kind: LIST, or the method and what it was about."""
    kinds: Counter[str] = Counter()
    for request in seen:
        method, _, path = request.partition(" ")
        if under not in unquote(path):
            continue
        what = "manifest" if "manifest.json" in path else "records" if "records-" in path else "other"
        kinds["LIST" if "list-type" in path else f"{method} {what}"] += 1
    return kinds


def row_of_the_page(what: str, seen: list[str]) -> str:
    """The row in the table of requests, in docs/object_store.md."""
    cost = requests(seen)
    counts = [sum(times for kind, times in cost.items() if kind.startswith(word)) for word in KINDS]
    return f"| {what} |" + "".join(f" {times} |" if times else " |" for times in counts)


def test_a_batch_is_published_read_and_verified(bucket: str) -> None:
    assert list_batches(bucket) == []
    batch = put(bucket)
    assert list_batches(bucket) == [batch]
    assert published(batch)
    manifest = batch.verify()
    assert (manifest.rows, manifest.batch_id) == (2, batch.batch_id)
    with fsspec.open(batch.records(manifest), "rb") as file:
        assert [json.loads(line) for line in gzip.decompress(file.read()).splitlines()] == RECORDS
    assert put(bucket, 2) in list_batches(bucket)


def test_records_without_a_manifest_are_no_batch_and_prune_removes_them_a_day_later(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batch = put(bucket)
    store, path = fsspec.core.url_to_fs(str(batch.folder))
    store.rm_file(f"{path}/manifest.json")
    assert list_batches(bucket) == []
    assert not published(batch)
    assert remove_leftovers(bucket, 86400) == 0
    assert len(objects(bucket)) == 1
    assert remove_leftovers(bucket, -60) == 1
    assert objects(bucket) == []


def test_of_two_writers_of_one_batch_the_first_stands_whole(bucket: str) -> None:
    batch = Batch(bucket, "dummyjson.products", new_batch_id(NOW, UUID(int=1)))
    with open_writer(batch) as slow:
        slow.write(as_lines([*RECORDS, {"id": 3}]))
        first = put(bucket).manifest()
        assert slow.publish(total=3, extracted_at=NOW, flow_run_id=UUID(int=1)) == first
    assert batch.verify() == first
    assert first.rows == 2


def test_a_writer_that_ends_without_publishing_leaves_nothing(bucket: str) -> None:
    with (
        pytest.raises(KeyError),
        open_writer(Batch(bucket, "dummyjson.products", new_batch_id(NOW, uuid4()))) as writer,
    ):
        writer.write(as_lines(RECORDS))
        raise KeyError
    assert objects(bucket) == []


def test_a_damaged_or_missing_object_is_that_batchs_fault_and_a_store_that_is_away_is_nobodys(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged, missing, whole = put(bucket, 1), put(bucket, 2), put(bucket, 3)
    store, _ = fsspec.core.url_to_fs(bucket)
    store.pipe_file(str(damaged.records(damaged.manifest())), b"x")
    store.rm_file(str(missing.records(missing.manifest())))
    with pytest.raises(BatchError, match="damaged after it was published"):
        damaged.verify()
    with pytest.raises(BatchError, match="cannot be read"):
        missing.verify()
    monkeypatch.setenv("BATON_LANDING_ROOT", bucket)
    monkeypatch.setenv("BATON_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    pending = find_pending(Settings(), None, "project")
    assert set(pending.damaged) == {damaged, missing}
    assert set(pending.manifests) == {whole}


def test_a_damaged_manifest_is_that_batchs_fault(bucket: str) -> None:
    batch = put(bucket)
    store, _ = fsspec.core.url_to_fs(bucket)
    store.pipe_file(f"{batch.folder}/manifest.json", b"{")
    with pytest.raises(BatchError, match="not a manifest"):
        batch.verify()


@pytest.mark.parametrize("error", [(403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (500, "InternalError")])
def test_a_store_that_refuses_is_named_and_no_batch_is_blamed(
    bucket: str, object_store: str, monkeypatch: pytest.MonkeyPatch, error: tuple[int, str]
) -> None:
    batch = put(bucket)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with proxy(object_store, monkeypatch, refuse=10**6, error=error):
        for what in (lambda: list_batches(bucket), batch.verify, lambda: published(batch), lambda: put(bucket, 2)):
            assert_names_the_store(what, bucket)


def test_a_bucket_that_is_missing_and_a_store_that_is_away_are_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for what in (lambda: list_batches("s3://nowhere/landing"), lambda: put("s3://nowhere/landing")):
        assert_names_the_store(what, "s3://nowhere/landing.*bucket")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    for what in (lambda: list_batches(bucket), lambda: put(bucket)):
        assert_names_the_store(what, bucket)


def assert_names_the_store(what: Callable[[], object], url: str) -> None:
    """It raises a LandingError about this URL, with what to look at, and without the credentials."""
    with pytest.raises(LandingError, match=f"^{url}") as raised:
        what()
    assert "look at BATON_LANDING_ROOT, AWS_ENDPOINT_URL" in str(raised.value)
    assert "canary" not in "".join(traceback.format_exception(raised.value))


def test_a_store_that_answers_503_for_a_while_is_asked_again(
    bucket: str, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(object_store, monkeypatch, refuse=3) as busy:
        batch = put(bucket)
        assert batch.verify().rows == 2
    assert len(busy.seen) > 3
    monkeypatch.setenv("BATON_LANDING_ROOT", bucket)
    with proxy(object_store, monkeypatch, refuse=3) as busy, duckdb.connect() as connection:
        ducklake.prepare(connection, Settings())
        assert connection.sql(f"select rows from read_json('{batch.folder}/manifest.json')").fetchall() == [(2,)]
    assert len(busy.seen) > 3


def test_a_writer_killed_between_records_and_manifest_has_published_nothing(
    bucket: str, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(object_store, monkeypatch, keep="manifest.json") as held:
        program = f"from tests.scale.test_objects import put; put({bucket!r})"
        writer = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT)
        try:
            assert held.kept.wait(60)
        finally:
            writer.kill()
            writer.wait()
    assert list_batches(bucket) == []
    (left,) = objects(bucket)
    assert "/records-" in left
    again = put(bucket)
    assert list_batches(bucket) == [again]
    assert again.verify().rows == 2
    assert len(objects(bucket)) == 2, "the next try of the run has put the same records under the same name"


def test_what_a_batch_costs_in_requests_is_what_the_page_says(
    bucket: str, object_store: str, objects_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = objects_room.land("products")
    assert transform(return_state=True).is_completed()
    with proxy(object_store, monkeypatch) as extracting:
        assert not published(Batch(f"{bucket}/landing", "dummyjson.products", new_batch_id(NOW, uuid4())))
        (new,) = objects_room.land("products")
    assert requests(extracting.seen) == COST_OF_AN_EXTRACT
    with proxy(object_store, monkeypatch) as transforming:
        state = transform(return_state=True)
        assert state.is_completed(), state.message
    assert not any(old.batch_id in request for request in transforming.seen)
    assert any(new.batch_id in request for request in transforming.seen)
    assert requests(transforming.seen) == COST_OF_A_TRANSFORM
    with proxy(object_store, monkeypatch) as idle:
        assert transform(return_state=True).is_completed()
    assert requests(idle.seen) == {"LIST": 1}
    page = (PROJECT / "docs" / "object_store.md").read_text()
    for what, counted in {
        "an extract": extracting,
        "a transform that finds nothing to do": idle,
        "a transform of one batch into a DuckDB file": transforming,
    }.items():
        assert row_of_the_page(what, counted.seen) in page


def test_the_transform_reads_only_batches_that_the_warehouse_lacks(
    bucket: str,
    object_store: str,
    lake_room: LakeRoom,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("BATON_LANDING_ROOT", f"{bucket}/landing")
    monkeypatch.setenv("BATON_LAKE_DATA", f"{bucket}/lake")
    old = lake_room.land("products")
    assert transform(return_state=True).is_completed()
    (new,) = lake_room.land("products")
    with proxy(object_store, monkeypatch) as between:
        state = transform(return_state=True)
        assert state.is_completed(), state.message
    assert lake_room.rows("select count(*) from base.base_dummyjson__products") == [(24,)]
    read = [request for request in between.seen if "/landing/" in request and "list-type" not in request]
    assert any(new.batch_id in request for request in read)
    assert not any(old[0].batch_id in request for request in read)
    out, err = capfd.readouterr()
    logs = "".join(file.read_text() for file in tmp_path.joinpath("dbt-logs").iterdir())
    assert "PASS=" in logs
    assert "canary" not in out + err + logs


def test_prune_removes_processed_batches_and_what_killed_extracts_left(
    bucket: str, objects_room: LakeRoom, capsys: pytest.CaptureFixture[str]
) -> None:
    (batch,) = objects_room.land("products")
    assert transform(return_state=True).is_completed()
    later = put(f"{bucket}/landing", 9)
    assert baton(["prune", "--days", "0"]) == 0
    assert list_batches(f"{bucket}/landing") == [later]
    assert len(objects(bucket)) == 2
    assert batch.batch_id in capsys.readouterr().out


def test_only_the_sources_that_are_asked_for_are_listed(
    bucket: str, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = put(bucket)
    put(bucket, 2, source="dummyjson.products_old")
    with proxy(object_store, monkeypatch) as between:
        assert list_batches(bucket, [batch.source]) == [batch]
        assert list_batches(bucket, []) == []
    assert requests(between.seen) == {"LIST": 1}


@pytest.mark.parametrize("name", ["landing_root", "lake_data"])
def test_credentials_in_a_url_are_refused_and_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"BATON_{name.upper()}", "s3://key:canary-in-a-url@baton/landing")
    with pytest.raises(InvalidInputError, match="expected a URL without credentials") as raised:
        Settings()
    assert f"BATON_{name.upper()}: " in str(raised.value)
    assert "canary" not in str(raised.value)


def test_a_store_that_is_away_during_a_build_is_no_batchs_fault(
    object_store: str, objects_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,) = objects_room.land("products")
    find = find_pending

    def find_and_lose_the_store(*arguments: Any) -> Pending:
        found = find(*arguments)
        monkeypatch.setenv("AWS_ENDPOINT_URL", away.url)  # From here on only DuckDB asks.
        return found

    # 404, because only then does DuckDB not ask again.
    with monkeypatch.context() as patch, proxy(object_store, monkeypatch, refuse=10**6, error=(404, "None")) as away:
        monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        patch.setattr(build, "find_pending", find_and_lose_the_store)
        state = transform(return_state=True)
        with pytest.raises(LandingError, match="the object store could not be used; the batches stay pending"):
            state.result()
    assert "canary" not in str(state.message)
    assert ledger.read(Settings()).failures == {}
    assert transform(return_state=True).is_completed()
    assert objects_room.rows("select batch_id from ops.ledger") == [(batch.batch_id,)]


def test_a_slash_at_the_end_of_the_root_makes_no_difference(
    bucket: str, objects_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATON_LANDING_ROOT", f"{bucket}/landing/")
    objects_room.land("products")
    assert transform(return_state=True).is_completed()
    assert objects_room.rows("select count(*) from base.base_dummyjson__products") == [(12,)]
