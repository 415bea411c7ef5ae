"""The landing on an object store: a real HTTP server on loopback that speaks S3, and a proxy that makes it fail."""

import gzip
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID, uuid4

import fsspec
import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from pydantic import ValidationError

from flows import landing
from flows.__main__ import main as flows_command
from flows.landing import Batch, BatchError, LandingError, landed, new_batch_id, published, writing
from flows.processing import find_pending
from flows.settings import Settings
from flows.transform import transform
from tests.scale.lake_room import LakeRoom

NOW = datetime(2026, 11, 24, tzinfo=UTC)
RECORDS = [{"id": 1, "title": "é"}, {"id": 2, "title": "b"}]


def put(
    root: str, number: int = 1, records: list[dict[str, object]] = RECORDS, source: str = "dummyjson.products"
) -> Batch:
    """A published batch."""
    batch = Batch(root, source, new_batch_id(NOW, UUID(int=number)))
    with writing(batch) as writer:
        writer.write(records)
        writer.publish(total=len(records), extracted_at=NOW, flow_run_id=UUID(int=number))
    return batch


@pytest.fixture
def room(
    server: str,
    bucket: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LakeRoom]:
    """A landing in the store and a warehouse that is a file; needs neither Postgres nor Redis."""
    warehouse = tmp_path / "warehouse.duckdb"
    for name, value in {
        "BATON_LANDING_ROOT": f"{bucket}/landing/",  # The slash that people add has to make no difference.
        "BATON_WAREHOUSE": warehouse,
        "DBT_TARGET_PATH": tmp_path_factory.getbasetemp() / "dbt-target",
        "DBT_LOG_PATH": tmp_path / "dbt-logs",
    }.items():
        monkeypatch.setenv(name, str(value))
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield LakeRoom(tmp_path / "landing", warehouse, monkeypatch)


def objects(root: str) -> list[str]:
    """The keys below a URL."""
    store, path = fsspec.core.url_to_fs(root, use_listings_cache=False)
    return [key.removeprefix(f"{path}/") for key in store.find(path)]


@contextmanager
def proxy(store: str, refuse: int = 0, status: int = 503) -> Iterator[tuple[str, list[str]]]:
    """Passes requests on to the store, but for the first so many; its URL, and every request as `METHOD path`."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            seen.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if len(seen) <= refuse:
                return self.reply(status, {}, b"<Error><Code>SlowDown</Code><Message>Slow down</Message></Error>")
            request = urllib.request.Request(f"{store}{self.path}", body or None, method=self.command)
            for name, value in self.headers.items():
                if name.lower() not in ("host", "content-length", "connection"):
                    request.add_header(name, value)
            try:
                with urllib.request.urlopen(request) as found:
                    self.reply(found.status, dict(found.headers), found.read())
            except urllib.error.HTTPError as error:
                self.reply(error.code, dict(error.headers), error.read())
            return None

        def reply(self, code: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(code)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            kept = {
                n: v for n, v in headers.items() if n.lower() not in ("content-length", "connection", "date", "server")
            }
            for name, value in {**kept, "Content-Length": length}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def test_a_batch_is_published_read_and_verified(bucket: str) -> None:
    assert landed(bucket) == []
    batch = put(bucket)
    assert landed(bucket) == [batch]
    assert published(batch)
    manifest = batch.verify()
    assert (manifest.rows, manifest.batch_id) == (2, batch.batch_id)
    with fsspec.open(batch.records(manifest), "rb") as file:
        assert [json.loads(line) for line in gzip.decompress(file.read()).splitlines()] == RECORDS
    assert put(bucket, 2) in landed(bucket)


def test_records_without_a_manifest_are_no_batch_and_prune_removes_them_a_day_later(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    batch = put(bucket)
    store, path = fsspec.core.url_to_fs(str(batch.folder))
    store.rm_file(f"{path}/manifest.json")
    assert landed(bucket) == []
    assert not published(batch)
    assert landing.remove_leftovers(bucket, 86400) == 0
    assert len(objects(bucket)) == 1
    assert landing.remove_leftovers(bucket, -60) == 1
    assert objects(bucket) == []


def test_of_two_writers_of_one_batch_the_first_stands_whole(bucket: str) -> None:
    batch = Batch(bucket, "dummyjson.products", new_batch_id(NOW, UUID(int=1)))
    with writing(batch) as slow:
        slow.write([*RECORDS, {"id": 3}])
        first = put(bucket).manifest()
        assert slow.publish(total=3, extracted_at=NOW, flow_run_id=UUID(int=1)) == first
    assert batch.verify() == first
    assert first.rows == 2


def test_a_writer_that_ends_without_publishing_leaves_nothing(bucket: str) -> None:
    with pytest.raises(KeyError), writing(Batch(bucket, "dummyjson.products", new_batch_id(NOW, uuid4()))) as writer:
        writer.write(RECORDS)
        raise KeyError
    assert objects(bucket) == []


def test_a_damaged_or_missing_object_is_that_batchs_fault_and_a_store_that_is_away_is_nobodys(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path
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
    pending = find_pending(Settings(), None)
    assert set(pending.damaged) == {damaged, missing}
    assert set(pending.manifests) == {whole}


@pytest.mark.parametrize("status", [403, 500])
def test_a_store_that_refuses_is_named_and_no_batch_is_blamed(
    bucket: str, object_store: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    batch = put(bucket)
    with proxy(object_store, refuse=10**6, status=status) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        for what in (lambda: landed(bucket), batch.verify, lambda: put(bucket, 2)):
            with pytest.raises(LandingError, match=f"^{bucket}.*the object store could not be used") as raised:
                what()
            assert "canary" not in str(raised.value)


def test_a_store_that_answers_503_for_a_while_is_asked_again(
    bucket: str, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(object_store, refuse=3) as (url, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        batch = put(bucket)
        assert batch.verify().rows == 2
    assert len(seen) > 3


def test_the_transform_reads_only_batches_that_the_warehouse_lacks(
    bucket: str,
    object_store: str,
    lake_room: LakeRoom,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BATON_LANDING_ROOT", f"{bucket}/landing")
    monkeypatch.setenv("BATON_LAKE_DATA", f"{bucket}/lake")
    old = lake_room.land("products")
    assert transform(return_state=True).is_completed()
    (new,) = lake_room.land("products")
    with proxy(object_store) as (url, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        state = transform(return_state=True)
        assert state.is_completed(), state.message
    assert lake_room.rows("select count(*) from base.base_dummyjson__products") == [(24,)]
    read = [
        request
        for request in seen
        if request.startswith("GET") and "/landing/" in request and "list-type" not in request
    ]
    assert any(new.batch_id in request for request in read)
    assert not any(old[0].batch_id in request for request in read)
    listings = [request for request in seen if "list-type" in request and "landing" in request]
    assert len(listings) <= 4, listings
    out, err = capfd.readouterr()
    assert "canary" not in out + err


def test_prune_removes_batches_from_the_store(
    bucket: str, lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATON_LANDING_ROOT", bucket)
    (batch,) = lake_room.land("products")
    assert transform(return_state=True).is_completed()
    later = put(bucket, 9)
    assert flows_command(["prune", "--days", "0"]) == 0
    assert landed(bucket) == [later]
    assert batch.batch_id in capsys.readouterr().out


def test_an_unreadable_manifest_is_its_batchs_fault_and_stops_no_other(room: LakeRoom) -> None:
    broken, whole = room.land("products", "carts")
    store, path = fsspec.core.url_to_fs(str(broken.folder))
    store.pipe_file(f"{path}/manifest.json", b"{not json")
    with pytest.raises(BatchError, match=r"manifest.json: not a manifest that can be read"):
        broken.manifest()
    pending = find_pending(Settings(), None)
    assert (set(pending.damaged), set(pending.manifests)) == ({broken}, {whole})


def test_a_bucket_that_is_missing_is_named_and_is_not_an_empty_landing(bucket: str) -> None:
    for what in (lambda: landed("s3://mistyped/landing"), lambda: put("s3://mistyped/landing")):
        with pytest.raises(LandingError, match=r"^s3://mistyped/landing.*bucket does not exist"):
            what()


def test_only_the_sources_that_are_asked_for_are_listed(
    bucket: str, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = put(bucket)
    put(bucket, 2, source="dummyjson.products_old")
    with proxy(object_store) as (url, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        assert landed(bucket, [batch.source]) == [batch]
        assert len(seen) == 1
        assert landed(bucket, []) == []
        assert len(seen) == 1


@pytest.mark.parametrize("name", ["landing_root", "lake_data"])
def test_credentials_in_a_url_are_refused_and_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"BATON_{name.upper()}", "s3://key:canary-in-a-url@baton/landing")
    with pytest.raises(ValidationError, match="expected a URL without credentials") as raised:
        Settings()
    assert name in str(raised.value)
    assert "canary" not in str(raised.value)


def test_a_warehouse_file_takes_batches_from_the_store_though_it_answers_503_for_a_while(
    room: LakeRoom, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = room.land("products")
    assert transform(return_state=True).is_completed()
    (second,) = room.land("products")
    # s3fs goes on with the store itself; what goes through the proxy are the requests of DuckDB.
    with proxy(object_store, refuse=4) as (url, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        state = transform(return_state=True)
    assert state.is_completed(), state.message
    assert room.rows("select batch_id from ops.ledger order by all") == sorted([(first.batch_id,), (second.batch_id,)])
    assert room.rows("select count(*) from base.base_dummyjson__products") == [(24,)]
    assert not any(first.batch_id in request for request in seen)


def test_a_store_that_is_away_during_a_build_is_no_batchs_fault(
    room: LakeRoom, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,) = room.land("products")
    with proxy(object_store, refuse=10**6, status=404) as (url, _):  # Only for this does DuckDB not ask again.
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        state = transform(return_state=True)
        with pytest.raises(LandingError, match="the object store could not be used; the batches stay pending"):
            state.result()
        assert "canary" not in str(state.message)
    assert room.rows("select count(*) from information_schema.tables where table_name = 'failures'") == [(0,)]
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
    assert transform(return_state=True).is_completed()
    assert room.rows("select batch_id from ops.ledger") == [(batch.batch_id,)]
