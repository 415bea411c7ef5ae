"""Readers see the marts as they last passed their tests, of one moment, whatever happens to the builds."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest

from flows.errors import InvalidInputError
from flows.landing.batch import Batch
from flows.landing.names import RECORDS
from flows.settings import PROJECT, Settings
from flows.transform import transform
from flows.warehouse import dbt, publishing
from flows.warehouse.connection import connect
from tests.support.killed_transform import kill_at
from tests.support.lake_room import LakeRoom
from tests.support.room import Room, rewrite
from tests.support.small_project import use_project


@pytest.fixture
def shop(room: Room, tmp_path_factory: pytest.TempPathFactory) -> LakeRoom:
    """The room of the integration tests, in which batches are landed without a flow."""
    use_project(room, tmp_path_factory.getbasetemp(), "users", "carts")
    return LakeRoom(room.landing, room.warehouse, room.patch)


def run(**parameters: Any) -> str:
    """A transform that completes; its run id."""
    state = transform(return_state=True, **parameters)
    assert state.is_completed(), state.message
    return str(state.state_details.flow_run_id)


def read(query: str) -> list[tuple[Any, ...]]:
    """What a reader sees now."""
    with duckdb.connect(str(Settings().published_marts), read_only=True) as connection:
        return connection.sql(query).fetchall()


def exported(shop: LakeRoom) -> list[tuple[Any, ...]]:
    return duckdb.sql(
        f"select count(*), any_value(_batch_id) from '{shop.warehouse.parent}/dim_products.parquet'"
    ).fetchall()


def publications() -> list[tuple[str, bool]]:
    return [(each.transform_run_id, each.kept) for each in publishing.list_publications(Settings())]


def make_refused(batch: Batch) -> None:
    """A negative price: the batch and staging take it, a test of dim_products does not."""
    lines = gzip.decompress(Path(batch.folder, RECORDS).read_bytes()).splitlines()
    records = [json.loads(line) for line in lines]
    rewrite(batch, [{**records[0], "price": -5}, *records[1:]])


def test_what_a_transform_has_built_is_one_read_only_database_and_the_exports_beside_it(shop: LakeRoom) -> None:
    products, carts, _ = shop.land("products", "carts", "users")
    run_id = run()
    built = shop.rows(
        "select table_name from duckdb_tables() where schema_name = 'marts' and table_name not like '%~_~_%' escape '~'"
    )
    assert len(built) == len(list((Settings().dbt_project / "models" / "marts").glob("*.sql"))), "all of dummyjson"
    assert sorted(read("select mart from _publication")) == sorted(built)
    for (mart,) in built:
        # Under the name that it has in the warehouse, too, and without a schema.
        assert read(f"select count(*) from marts.{mart}") == read(f"select count(*) from {mart}")
        assert read(f"from {mart} order by all") == shop.rows(f"from marts.{mart} order by all")
    assert exported(shop) == [(12, products.batch_id)]
    assert publications() == [(run_id, True)]
    (publication,) = publishing.list_publications(Settings())
    assert publication.place == str(shop.warehouse.with_name("marts.duckdb"))
    assert publication.bytes == shop.warehouse.with_name("marts.duckdb").stat().st_size
    assert carts.batch_id in read("select distinct _batch_id from fct_cart_items")[0]


def test_a_transform_without_anything_new_publishes_nothing(shop: LakeRoom) -> None:
    shop.land("products")
    run_id = run()
    run()
    assert publications() == [(run_id, True)]


def test_only_what_was_built_since_is_copied_and_the_rest_stays_as_it_was_published(shop: LakeRoom) -> None:
    shop.land("products", "users")
    first = run()
    shop.land("products", products=13)
    second = run()
    by = dict(read("select mart, transform_flow_run_id::text from _publication"))
    assert by["dim_products"] == second
    assert read("select count(*) from dim_products") == [(13,)]
    assert read("select count(*) from dim_users") == shop.rows("select count(*) from marts.dim_users")
    assert publications() == [(second, True), (first, True)]


def test_a_build_that_fails_the_test_of_a_mart_leaves_what_readers_see_as_it_was(shop: LakeRoom) -> None:
    (good,) = shop.land("products")
    run_id = run()
    (bad,) = shop.land("products", products=13)
    make_refused(bad)
    state = transform(return_state=True)
    assert state.is_failed()
    assert shop.rows("select min(price) < 0 from marts.dim_products") == [(True,)]
    assert read("select count(*), any_value(_batch_id) from dim_products") == [(12, good.batch_id)]
    assert read("select count(*) from fct_product_snapshots") == [(12,)]
    assert exported(shop) == [(12, good.batch_id)]
    assert publications() == [(run_id, True)]


def test_marts_of_other_sources_are_published_while_a_mart_is_in_a_state_that_its_tests_refuse(shop: LakeRoom) -> None:
    shop.land("products", "users")
    run()
    (bad,) = shop.land("products", products=13)
    make_refused(bad)
    assert transform(return_state=True).is_failed()
    (users,) = shop.land("users")
    dbt.run_dbt(["build", "--select", "source:dummyjson.users+"], Settings())
    run_id = str(uuid4())
    publication = publishing.publish_if_changed(Settings(), run_id)
    assert publication
    assert publication.transform_run_id == run_id
    assert read("select distinct _batch_id from dim_users") == [(users.batch_id,)]
    assert read("select count(*) from dim_products where price < 0") == [(0,)]
    assert read("select count(*) from dim_products") == [(12,)]


def test_marts_that_were_run_and_not_tested_are_not_published(shop: LakeRoom) -> None:
    (first,) = shop.land("products")
    run()
    (second,) = shop.land("products", products=13)
    dbt.run_dbt(["run", "--select", "source:dummyjson.products+"], Settings())
    assert publishing.publish_if_changed(Settings(), str(uuid4())) is None
    assert read("select distinct _batch_id from dim_products") == [(first.batch_id,)]
    run()
    assert read("select distinct _batch_id from dim_products") == [(second.batch_id,)]


def test_a_build_that_is_killed_between_two_marts_is_not_seen_until_the_next_has_ended(shop: LakeRoom) -> None:
    (first,) = shop.land("products")
    run()
    (second,) = shop.land("products", products=13)
    kill_at('"marts"."category_summary"')
    assert shop.rows("select max(_batch_id) from marts.fct_product_snapshots") == [(second.batch_id,)]
    assert shop.rows("select sum(product_count) from marts.category_summary") == [(12,)]
    assert publishing.publish_if_changed(Settings(), str(uuid4())) is None
    assert read("select count(*), max(_batch_id) from fct_product_snapshots") == [(12, first.batch_id)]
    run()
    assert read("select max(_batch_id) from fct_product_snapshots") == [(second.batch_id,)]
    assert read("select sum(product_count) from category_summary") == [(13,)]
    assert exported(shop) == [(13, second.batch_id)]


@pytest.mark.parametrize(
    "point",
    [
        "flows.processing.build:publish",
        "flows.warehouse.published_files:_write_content",
        "flows.warehouse.published_files:put_into_place",
        "flows.warehouse.published_files:publish_exports",
        "flows.warehouse.publishing:_record",
        "flows.warehouse.published_files:remove_superseded",
    ],
)
def test_after_publishing_was_killed_readers_see_one_moment_and_the_next_transform_publishes(
    shop: LakeRoom, point: str
) -> None:
    (first,) = shop.land("products")
    run()
    (second,) = shop.land("products", products=13)
    kill_at(point)
    before = read("select count(*), any_value(_batch_id) from dim_products")
    assert before in ([(12, first.batch_id)], [(13, second.batch_id)])
    assert read("select max(_batch_id) from fct_product_snapshots") == [before[0][1:]]
    # Nothing is pending.
    assert run()
    assert read("select count(*), any_value(_batch_id) from dim_products") == [(13, second.batch_id)]
    assert read("select max(_batch_id) from fct_product_snapshots") == [(second.batch_id,)]
    assert exported(shop) == [(13, second.batch_id)]
    assert len(publications()) == 2
    assert list(shop.warehouse.parent.glob("*.kept/*.new*")) == []


@pytest.fixture
def reader(shop: LakeRoom, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A dashboard that is opened thousands of times, once something is published."""
    shop.land("products")
    run()
    program = [sys.executable, "-m", "tests.support.reader", "2000", str(tmp_path / "stop")]
    process = subprocess.Popen(program, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_of_thousands_of_reads_during_builds_and_publications_none_fails_and_each_is_of_one_moment(
    shop: LakeRoom, reader: subprocess.Popen[str], tmp_path: Path
) -> None:
    with duckdb.connect(str(Settings().published_marts), read_only=True) as early:
        for products in range(13, 18):
            shop.land("products", products=products)
            run()
        # Who had it open before goes on with what was opened.
        assert early.sql("select count(*) from dim_products").fetchall() == [(12,)]
    (tmp_path / "stop").touch()
    output, _ = reader.communicate(timeout=250)
    assert reader.returncode == 0, output
    reads, moments, in_order = output.split()[-3:]
    assert int(reads) >= 2000
    assert int(moments) >= 2
    assert in_order == "True"


def test_a_publication_that_is_kept_can_be_put_back_and_stays_until_something_new_is_built(shop: LakeRoom) -> None:
    runs, batches = [], []
    for products in range(12, 16):
        batches += shop.land("products", products=products)
        runs.append(run())
    assert publications() == [(runs[3], True), (runs[2], True), (runs[1], True), (runs[0], False)]
    assert publishing.roll_back(Settings(), runs[1]).rolled_back
    assert read("select count(*), any_value(_batch_id) from dim_products") == [(13, batches[1].batch_id)]
    assert exported(shop) == [(13, batches[1].batch_id)]
    run()
    assert read("select count(*) from dim_products") == [(13,)]
    assert publishing.list_publications(Settings())[0].rolled_back
    publishing.roll_back(Settings(), runs[3])
    assert read("select count(*) from dim_products") == [(15,)]
    publishing.roll_back(Settings(), runs[1])
    shop.land("products", products=16)
    run()
    assert read("select count(*) from dim_products") == [(16,)]
    assert exported(shop)[0][0] == 16
    with pytest.raises(InvalidInputError, match=f"expected that of a kept publication .*{runs[1]}.*, got {runs[0]}"):
        publishing.roll_back(Settings(), runs[0])
    with pytest.raises(InvalidInputError, match="flow run, got 'yesterday'"):
        publishing.roll_back(Settings(), "yesterday")


def test_with_an_empty_name_nothing_is_published_and_dbt_writes_the_exports_itself(shop: LakeRoom) -> None:
    shop.patch.setenv("BATON_PUBLISHED_MARTS", "")
    (batch,) = shop.land("products")
    run()
    assert exported(shop) == [(12, batch.batch_id)]
    assert not shop.warehouse.with_name("marts.duckdb").exists()
    assert publications() == []
    with pytest.raises(InvalidInputError, match="BATON_PUBLISHED_MARTS"):
        publishing.publish(Settings(), str(uuid4()))
    shop.patch.delenv("BATON_PUBLISHED_MARTS")
    run_id = run()
    assert publications() == [(run_id, True)]
    assert read("select count(*) from dim_products") == [(12,)]


def test_an_export_that_is_selected_by_hand_is_written_into_its_place(shop: LakeRoom) -> None:
    shop.land("products")
    run()
    (batch,) = shop.land("products", products=13)
    dbt.run_dbt(["run", "--select", "source:dummyjson.products+"], Settings())
    assert exported(shop) == [(13, batch.batch_id)]


def test_a_file_that_cannot_be_written_is_named_and_the_next_transform_publishes(
    shop: LakeRoom, tmp_path: Path
) -> None:
    shop.land("products")
    (tmp_path / "blocked").touch()
    shop.patch.setenv("BATON_PUBLISHED_MARTS", str(tmp_path / "blocked" / "marts.duckdb"))
    state = transform(return_state=True)
    assert state.is_failed()
    assert "blocked/marts.duckdb: the marts could not be published" in str(state.message)
    assert shop.rows("select count(*) from ops.ledger") == [(1,)]
    (tmp_path / "blocked").unlink()
    run()
    assert read("select count(*) from dim_products") == [(12,)]


def test_a_mart_that_the_warehouse_no_longer_has_is_no_longer_published_and_a_view_is_a_table(shop: LakeRoom) -> None:
    shop.land("products", "users")
    run()
    with connect(Settings()) as connection:
        connection.execute("drop table marts.dim_users")
        connection.execute("create view marts.cheapest as select * from marts.dim_products order by price limit 3")
        connection.execute("insert into ops.mart_builds values ('by-hand', 'cheapest', now())")
        connection.execute("insert into ops.tested_builds values ('by-hand', now())")
    publishing.publish_if_changed(Settings(), str(uuid4()))
    assert read("select count(*) from cheapest") == [(3,)]
    assert read("select table_name from duckdb_tables() where table_name = 'dim_users'") == []
    assert read("select view_name from duckdb_views() where not internal") == []
