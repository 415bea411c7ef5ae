"""A generator of pages is read like any other source: exactly, completely, and its errors name it."""

import csv
import json
import math
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from flows.errors import ApiChangedError, ApiError, InvalidInputError
from flows.sources.reader.files import DECLARATIONS, Source, load_file
from flows.sources.reader.python_sources import Context, Pages, table
from flows.sources.reader.reading import read_source
from flows.sources.reader.windows import plan_window

EXAMPLES = DECLARATIONS / "examples"


def source(made: object, name: str = "test.rows") -> Source:
    return Source(name, Path(__file__), made)  # type: ignore[arg-type]


def lines(found: Source, **options: Any) -> list[str]:
    """What would land."""
    return [bytes(record).decode() for page in read_source(found, **options) for record in page.records]


def pages_of(*pages: Any, primary_key: Any = "id", **options: Any) -> Source:
    @table(primary_key=primary_key, **options)
    def rows(context: Context) -> Pages:
        yield from pages

    return source(rows)


def test_values_are_exact_and_dates_are_iso() -> None:
    record = {
        "id": 2**53 + 1,
        "exact": Decimal("12345678901234567890.12"),
        "cents": Decimal("1.10"),
        "at": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "on": date(2026, 1, 1),
        "uuid": UUID(int=1),
        "none": None,
        "text": "é\n",
    }
    assert lines(pages_of([record])) == [
        '{"id":9007199254740993,"exact":12345678901234567890.12,"cents":1.10,"at":"2026-01-01T12:00:00Z",'
        '"on":"2026-01-01","uuid":"00000000-0000-0000-0000-000000000001","none":null,"text":"é\\n"}'
    ]


def test_no_page_is_a_reading_without_records() -> None:
    assert lines(pages_of()) == lines(pages_of([])) == []


REFUSED = {
    "NaN": ([{"id": 1, "x": {"y": [math.nan]}, "z": None}], "got a NaN or an infinity"),
    "a decimal NaN": ([{"id": 1, "x": Decimal("NaN")}], "expected JSON"),
    "an object of one's own": ([{"id": 1, "x": object()}], "expected values that JSON has a form for"),
    "half a surrogate pair": ([{"id": 1, "x": "\ud83c"}], "expected values that JSON has a form for"),
    "one record in place of a page": ({"id": 1}, "expected a list of records a page, got dict"),
    "no record": ([1], "expected an object at position 0, got 1"),
    "no key": ([{"x": 1}], r"as key \(id\) of each record"),
}


@pytest.mark.parametrize(("page", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_land_as_it_is_is_refused(page: Any, message: str) -> None:
    with pytest.raises(ApiError, match=rf"test.rows \(page 2\): .*{message}"):
        lines(pages_of([{"id": 0, "none": None}], page))


def test_keys_are_checked_as_of_every_source() -> None:
    with pytest.raises(ApiChangedError, match=r"test.rows \(page 2\): id 1 came twice"):
        lines(pages_of([{"id": 1}], [{"id": 1}]))
    assert len(lines(pages_of([{"id": 1}], [{"id": 1}], on_change="keep_last"))) == 2


def test_an_error_in_the_generator_names_source_and_line_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-5ecret-value")

    @table(primary_key="id")
    def rows(context: Context) -> Pages:
        yield [{"id": 1}]
        raise RuntimeError(f"cannot log in with {context.secret('CANARY')}")

    with pytest.raises(ApiError, match=r"test.rows: RuntimeError: cannot log in with \*\*\* \(.*\.py:\d+\)") as error:
        lines(source(rows))
    assert error.value.__cause__ is None and error.value.__context__ is None


def test_a_decorator_that_does_not_fit_together_is_refused_with_the_function_s_name() -> None:
    for arguments in ({"cursor_path": "t"}, {"cursor_path": "t", "initial_value": "2026-01-01", "lag": 5}):
        with pytest.raises(InvalidInputError, match="@table of rows: "):
            pages_of([], **arguments)
    with pytest.raises(InvalidInputError, match=r"@table of rows: .*keep_last needs a primary_key"):
        pages_of([], primary_key=[], on_change="keep_last")


def test_a_file_that_cannot_be_imported_or_declares_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with pytest.raises(InvalidInputError, match=r"broken\.py: cannot be imported: ModuleNotFoundError"):
        load_file(tmp_path / "broken.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(InvalidInputError, match=r"empty\.py: expected functions decorated with @table"):
        load_file(tmp_path / "empty.py")


@pytest.fixture
def database() -> Iterator[str]:
    """A database of its own in the real Postgres that PGHOST or 127.0.0.1 has."""
    server = f"host={os.environ.get('PGHOST', '127.0.0.1')} dbname=postgres"
    try:
        admin = psycopg.connect(server, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        pytest.skip(f"no Postgres: {error}")
    name = f"baton_test_{uuid4().hex[:12]}"
    with admin:
        admin.execute(f"create database {name}")
        try:
            yield f"{server.replace('dbname=postgres', '')} dbname={name}"
        finally:
            admin.execute(f"drop database {name} with (force)")


def test_the_example_of_a_postgres_table_reads_exact_values_and_then_what_changed(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_DSN", database)
    with psycopg.connect(database) as connection:
        connection.execute("create table orders (order_id bigint, total numeric, updated_at timestamptz)")
        connection.execute(
            "insert into orders values (9007199254740993, 12345678901234567890.12, '2026-02-01T00:00:00Z'), "
            "(2, 1.10, '2026-02-02T00:00:00Z'), (3, 0.1, '2026-02-02T00:04:00Z')"
        )
    orders = load_file(EXAMPLES / "postgres.py")["postgres.orders"]
    pages = list(read_source(orders, plan_window(orders.table), page_size=2))
    found = [bytes(record).decode() for page in pages for record in page.records]
    assert [line.rpartition(',"updated_at"')[0] for line in found] == [
        '{"order_id":9007199254740993,"total":12345678901234567890.12',
        '{"order_id":2,"total":1.10',
        '{"order_id":3,"total":0.1',
    ]
    assert [len(page.records) for page in pages] == [2, 1]
    changed = lines(orders, window=plan_window(orders.table, pages[-1].cursor))
    assert [json.loads(line)["order_id"] for line in changed] == [2, 3]
    backfill = plan_window(orders.table, since="2026-01-01T00:00:00Z", until="2026-02-01T12:00:00Z")
    assert len(lines(orders, window=backfill)) == 1


def test_the_example_of_a_csv_file_reads_texts_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lines.csv"
    with file.open("w", newline="", encoding="utf-8-sig") as csv_file:
        rows = [[1, 1, "0012345678901234567890.10"], [1, 2, 'a "b"']]
        csv.writer(csv_file).writerows([["order_id", "line", "total"], *rows])
    monkeypatch.setenv("ORDER_LINES_CSV", str(file))
    assert lines(load_file(EXAMPLES / "csv_files.py")["csv_files.order_lines"], page_size=1) == [
        '{"order_id":"1","line":"1","total":"0012345678901234567890.10"}',
        '{"order_id":"1","line":"2","total":"a \\"b\\""}',
    ]
    file.write_text("order_id,line\n1,1,surplus\n")
    with pytest.raises(ApiError, match="expected texts as keys"):
        lines(load_file(EXAMPLES / "csv_files.py")["csv_files.order_lines"])


def test_the_example_of_a_dlt_resource_yields_its_records() -> None:
    pytest.importorskip("dlt")
    found = lines(load_file(EXAMPLES / "from_dlt.py")["from_dlt.squares"])
    assert len(found) == 2500
    assert found[-1] == '{"id":2499,"square":6245001}'
