"""Warehouses and landings that earlier commits of this project have made are transformed by the code as it is.

`tests/fixtures/warehouses/<commit>/` has the warehouse as SQL and the landing, made by the flows of that commit: two
batches of products, one of carts and of users where that commit's sample API had any, and one of products that was
damaged and quarantined.
"""

import shutil
from pathlib import Path

import duckdb
import pytest

from flows.errors import SchemaVersionError
from flows.landing.batch import list_batches
from flows.settings import PROJECT, Settings
from flows.transform import transform
from flows.warehouse import ledger, migrations
from flows.warehouse.connection import connect
from tests.support.lake_room import LakeRoom
from tests.support.room import Room
from tests.support.small_project import use_project

FIXTURES = sorted(file.parent for file in (PROJECT / "tests" / "fixtures" / "warehouses").glob("*/warehouse.sql"))


@pytest.fixture(params=FIXTURES, ids=lambda folder: folder.name)
def old(request: pytest.FixtureRequest, room: Room, tmp_path_factory: pytest.TempPathFactory) -> LakeRoom:
    """A room with what an earlier commit has made."""
    use_project(room, tmp_path_factory.getbasetemp(), "users", "carts")
    folder: Path = request.param
    shutil.copytree(folder / "landing", room.landing)
    with duckdb.connect(str(room.warehouse)) as connection:
        connection.execute((folder / "warehouse.sql").read_text().replace("{folder}", str(room.landing.parent)))
    return LakeRoom(room.landing, room.warehouse, room.patch)


def test_there_are_warehouses_of_three_earlier_commits() -> None:
    assert len(FIXTURES) >= 3


def test_a_new_batch_goes_into_the_marts_beside_what_the_older_code_has_processed(old: LakeRoom) -> None:
    processed = old.rows("select source, batch_id, rows, transform_flow_run_id from ops.ledger")
    snapshots = old.rows("select _batch_id, count(*) from marts.fct_product_snapshots group by all order by all")
    assert len(processed) in (2, 4)
    assert len(snapshots) == 2
    (batch,) = old.land("products", products=9)
    state = transform(return_state=True)
    assert state.is_completed(), state.message
    assert state.message == "1 batch with 9 rows processed"
    rows = old.rows("select source, batch_id, rows, transform_flow_run_id from ops.ledger")
    assert set(processed) < set(rows)
    assert len(rows) == len(processed) + 1
    # What older code has sent is not sent once more.
    assert old.rows("select count(*) from ops.ledger where not announced") == [(0,)]
    assert old.rows("select count(*), any_value(_batch_id) from marts.dim_products") == [(9, batch.batch_id)]
    assert old.rows("select _batch_id, count(*) from marts.fct_product_snapshots group by all order by all") == [
        *snapshots,
        (batch.batch_id, 9),
    ]
    carts = any(source == "dummyjson.carts" for source, *_ in processed)
    assert old.rows("select count(*) > 0 from marts.fct_cart_items") == [(carts,)]
    assert old.rows("select max(version) from ops.schema_version") == [(len(migrations.MIGRATIONS),)]
    assert transform(return_state=True).name == "NothingToDo"


def test_what_older_code_has_quarantined_stays_so(old: LakeRoom) -> None:
    state = ledger.read(Settings())
    assert len(state.quarantined) == 1
    assert state.pending(list_batches(old.landing)) == []
    with connect(Settings()) as connection:
        ((_, batch_id, reason, _),) = ledger.list_quarantined(connection)
        assert "damaged" in reason
        assert ledger.unquarantine(connection, ("dummyjson.products", batch_id))


def test_manifests_that_older_code_has_written_are_read(old: LakeRoom) -> None:
    quarantined = ledger.read(Settings()).quarantined
    verified = [batch.verify() for batch in list_batches(old.landing) if batch.key not in quarantined]
    assert sum(manifest.source == "dummyjson.products" for manifest in verified) == 2
    assert all(manifest.rows for manifest in verified)


def test_a_migration_that_fails_changes_nothing(old: LakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: duckdb.DuckDBPyConnection) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, fail))
    columns = "select table_name, column_name from duckdb_columns() where schema_name = 'ops' order by all"
    before = old.rows(columns)
    with pytest.raises(RuntimeError, match="killed"):
        ledger.read(Settings())
    assert old.rows(columns) == before


def test_a_warehouse_of_newer_code_is_refused_by_one_message_and_left_as_it_is(room: Room) -> None:
    old = LakeRoom(room.landing, room.warehouse, room.patch)
    old.land("products")
    with connect(Settings()) as connection:
        migrations.migrate(connection)
        connection.execute("insert into ops.schema_version values (99, now())")
    state = transform(return_state=True)
    assert state.is_failed()
    assert "has version 99, made by newer code; this code knows versions up to" in str(state.message)
    with pytest.raises(SchemaVersionError):
        ledger.read(Settings())
    assert old.rows("select schema_name from duckdb_schemas() where schema_name in ('base', 'marts')") == []
