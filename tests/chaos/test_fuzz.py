"""Whatever lies in the landing, comes in an event or is answered by an API: our message or none, and nothing opened
outside the landing root."""

import gzip
import hashlib
import json
import os
import string
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows import transform
from flows.errors import ApiError, BatchError, LandingError
from flows.landing.batch import Batch
from flows.landing.names import MANIFEST, RECORDS
from flows.processing.pending import find_pending
from flows.settings import Settings
from flows.sources.reader.files import find_source
from flows.sources.reader.reading import read_source
from flows.warehouse import ledger
from flows.warehouse.connection import connect
from stack.sample_api.server import SampleApi, server
from tests.chaos import counts

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
GOOD = "20261124T120000Z-0123456789ab"
many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


# Manifests


def true_manifest(content: bytes, rows: int) -> dict[str, Any]:
    return {
        "source": "dummyjson.products",
        "batch_id": GOOD,
        "rows": rows,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "total": rows,
        "extracted_at": NOW.isoformat(),
        "flow_run_id": str(UUID(int=1)),
        "schema_version": 1,
    }


changes = st.dictionaries(st.sampled_from(sorted(true_manifest(b"", 0))), json_values, max_size=3)


@many
@given(changes, st.sets(st.sampled_from(sorted(true_manifest(b"", 0))), max_size=2), st.binary(max_size=40))
def test_a_manifest_is_what_the_file_is_or_is_refused_by_a_message_that_names_it(
    changed: dict[str, Any], missing: set[str], damage: bytes
) -> None:
    with tempfile.TemporaryDirectory() as root:
        batch = Batch(Path(root), "dummyjson.products", GOOD)
        Path(batch.folder).mkdir(parents=True)
        content = gzip.compress(b'{"id":1}\n')
        Path(batch.folder, RECORDS).write_bytes(content + damage)
        manifest = {key: value for key, value in (true_manifest(content, 1) | changed).items() if key not in missing}
        Path(batch.folder, MANIFEST).write_text(json.dumps(manifest))
        try:
            found = batch.verify()
        except BatchError as error:
            assert str(batch.folder) in str(error)
        else:
            assert (found.source, found.batch_id) == batch.key
            assert (found.bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
            assert damage == b""


@many
@given(st.binary(max_size=200))
def test_any_bytes_as_a_manifest_are_refused_by_a_message_that_names_it(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        batch = Batch(Path(root), "dummyjson.products", GOOD)
        Path(batch.folder).mkdir(parents=True)
        Path(batch.folder, MANIFEST).write_bytes(content)
        with pytest.raises(BatchError, match=MANIFEST):
            batch.verify()


# Landing trees

names = (
    st.sampled_from(
        [
            "dummyjson",
            "products",
            "_incoming",
            f"batch_id={GOOD}",
            "batch_id=20261124T120001Z-0123456789ab",
            "batch_id=x",
        ]
    )
    | st.sampled_from(["batch_id=..", "records.jsonl.gz", "manifest.json", "Dummy", "ümlaut", "a b", "'; drop", "{x}"])
    | st.text(string.ascii_letters + "._-='\"\n\\é🎉 ", min_size=1, max_size=12).filter(lambda n: n not in (".", ".."))
)
kinds = st.sampled_from(["folder", "file", "link to a batch outside", "link to a file outside", "dangling", "fifo"])
trees = st.lists(st.tuples(st.lists(names, min_size=1, max_size=4), kinds), max_size=8)
batches = st.lists(
    st.tuples(
        st.sampled_from(["whole", "no manifest", "no records", "folder as records", "folder as manifest", "empty"])
        | st.sampled_from(["link as records", "link as manifest", "link as batch", "file as batch", "unreadable"])
        | st.sampled_from(["fifo as records", "fifo as manifest"]),
        st.integers(0, 999),
    ),
    max_size=6,
)


class Outside:
    """Every path that is paths_opened by this process while it is watched. An audit hook cannot be taken off again."""

    paths_opened: list[str] | None = None


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and Outside.paths_opened is not None and isinstance(arguments[0], str | bytes | os.PathLike):
        path = Path(os.fsdecode(arguments[0]))
        if not (path.is_symlink() and arguments[2] & os.O_NOFOLLOW):  # The system refuses to open that one.
            Outside.paths_opened.append(os.path.realpath(path))


sys.addaudithook(watch)


@contextmanager
def watched() -> Iterator[list[str]]:
    paths_opened: list[str] = []
    Outside.paths_opened = paths_opened
    try:
        yield paths_opened
    finally:
        Outside.paths_opened = None


def put(path: Path, kind: str, outside: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "folder":
            path.mkdir()
        elif kind == "file":
            path.open("xb").close()  # Never into what is there: a pipe would wait for a reader.
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(
                {"link to a batch outside": outside, "dangling": Path("nowhere")}.get(kind, outside / RECORDS)
            )
    except (OSError, ValueError):
        pass  # The tree has something there already, or the file system refuses the name.


def put_batch(root: Path, kind: str, number: int, outside: Path) -> None:
    batch = Batch(root, "dummyjson.products", f"20261124T120000Z-{number:012x}")
    folder = Path(batch.folder)
    above = (folder, folder.parent, folder.parent.parent)
    if folder.exists() or any(path.is_symlink() or path.is_file() or path.is_fifo() for path in above):
        return  # The tree has something there already.
    if kind in ("link as batch", "file as batch"):
        put(folder, "link to a batch outside" if kind.startswith("link") else "file", outside)
        return
    content = gzip.compress(b'{"id":1}\n')
    manifest = true_manifest(content, 1) | {"batch_id": batch.batch_id}
    try:
        folder.mkdir(parents=True)
    except OSError:  # The tree has something else in its way.
        return
    if kind in ("whole", "no manifest", "unreadable") or kind.endswith("as manifest"):
        (folder / RECORDS).write_bytes(content)
    if kind in ("whole", "no records", "unreadable") or kind.endswith("as records"):
        (folder / MANIFEST).write_text(json.dumps(manifest))
    if kind.endswith((" as records", " as manifest")):
        name = RECORDS if kind.endswith("records") else MANIFEST
        put(folder / name, {"link": "link to a file outside"}.get(kind.split()[0], kind.split()[0]), outside)
    if kind == "unreadable":
        (folder / RECORDS).chmod(0)


@many
@given(trees, batches)
def test_whatever_lies_in_the_landing_is_a_whole_batch_or_set_aside_by_name_and_nothing_outside_is_opened(
    tree: list[tuple[list[str], str]], made: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, outside = Path(folder, "landing"), Path(folder, "outside", f"batch_id={GOOD}")
        root.mkdir()
        outside.mkdir(parents=True)
        (outside / RECORDS).write_bytes(gzip.compress(b'{"id":"secret"}\n'))
        (outside / MANIFEST).write_text(json.dumps(true_manifest((outside / RECORDS).read_bytes(), 1)))
        for parts, kind in tree:
            put(root.joinpath(*parts), kind, outside)
        for kind, number in made:
            put_batch(root, kind, number, outside)
        settings_ = Settings(landing_root=root, warehouse=Path(folder, "warehouse.duckdb"))
        with watched() as paths_opened:
            try:
                found = find_pending(settings_, None, "project")
            except LandingError as error:  # A source's own folder is a link: nothing is known of it.
                assert "is a link" in str(error)
                found = None
        away = [path for path in paths_opened if path.startswith(str(outside.parent))]
        assert away == [], "something outside of the landing root was paths_opened"
        if found is None:
            return
        for batch, manifest in found.manifests.items():
            assert (manifest.source, manifest.batch_id) == batch.key
            assert Path(batch.folder, RECORDS).resolve().is_relative_to(root.resolve())
        for batch, reason in found.damaged.items():
            assert str(batch.folder) in reason
        whole = {f"20261124T120000Z-{number:012x}" for kind, number in reversed(made) if kind == "whole"}
        first: dict[str, str] = {}
        for kind, number in made:
            first.setdefault(f"20261124T120000Z-{number:012x}", kind)
        expected = {batch_id for batch_id in whole if first[batch_id] == "whole"}
        if not any(parts[:1] == ["dummyjson"] for parts, _ in tree):
            assert {batch.batch_id for batch in found.manifests} >= expected


# Event payloads, as the parameters of a run

parameters = st.fixed_dictionaries(
    {},
    optional={
        "source": st.none() | st.text(max_size=60) | st.sampled_from(["dummyjson.products", "../x.y", "a.b+", "a.b\n"]),
        "batch_id": st.none() | st.text(max_size=60) | st.sampled_from([GOOD, "../../etc", f"{GOOD}\n", f"{GOOD}/.."]),
        "event_id": st.none() | st.text(max_size=60) | st.sampled_from([str(UUID(int=7)), "{" * 32, "1; drop"]),
    },
)


@many
@given(parameters)
def test_an_events_payload_is_logged_or_refused_by_the_parameters_name(given_: dict[str, str | None]) -> None:
    values = {name: given_.get(name) for name in ("source", "batch_id", "event_id")}
    try:
        line = transform.reason(**values)
    except ValueError as error:
        assert str(error).startswith(("source: expected", "batch_id: expected", "event_id: expected"))
        assert len(str(error)) < 300
    else:
        assert "\n" not in line
        for value in values.values():
            assert not value or value in line or str(UUID(value)) in line


@many
@given(st.dictionaries(st.sampled_from(["source", "batch_id", "event_id", "select", "full_refresh"]), json_values))
def test_parameters_of_any_type_are_refused_before_the_flow_begins_or_by_our_message(
    given_: dict[str, Any],
) -> None:
    from prefect.exceptions import ParameterTypeError

    try:
        checked = transform.transform.validate_parameters(given_)
    except ParameterTypeError as error:
        assert "Flow run received invalid parameters" in str(error)
        return
    assert all(value is None or isinstance(value, str | bool) for value in checked.values())


# API answers

answers = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {
            "products": st.lists(
                st.fixed_dictionaries({"id": st.integers(0, 6) | st.text(max_size=3) | json_values}) | json_values,
                max_size=4,
            ),
            "total": st.integers(-1, 6) | json_values,
        }
    ).map(lambda value: json.dumps(value).encode()),
)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[str, list[Any]]]:
    """A server that gives each answer of the list in turn, and the last again and again."""
    import threading

    planned: list[Any] = []

    def intercept(path: str, query: dict[str, str], number: int) -> Any:
        return planned.pop(0) if len(planned) > 1 else planned[0]

    running = server(SampleApi(intercept=intercept))
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}", planned
    running.shutdown()
    running.server_close()
    thread.join()


@many
@given(
    given_=st.lists(
        st.tuples(st.sampled_from([200, 200, 200, 200, 204, 404, 500, 599]), answers), min_size=1, max_size=3
    )
)
def test_whatever_an_api_answers_is_a_complete_reading_or_our_error(
    fuzzed: tuple[str, list[Any]], given_: list[tuple[int, bytes]]
) -> None:
    url, planned = fuzzed
    planned[:] = [
        (status, {"Content-Type": "application/json"}, b"" if status == 204 else body) for status, body in given_
    ]
    try:
        pages = list(
            read_source(find_source("dummyjson.products", base_urls={"dummyjson": url}), page_size=3, retries=0)
        )
    except ApiError as error:
        assert f"{url}/products" in str(error)
        assert len(str(error)) < 1000
    else:
        records = [json.loads(bytes(record)) for page in pages for record in page.records]
        assert len(records) == pages[0].total
        assert len({json.dumps(record["id"]) for record in records}) == len(records)


# The ledger


operations = st.lists(
    st.tuples(st.sampled_from(["record", "in quarantine", "hold", "release", "failure"]), st.lists(st.integers(0, 5))),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(operations)
def test_the_ledger_has_each_batch_once_and_survives_any_order_of_operations(made: list[tuple[str, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Path(folder, "warehouse.duckdb")
        recorded: set[str] = set()
        with connect(Settings(warehouse=warehouse, warehouse_wait_seconds=5)) as connection:
            for what, numbers in made:
                ids = list(dict.fromkeys(f"20261124T120000Z-{number:012x}" for number in numbers))
                keys = [("dummyjson.products", batch_id) for batch_id in ids]
                if what == "record":
                    ledger.record(connection, [entry(batch_id) for batch_id in ids])
                    recorded |= set(ids)
                elif what == "in quarantine":
                    ledger.quarantine(connection, dict.fromkeys(keys, 'it\'s "bad"; drop table'))
                elif what == "hold":
                    ledger.hold_back(connection, keys, {source for source, _ in keys})
                elif what == "failure":
                    ledger.record_failures(connection, [Batch(Path(folder), *key) for key in keys], "why")
                else:
                    for key in keys:
                        ledger.unquarantine(connection, key)
        state = ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=5))
        assert {batch_id for _, batch_id in state.processed} == recorded
        if recorded:
            with counts.copy_of(warehouse) as connection:
                twice = counts.rows(connection, "select batch_id from ops.ledger group by 1 having count(*) > 1")
                assert twice == []
        assert not state.failures.keys() & state.processed or any(what == "failure" for what, _ in made)


def entry(batch_id: str) -> ledger.Entry:
    return ledger.Entry("dummyjson.products", batch_id, 1, "event", None, None, None, NOW, None, NOW, "project")
