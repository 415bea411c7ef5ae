"""Base layer and marts over landed batches: what is loaded, once, and what leaves again."""

import duckdb
import pytest

from tests.dbt.conftest import PROJECT, Place, cart, day, product, user

PRODUCTS = "dummyjson.products"


def test_an_empty_landing_builds_every_model_empty(place: Place) -> None:
    place.clear(new=True)
    assert place.dbt("build").success
    tables = place.rows(
        "select table_schema || '.' || table_name from information_schema.tables "
        "where table_schema in ('base', 'staging', 'marts') and not ends_with(table_name, '__batches')"
    )
    models = [path for path in (PROJECT / "models").rglob("*.sql") if "exports" not in path.parts]
    assert len(tables) == len(models)
    assert [name for (name,) in tables if place.rows(f"select count(*) from {name}") != [(0,)]] == []


def test_one_landed_source_builds_while_the_others_stay_empty(place: Place) -> None:
    place.land(PRODUCTS, [product(1), product(2)], day(1))
    place.built()
    assert place.rows("select product_id from marts.dim_products order by all") == [(1,), (2,)]
    assert place.rows("select count(*) from marts.fct_cart_items join marts.dim_users using (user_id)") == [(0,)]


def test_a_record_is_kept_whole_at_its_position_in_the_batch(place: Place) -> None:
    batches = [place.land(PRODUCTS, [product(100 * n + i) for i in range(50)], day(n)) for n in (1, 2)]
    place.built()
    assert place.rows(
        "select _batch_id, _row_number, (record ->> 'id')::int, record ->> '$.reviews[0].reviewerEmail', _extracted_at "
        "from base.base_dummyjson__products order by 1, 2"
    ) == [
        (batch, i + 1, 100 * n + i, "PERSONAL@example.com", day(n))
        for n, batch in enumerate(batches, 1)
        for i in range(50)
    ]


def test_a_landed_batch_is_loaded_once_whatever_the_number_of_builds(place: Place) -> None:
    place.land(PRODUCTS, [product(1)], day(1))
    place.built()
    place.land(PRODUCTS, [product(1), product(2)], day(2))
    place.built()
    place.built()
    assert place.rows("select count(*) from base.base_dummyjson__products") == [(3,)]
    assert place.rows("select count(*) from marts.fct_product_snapshots") == [(3,)]


def test_only_files_of_missing_batches_are_opened(place: Place) -> None:
    first = place.land(PRODUCTS, [product(1)], day(1))
    place.built()
    for file in (place.landing / "dummyjson" / "products" / f"batch_id={first}").iterdir():
        file.write_bytes(b"this would stop whoever reads it")
    place.land(PRODUCTS, [product(2)], day(2))
    place.built()
    assert place.rows("select count(*) from base.base_dummyjson__products") == [(2,)]


def test_what_is_no_batch_is_passed_over(place: Place) -> None:
    folder = place.landing / "dummyjson" / "products" / "batch_id=not-an-id"
    folder.mkdir(parents=True)
    (folder / "records.jsonl.gz").write_bytes(b"no gzip")
    place.land(PRODUCTS, [product(1)], day(1))
    place.built()
    assert place.rows("select count(*) from base.base_dummyjson__products") == [(1,)]


def test_a_build_that_ended_after_the_base_layer_is_completed_by_the_next(place: Place) -> None:
    place.land(PRODUCTS, [product(1, price=1), product(2)], day(1))
    place.built()
    place.land(PRODUCTS, [product(1, price=2)], day(2))
    assert place.dbt("run", "--select", "path:models/base").success
    assert place.rows("select count(*) from marts.dim_products") == [(2,)]
    place.built()
    assert place.rows("select product_id, price from marts.dim_products") == [(1, 2)]
    assert place.rows("select count(*) from marts.fct_product_snapshots") == [(3,)]
    assert place.rows("select product_id, price from marts.dim_products_history where is_current") == [(1, 2)]


MARTS = {
    "dim_products": "product_id, price, _batch_id",
    "dim_products_history": "*",
    "fct_product_snapshots": "*",
    "category_summary": "*",
    "fct_cart_items": "*",
    "dim_users": "*",
}


def marts(place: Place) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the marts, in an order of its own."""
    return {name: place.rows(f"select {columns} from marts.{name} order by all") for name, columns in MARTS.items()}


def test_a_batch_in_quarantine_leaves_every_mart_and_comes_back_when_it_is_replayed(place: Place) -> None:
    place.land(PRODUCTS, [product(1, price=1), product(2)], day(1))
    place.built()
    without = marts(place)
    late = place.land(PRODUCTS, [product(1, price=9), product(3)], day(2))
    place.built()
    whole = marts(place)
    place.quarantine(PRODUCTS, late)
    place.built()
    assert marts(place) == without != whole
    assert place.rows(f"select count(*) from base.base_dummyjson__products where _batch_id = '{late}'") == [(0,)]
    place.replay(PRODUCTS, late)
    place.built()
    assert marts(place) == whole


def test_a_batch_quarantined_in_the_middle_leaves_the_history_as_if_it_had_never_come(place: Place) -> None:
    days = [[product(1, price=1)], [product(1, price=2), product(2)], [product(1, price=1)], [product(1, price=4)]]
    batches = [place.land(PRODUCTS, records, day(n)) for n, records in enumerate(days, 1)]
    place.built()
    assert len(place.rows("from marts.dim_products_history")) == 5
    place.quarantine(PRODUCTS, batches[1])
    place.built()
    assert place.rows("select price, valid_from, valid_to from marts.dim_products_history order by all") == [
        (1, day(1), day(4)),
        (4, day(4), None),
    ]


def test_a_full_refresh_gives_what_was_there(place: Place) -> None:
    for n in (1, 2, 3):
        place.land(PRODUCTS, [product(1, price=n), product(n + 1)], day(n))
    place.built()
    before = marts(place)
    place.built("--full-refresh", *place.selection())
    assert marts(place) == before
    assert len(before["dim_products_history"]) == 6


def test_a_batch_pruned_from_the_landing_stays_in_the_warehouse(place: Place) -> None:
    first = place.land(PRODUCTS, [product(1, price=1)], day(1))
    place.built()
    folder = place.landing / "dummyjson" / "products" / f"batch_id={first}"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    place.land(PRODUCTS, [product(1, price=2)], day(2))
    place.built()
    assert place.rows("select price, is_current from marts.dim_products_history order by all") == [
        (1, False),
        (2, True),
    ]


def test_a_cart_whose_product_has_gone_keeps_its_item(place: Place) -> None:
    place.land(PRODUCTS, [product(1), product(2)], day(1))
    place.land(PRODUCTS, [product(2)], day(2))
    place.land("dummyjson.users", [user(7)], day(2))
    place.land("dummyjson.carts", [cart(1, 7, (1, 3), (2, 1))], day(2))
    built = place.built()
    assert built.warnings == []
    assert place.rows(
        "select items.product_id, quantity, discounted_total, products.product_id from marts.fct_cart_items as items "
        "left join marts.dim_products as products using (product_id) order by all"
    ) == [(1, 3, 27, None), (2, 1, 9, 2)]


def test_a_cart_that_came_before_its_user_and_product_is_a_warning(place: Place) -> None:
    place.land("dummyjson.carts", [cart(1, 7, (1, 3))], day(1))
    built = place.built()
    warned = {name for name, status in built.statuses.items() if status == "warn"}
    assert {name.split("__")[0] for name in warned} == {
        "relationships_fct_cart_items_product_id",
        "relationships_fct_cart_items_user_id",
    }


def test_category_summary_has_the_last_batch_of_each_day(place: Place) -> None:
    place.land(PRODUCTS, [product(1, category="a", price=1, stock=0), product(2, category="a", price=2)], day(1, 23))
    place.built()
    # the earlier batch of the same day comes later, and changes nothing
    place.land(PRODUCTS, [product(1, category="b")], day(1, 5))
    place.land(PRODUCTS, [product(1, category="a", price=5, stock=2)], day(2))
    place.built()
    assert place.rows(
        "select summary_date::text, category, product_count, out_of_stock_count, average_price, stock, stock_value "
        "from marts.category_summary order by all"
    ) == [("2026-01-01", "a", 2, 1, 1.5, 2, 4), ("2026-01-02", "a", 1, 0, 5, 2, 10)]


def test_the_project_builds_in_memory_unchanged(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.clear(new=True)
    place.land(PRODUCTS, [product(1)], day(1))
    monkeypatch.setenv("BATON_EXPORTS", str(place.warehouse.parent))
    built = place.built("--target", "memory")
    assert built.statuses["dim_products"] == "success"
    assert not place.warehouse.exists()
    with duckdb.connect() as connection:
        file = place.warehouse.parent / "dim_products.parquet"
        assert connection.sql(f"select product_id from '{file}'").fetchall() == [(1,)]
