"""The ledger says what needs nothing more, changes in one transaction, and waits for a warehouse in use."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import pytest

from flows import ledger
from flows.landing import Batch
from flows.settings import Settings

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
ONE, TWO = "20261124T120000Z-000000000001", "20261124T120000Z-000000000002"


def entry(batch_id: str, rows: int = 194) -> ledger.Entry:
    return ledger.Entry(
        source="dummyjson.products",
        batch_id=batch_id,
        rows=rows,
        handoff=None,
        event_id=None,
        extract_flow_run_id=str(uuid4()),
        transform_flow_run_id=str(uuid4()),
        landed_at=NOW,
        event_at=None,
        started_at=NOW,
        dbt_project="abc",
    )


def test_a_warehouse_that_does_not_exist_has_an_empty_ledger_and_is_not_made_by_reading(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    assert ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) == ledger.EMPTY
    assert not warehouse.exists()


def test_a_warehouse_without_our_tables_has_an_empty_ledger(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    duckdb.connect(str(warehouse)).close()
    assert ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) == ledger.EMPTY


def test_recorded_and_quarantined_batches_are_settled_and_the_rest_is_pending(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    batches = [
        Batch(tmp_path, "dummyjson.products", batch_id) for batch_id in (ONE, TWO, "20261124T120000Z-000000000003")
    ]
    with ledger.opened(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE)])
        ledger.set_aside(connection, {("dummyjson.products", TWO): "damaged"})
    state = ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0))
    assert state.pending(batches) == batches[2:]
    assert state.dbt_project == "abc"


def test_a_batch_is_recorded_once(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with ledger.opened(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE, rows=194)])
        ledger.record(connection, [entry(ONE, rows=7), entry(TWO)])
        rows = connection.sql("select batch_id, rows from ops.ledger order by all").fetchall()
    assert rows == [(ONE, 194), (TWO, 194)]


def test_a_record_that_fails_leaves_no_part_of_itself(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with ledger.opened(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE)])
        with pytest.raises(duckdb.Error):
            ledger.record(connection, [entry(TWO), entry("20261124T120000Z-000000000003", rows="many")])  # type: ignore[arg-type]
        assert connection.sql("select count(*) from ops.ledger").fetchone() == (1,)


def test_failures_are_counted_until_the_batch_is_recorded(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    batch = Batch(tmp_path, "dummyjson.products", ONE)
    with ledger.opened(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.note_failures(connection, [batch], "a test failed")
        ledger.note_failures(connection, [batch], "a test failed")
    assert ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0)).failures == {
        ("dummyjson.products", ONE): 2
    }
    with ledger.opened(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE)])
    assert ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0)).failures == {}


def test_a_warehouse_in_use_is_waited_for(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with held(warehouse) as holder:
        assert holder.stdin is not None
        holder.stdin.close()  # The holder lets go when its input ends; until then the file cannot be opened.
        with ledger.opened(Settings(warehouse=warehouse, warehouse_wait_seconds=30)) as connection:
            assert connection.sql("select 1").fetchone() == (1,)


def test_a_warehouse_that_stays_in_use_is_an_error_that_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with held(warehouse) as holder:
        with (
            pytest.raises(ledger.WarehouseBusy, match=r"warehouse\.duckdb: another process held .*stay pending"),
            ledger.opened(Settings(warehouse=warehouse, warehouse_wait_seconds=0.2)),
        ):
            pass
        assert holder.stdin is not None
        holder.stdin.close()


def held(warehouse: Path) -> subprocess.Popen[bytes]:
    """Another process that has the warehouse open for writing until its standard input is closed."""
    program = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read(); c.close()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("rows", [1, 5_000])
def test_rows_of_a_batch_are_counted_in_its_base_model(tmp_path: Path, rows: int) -> None:
    with ledger.opened(Settings(warehouse=tmp_path / "warehouse.duckdb", warehouse_wait_seconds=0)) as connection:
        connection.execute("create schema base")
        connection.execute(
            f"create table base.base_dummyjson__products as select '{ONE}' as _batch_id from range({rows})"
        )
        batches = [Batch(tmp_path, "dummyjson.products", ONE), Batch(tmp_path, "dummyjson.products", TWO)]
        batches.append(Batch(tmp_path, "dummyjson.never_built", ONE))
        assert ledger.base_rows(connection, batches) == {
            ("dummyjson.products", ONE): rows,
            ("dummyjson.products", TWO): 0,
            ("dummyjson.never_built", ONE): 0,
        }
