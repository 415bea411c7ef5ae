"""The ledger says what needs nothing more, changes in one transaction, and waits for a warehouse in use."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import pytest

from flows.errors import WarehouseBusyError, WarehouseError
from flows.landing.batch import Batch
from flows.processing.pending import FAILURES_BEFORE_ISOLATION
from flows.settings import Settings
from flows.warehouse import ledger
from flows.warehouse.connection import connect, log_is_unreadable

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
    with connect(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE)])
        ledger.quarantine(connection, {("dummyjson.products", TWO): "damaged"})
    state = ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0))
    assert state.pending(batches) == batches[2:]
    assert state.dbt_project == "abc"


def test_a_batch_is_recorded_once(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with connect(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE, rows=194)])
        ledger.record(connection, [entry(ONE, rows=7), entry(TWO)])
        rows = connection.sql("select batch_id, rows from ops.ledger order by all").fetchall()
    assert rows == [(ONE, 194), (TWO, 194)]


def test_a_record_that_fails_leaves_no_part_of_itself(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with connect(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE)])
        with pytest.raises(duckdb.Error):
            ledger.record(connection, [entry(TWO), entry("20261124T120000Z-000000000003", rows="many")])  # type: ignore[arg-type]
        assert connection.sql("select count(*) from ops.ledger").fetchone() == (1,)


def test_failures_are_counted_until_the_batch_is_recorded(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    batch = Batch(tmp_path, "dummyjson.products", ONE)
    with connect(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record_failures(connection, [batch], "a test failed")
        ledger.record_failures(connection, [batch], "a test failed")
    assert ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0)).failures == {
        ("dummyjson.products", ONE): 2
    }
    with connect(Settings(warehouse=warehouse, warehouse_wait_seconds=0)) as connection:
        ledger.record(connection, [entry(ONE)])
    assert ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=0)).failures == {}


def test_a_warehouse_in_use_is_waited_for(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with held(warehouse) as holder:
        assert holder.stdin is not None
        holder.stdin.close()  # The holder lets go when its input ends; until then the file cannot be opened.
        with connect(Settings(warehouse=warehouse, warehouse_wait_seconds=30)) as connection:
            assert connection.sql("select 1").fetchone() == (1,)


def test_a_warehouse_that_stays_in_use_is_an_error_that_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with held(warehouse) as holder:
        with (
            pytest.raises(WarehouseBusyError, match=r"warehouse\.duckdb: another process held .*stay pending"),
            connect(Settings(warehouse=warehouse, warehouse_wait_seconds=0.2)),
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
    with connect(Settings(warehouse=tmp_path / "warehouse.duckdb", warehouse_wait_seconds=0)) as connection:
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


def test_only_what_was_sent_is_marked_announced(tmp_path: Path) -> None:
    """Another round of the same run may write while the first one's events are on their way."""
    run_id = str(uuid4())
    with connect(Settings(warehouse=tmp_path / "warehouse.duckdb")) as connection:
        ledger.record(connection, [replace(entry(ONE), transform_flow_run_id=run_id)])
        ledger.quarantine(connection, {("dummyjson.carts", ONE): "damaged"}, run_id)
        sent = ledger.unannounced(connection)
        ledger.record(connection, [replace(entry(TWO), transform_flow_run_id=run_id)])
        ledger.quarantine(connection, {("dummyjson.carts", TWO): "damaged"}, run_id)
        ledger.mark_announced(connection, *sent)
        finished, quarantined = ledger.unannounced(connection)
    assert [each.batches for each in finished] == [{TWO: 194}]
    assert [each.batch_id for each in quarantined] == [TWO]


def test_what_one_transaction_entered_stays_together_and_apart_from_the_next(tmp_path: Path) -> None:
    run_id = str(uuid4())
    entries = [replace(entry(batch_id), transform_flow_run_id=run_id) for batch_id in (ONE, TWO)]
    with connect(Settings(warehouse=tmp_path / "warehouse.duckdb")) as connection:
        for each in entries:
            ledger.record(connection, [each])
        finished, _ = ledger.unannounced(connection)
    assert [each.batches for each in finished] == [{ONE: 194}, {TWO: 194}]


def test_a_ledger_beside_which_a_table_is_missing_is_an_error_and_not_an_empty_ledger(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    with connect(settings) as connection:
        ledger.record(connection, [entry(ONE)])
        connection.execute("drop table ops.quarantine")
    with pytest.raises(duckdb.Error, match="quarantine"):
        ledger.read(settings)


def test_a_warehouse_that_cannot_be_opened_is_not_taken_for_one_that_is_in_use(tmp_path: Path) -> None:
    """Its path may hold the word that DuckDB uses for a lock."""
    warehouse = tmp_path / "block" / "lock.duckdb"
    warehouse.mkdir(parents=True)
    with pytest.raises(WarehouseError, match="cannot be opened; the batches stay pending") as raised:
        ledger.read(Settings(warehouse=warehouse, warehouse_wait_seconds=3600))
    assert not isinstance(raised.value, WarehouseBusyError)


def test_of_each_batch_the_last_failures_are_kept_with_reasons_that_are_cut(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    one, two = (Batch(tmp_path, "dummyjson.products", batch_id) for batch_id in (ONE, TWO))
    with connect(settings) as connection:
        for number in range(12):
            ledger.record_failures(connection, [one], f"{number} " + "x" * 1_000_000)
        ledger.record_failures(connection, [two], "once")
        rows = connection.sql("select batch_id, reason from ops.failures order by failed_at").fetchall()
    assert [batch_id for batch_id, _ in rows] == [ONE] * ledger.FAILURES_KEPT + [TWO]
    assert [reason.split()[0] for _, reason in rows] == ["7", "8", "9", "10", "11", "once"]
    assert max(len(reason) for _, reason in rows) < ledger.REASON_LENGTH + 100
    assert ledger.read(settings).failures[one.key] >= FAILURES_BEFORE_ISOLATION


def test_a_dropped_batch_is_never_pending_again_and_keeps_its_reason(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    batches = [Batch(tmp_path, "dummyjson.products", batch_id) for batch_id in (ONE, TWO)]
    key = batches[0].key
    with connect(settings) as connection:
        assert not ledger.drop(connection, key)
        ledger.quarantine(connection, {key: "damaged", batches[1].key: "damaged, too"})
        assert ledger.drop(connection, key)
        assert not ledger.drop(connection, key)
        assert not ledger.unquarantine(connection, key)
        assert [row[1:3] for row in ledger.list_quarantined(connection)] == [(TWO, "damaged, too")]
        assert [row[:3] for row in ledger.list_dropped(connection)] == [(*key, "damaged")]
    assert ledger.read(settings).pending(batches) == []


@pytest.mark.parametrize(("why", "unreadable"), [("no default database set", True), ("No space left on device", False)])
def test_only_a_log_that_can_never_be_replayed_is_moved(why: str, unreadable: bool) -> None:
    """On a disk that is still full, DuckDB cannot replay a good one either."""
    error = duckdb.InternalException(f'INTERNAL Error: Failure while replaying WAL file "warehouse.duckdb.wal": {why}')
    assert log_is_unreadable(error) == unreadable
