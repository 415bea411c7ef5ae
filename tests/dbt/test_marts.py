"""What readers get: no personal data, whole files, every column described, five questions answered."""

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import duckdb
import pytest

from stack.sample_api.data import FIRST_DAY, Entity, Shop
from tests.dbt.conftest import PROJECT, Place, cart, day, product, user
from tests.dbt.test_batches import PRODUCTS


@pytest.fixture
def shop(place: Place) -> Place:
    """Two days of a small shop, built; once a session, since no test changes more of it than an export."""
    if place.bring_back("shop"):
        return place
    place.land("dummyjson.users", [user(n) for n in (1, 2, 3)], day(1))
    place.land(PRODUCTS, [product(n, price=10 * n) for n in range(1, 7)], day(1))
    place.land("dummyjson.carts", [cart(1, 1, (1, 2))], day(1))
    place.land(
        PRODUCTS,
        [product(1, price=12), product(2, price=20, stock=0), *(product(n, price=10 * n) for n in (3, 4, 5, 7))],
        day(2),
    )
    place.land("dummyjson.carts", [cart(1, 1, (1, 2), (2, 1)), cart(2, 2, (2, 5), (6, 1)), cart(3, 1, (3, 1))], day(2))
    place.built()
    place.keep("shop")
    return place


def test_five_days_of_the_sample_shop_need_no_warning_and_their_carts_find_every_product_and_user(place: Place) -> None:
    for number in range(5):
        shop = Shop(FIRST_DAY + timedelta(days=number), products=60, carts=20, users=30)
        for entity in get_args(Entity):
            records = [shop.record(entity, record_id) for record_id in shop.ids(entity)]
            place.land(f"dummyjson.{entity}", records, day(number + 1))
    assert place.built().warnings == []
    assert place.rows("select count(*) filter (is_current), count(*) > 80 from marts.dim_products_history") == [
        (60, True)
    ]
    ((items, found, value, total),) = place.rows(
        "select count(*), count(dim_products.product_id + dim_users.user_id), sum(discounted_total), (select "
        "sum(discounted_total) from staging.stg_dummyjson__carts where _batch_id = max(fct_cart_items._batch_id)) "
        "from marts.fct_cart_items left join marts.dim_products using (product_id) "
        "left join marts.dim_users using (user_id)"
    )
    assert items == found == sum(len(shop.record("carts", number)["products"]) for number in shop.ids("carts"))
    assert value == total


def columns(place: Place, schemas: str) -> Iterator[tuple[str, str]]:
    """Every table and column of the schemas."""
    yield from place.rows(
        "select table_schema || '.' || table_name, column_name from information_schema.columns "
        f"where table_schema in ({schemas}) and table_name not like '%\\_\\_batches' escape '\\'"
    )


def test_no_personal_data_gets_past_the_base_layer(shop: Place) -> None:
    assert shop.rows("select count(*) from base.base_dummyjson__users where record::text like '%PERSONAL%'") == [(3,)]
    held = [
        f"{table}.{column}"
        for table, column in columns(shop, "'staging', 'marts'")
        if shop.rows(f"select 1 from {table} where \"{column}\"::text like '%PERSONAL%' limit 1")
    ]
    assert held == []
    assert shop.rows("select count(*) from marts.dim_users") == [(3,)]


def test_the_files_hold_what_the_marts_hold(shop: Place) -> None:
    for name in ("dim_products", "fct_cart_items"):
        file = shop.warehouse.parent / f"{name}.parquet"
        assert shop.rows(f"select * from '{file}' order by all") == shop.rows(
            f"select * from marts.{name} order by all"
        )


def test_an_empty_mart_is_an_empty_file_with_the_same_columns(place: Place) -> None:
    place.clear(new=True)
    assert place.dbt("build").success
    file = place.warehouse.parent / "dim_products.parquet"
    assert place.rows(f"from '{file}'") == []
    described = "select column_name, column_type from (describe from {})"
    assert place.rows(described.format(f"'{file}'")) == place.rows(described.format("marts.dim_products"))


def test_a_reader_of_the_files_never_sees_a_build(shop: Place) -> None:
    file = shop.warehouse.parent / "dim_products.parquet"
    stop, reads, problems = threading.Event(), [0], []

    def read() -> None:
        while not stop.is_set():
            try:
                with duckdb.connect() as connection:
                    ((rows,),) = connection.sql(f"select count(*) from '{file}'").fetchall()
                assert rows == 6
                reads[0] += 1
            except Exception as problem:
                problems.append(problem)

    reader = threading.Thread(target=read)
    reader.start()
    before = file.stat().st_mtime_ns  # An inode may be taken again.
    for _ in range(3):
        assert shop.dbt("run", "--select", "export_dim_products").success
    stop.set()
    reader.join()
    assert problems == []
    assert reads[0] > 3
    assert file.stat().st_mtime_ns > before
    assert list(file.parent.glob("*tmp*")) == []


def test_every_model_and_column_is_described(place: Place) -> None:
    place.dbt("parse")
    manifest = json.loads(Path(os.environ["DBT_TARGET_PATH"], "manifest.json").read_text())
    models = {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    sources = {node["name"]: node for node in manifest["sources"].values()}
    described = {
        (node["name"], column["name"])
        for node in [*models.values(), *sources.values()]
        for column in node["columns"].values()
        if column["description"]
    }
    there = {(table.split(".")[1], column) for table, column in columns(place, "'base', 'staging', 'marts'")}
    assert len(there) > 150
    assert there - described == set()
    assert {name for name, _ in described} >= {*models, *sources}
    assert [name for name, node in (models | sources).items() if not node["description"]] == []
    assert {node["name"] for node in models.values() if node["contract"]["enforced"]} == {
        table.split(".")[1] for table, _ in columns(place, "'marts'")
    }


def test_unit_tests_of_the_models_pass(place: Place) -> None:
    result = place.dbt("test", "--select", "test_type:unit")
    assert result.success, result.messages
    assert len(result.statuses) >= 8


@pytest.mark.parametrize(("hours", "status"), [(1, "pass"), (30, "warn"), (60, "error")])
def test_freshness_speaks_of_when_the_last_batch_was_read(place: Place, hours: int, status: str) -> None:
    place.land(PRODUCTS, [product(1)], datetime.now(UTC) - timedelta(hours=hours))
    place.dbt("run", "--select", "base_dummyjson__products_manifests")
    built = place.dbt("source", "freshness", "--select", f"source:{PRODUCTS}")
    assert built.statuses == {"products": status}


QUESTIONS = {
    "price_changes": [(1, "Product 1", 10, 12, day(2))],
    "best_selling_categories": [("category-2", 6, 54), ("category-1", 2, 18), ("category-0", 2, 18)],
    "out_of_stock_in_open_carts": [(2, "Product 2", 2, 6)],
    "changes_since_yesterday": [
        (1, "Product 1", "changed", 10, 12),
        (6, "Product 6", "gone", 60, None),
        (7, "Product 7", "new", None, 70),
    ],
    "customers_by_spend": [(2, "male", "Sales", 1, 54), (1, "female", "Sales", 2, 36)],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_analysts_question_is_answered(shop: Place, question: str) -> None:
    sql = (PROJECT / "analyses" / f"{question}.sql").read_text()
    assert shop.dbt("compile", "--select", question).success
    compiled = Path(os.environ["DBT_TARGET_PATH"], "compiled", "baton", "analyses", f"{question}.sql").read_text()
    assert shop.rows(compiled) == QUESTIONS[question]
    assert sql in (PROJECT / "README.md").read_text()
