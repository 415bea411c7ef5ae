"""Batches that are not as they should be: what the build says of each. None passes silently."""

import gzip
import json

import pytest

from tests.dbt.conftest import Built, Place, Record, day, product, user
from tests.dbt.test_batches import PRODUCTS

SOUND = "products_batches_are_sound"
USUAL = "products_batches_are_as_usual"


def stopped(place: Place, records: list[Record], rows: int | None = None) -> str:
    """Lands a batch after a good one and builds; what the error said, with the marts as they were before."""
    place.land(PRODUCTS, [product(n) for n in range(1, 31)], day(1))
    batch_id = place.land(PRODUCTS, records, day(2), rows)
    built = place.build()
    assert not built.success
    assert built.statuses["dim_products"] == built.statuses["dim_products_history"] == "skipped"
    assert list(built.messages) == [SOUND]
    assert f"{PRODUCTS} batch {batch_id}" in built.messages[SOUND]
    return built.messages[SOUND]


def warned(place: Place, records: list[Record]) -> tuple[Built, list[str]]:
    """Lands a batch and builds it; what was said of it by warnings, without the batch's name."""
    batch_id = place.land(PRODUCTS, records, day(5))
    built = place.built()
    said = [warning for warning in built.warnings if batch_id in warning]
    assert (built.statuses[USUAL] == "warn") == bool(said)
    return built, [warning.partition(f"{PRODUCTS} batch {batch_id}: ")[2] for warning in said]


def test_every_used_key_of_another_type_stops_the_build_by_name(place: Place) -> None:
    changed = {
        "price": "10.50",
        "stock": 1.5,
        "title": 12,
        "rating": {"mean": 4.5, "count": 3},
        "images": "https://img.example.com/1.webp",
        "reviews": ["fine"],
    }
    message = stopped(place, [product(n, **changed) for n in range(1, 31)])
    assert [line.partition(": key ")[2] for line in message.splitlines() if ": key " in line] == [
        "images is text, expected what holds images[]",
        "price is text, expected number",
        "rating is object, expected number",
        'rating is {"mean":4.5,"count":3}, expected decimal(4,2) (values like it: 30)',
        "reviews[] is text, expected what holds reviews[].date",
        "reviews[] is text, expected what holds reviews[].rating",
        "stock is 1.5, expected bigint (values like it: 30)",
        "stock is number, expected integer",
        "title is integer, expected text",
    ]


def test_a_used_key_of_another_type_in_one_record_stops_the_build_by_name(place: Place) -> None:
    records = [product(n) for n in range(1, 30)] + [product(30, price="10.50")]
    assert "key price is of several types, expected number" in stopped(place, records)


def test_an_id_that_is_there_twice_stops_the_build_and_is_named(place: Place) -> None:
    records = [product(n) for n in range(1, 31)] + [product(17)]
    assert "ids that more than one record has, or null if a record has none: [17]" in stopped(place, records)


def test_a_record_without_id_stops_the_build(place: Place) -> None:
    records = [product(n) for n in range(1, 31)] + [product(31, id=None)]
    assert "null if a record has none: [NULL]" in stopped(place, records)


def test_a_batch_that_holds_other_rows_than_its_manifest_says_stops_the_build(place: Place) -> None:
    records = [product(n) for n in range(1, 31)]
    assert "30 rows were loaded, its manifest says 31" in stopped(place, records, rows=31)


def test_a_manifest_with_rows_and_a_file_with_none_stops_the_build(place: Place) -> None:
    assert "0 rows were loaded, its manifest says 31" in stopped(place, [], rows=31)


def test_a_batch_with_ten_times_fewer_rows_stops_the_build_until_it_is_accepted(place: Place) -> None:
    message = stopped(place, [product(1), product(2), product(3)])
    assert "3 rows after 30 in the batch before; quarantine it, or accept it" in message
    assert place.rows("select count(*) from marts.dim_products") == [(0,)]
    ((small,),) = place.rows("select _batch_id from base.base_dummyjson__products_batches where loaded_rows = 3")
    place.built("--vars", json.dumps({"accepted_batches": [small]}), *place.selection())
    assert place.rows("select count(*) from marts.dim_products") == [(3,)]
    assert place.rows("select count(*) from marts.dim_products_history where not is_current") == [(27,)]


def test_an_empty_batch_after_a_full_one_stops_the_build_and_once_accepted_closes_every_product(place: Place) -> None:
    assert "0 rows after 30 in the batch before" in stopped(place, [])
    ((empty,),) = place.rows("select _batch_id from base.base_dummyjson__products_batches where loaded_rows = 0")
    place.built("--vars", json.dumps({"accepted_batches": [empty]}), *place.selection())
    assert place.rows("select count(*) from marts.dim_products") == [(0,)]
    assert place.rows("select distinct valid_to from marts.dim_products_history") == [(day(2),)]


def test_a_first_batch_without_rows_is_a_warning(place: Place) -> None:
    assert warned(place, [])[1] == ["0 rows after none in the batch before"]


def test_a_batch_with_half_as_many_rows_is_a_warning_of_that_load_only(place: Place) -> None:
    place.land(PRODUCTS, [product(n) for n in range(1, 31)], day(1))
    assert warned(place, [product(n) for n in range(1, 11)])[1] == ["10 rows after 30 in the batch before"]
    place.land(PRODUCTS, [product(n) for n in range(1, 11)], day(6))
    assert place.built().warnings == []


def test_a_missing_key_is_a_warning_that_names_it(place: Place) -> None:
    records = [product(n, brand=None, dimensions={"width": 1, "depth": 1}) for n in range(1, 11)]
    assert warned(place, records)[1] == ["2 keys are missing in every record: brand, dimensions.height"]


def test_a_missing_key_that_the_marts_cannot_do_without_stops_the_build_by_name(place: Place) -> None:
    place.land(PRODUCTS, [product(n, price=None) for n in range(1, 11)], day(1))
    built = place.build()
    assert not built.success
    assert any("key price is missing in every record" in warning for warning in built.warnings)
    assert "NOT NULL constraint failed: dim_products" in built.messages["dim_products"]
    assert "price" in built.messages["dim_products"]


def test_a_new_key_is_a_warning_that_names_it(place: Place) -> None:
    records = [product(n, colour="red", labels=[{"text": "new"}]) for n in range(1, 11)]
    built, said = warned(place, records)
    assert said == ["2 keys are new: colour (text), labels[].text (text)"]
    assert built.success


def test_the_quirks_of_the_api_are_no_warning(place: Place) -> None:
    records = [
        product(1, brand=None, price=3, discountPercentage=0, reviews=[], tags=[]),
        product(2, title="Product 1", images=[]),
    ]
    assert warned(place, records)[1] == []
    assert place.rows("select brand, price, review_count from marts.dim_products order by product_id") == [
        (None, 3, 0),
        ("Dunmere", 20.5, 1),
    ]


def test_lists_that_are_all_empty_are_no_missing_keys(place: Place) -> None:
    assert warned(place, [product(1, reviews=[], tags=[], images=[])])[1] == []


def test_text_in_every_encoding_arrives_as_it_was(place: Place) -> None:
    traps = {
        1: "emoji 🦊👩‍👩‍👧 and flags 🇨🇭",
        2: "עברית \u202e العربية \u202c",
        3: "null \x00 inside, tab \t, line\nbreak, return\r",
        4: "quotes ' \" \\ \\u0041 {{ jinja }} %s ; drop table marts.dim_products; --",
        5: "e\u0301 and é, Ω, ß, İ, \ufeffbom, \u2028 line separator",
        6: "",
    }
    records = [product(n, title=text, description="x" * 1_000_000) for n, text in traps.items()]
    assert warned(place, records)[1] == []
    assert dict(place.rows("select product_id, product_title from marts.dim_products")) == traps
    assert place.rows("select distinct length(record ->> 'description') from base.base_dummyjson__products") == [
        (1_000_000,)
    ]
    file = place.warehouse.parent / "dim_products.parquet"
    assert dict(place.rows(f"select product_id, product_title from '{file}'")) == traps


def test_a_damaged_file_stops_the_build_and_is_named(place: Place) -> None:
    batch_id = place.land(PRODUCTS, [product(n) for n in range(1, 300)], day(1))
    file = place.landing / "dummyjson" / "products" / f"batch_id={batch_id}" / "records.jsonl.gz"
    file.write_bytes(file.read_bytes()[:500])
    built = place.build()
    assert not built.success
    assert batch_id in built.messages["base_dummyjson__products"] + built.messages.get(SOUND, "")
    assert place.rows("select count(*) from marts.dim_products") == [(0,)]


def test_a_line_that_is_no_json_stops_the_build_and_its_file_is_named(place: Place) -> None:
    batch_id = place.land(PRODUCTS, [product(1)], day(1))
    file = place.landing / "dummyjson" / "products" / f"batch_id={batch_id}" / "records.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"id": 1}\n{"id": \n'))
    built = place.build()
    assert not built.success
    assert batch_id in built.messages["base_dummyjson__products"]


def test_a_price_below_nothing_stops_the_build_before_the_file_is_written(place: Place) -> None:
    place.land(PRODUCTS, [product(1, price=-1)], day(1))
    built = place.build()
    assert list(built.messages) == ["accepted_range_dim_products_0__price"]
    assert built.statuses["export_dim_products"] == "skipped"


def test_an_availability_that_nobody_knows_is_a_warning(place: Place) -> None:
    place.land(PRODUCTS, [product(1, availabilityStatus="On the Moon")], day(1))
    built = place.built()
    assert [name for name, status in built.statuses.items() if status == "warn"] == [
        "accepted_values_dim_products_availability_status__In_Stock__Low_Stock__Out_of_Stock"
    ]


def test_a_key_that_is_null_in_every_record_is_a_warning_as_a_missing_one_is(place: Place) -> None:
    records = [product(n) | {"rating": None, "stock": None, "meta": None} for n in range(1, 11)]
    assert warned(place, records)[1] == [
        "2 keys are null in every record: rating, stock",
        "4 keys are missing in every record: meta.barcode, meta.createdAt, meta.qrCode, meta.updatedAt",
    ]


def test_a_key_that_is_null_in_some_records_is_no_warning(place: Place) -> None:
    assert warned(place, [product(1) | {"rating": None}, product(2)])[1] == []


def test_three_thousand_new_keys_are_one_warning_that_shows_a_few(place: Place) -> None:
    records = [product(n, **{f"dynamic_{n}_{i}": i for i in range(300)}) for n in range(1, 11)]
    (said,) = warned(place, records)[1]
    assert said.startswith("3000 keys are new: dynamic_10_0 (integer), ")
    assert said.endswith(" and 2995 more")
    assert len(said) < 250


@pytest.mark.parametrize(
    "key", ["company.department", "tags[0]", "", "[]", 'a"b', "back\\slash", "*", "$", "/", "é", " "]
)
def test_a_key_is_only_that_key_whatever_its_name_holds(place: Place, key: str) -> None:
    place.land("dummyjson.users", [user(n) for n in range(1, 4)], day(1))
    place.land("dummyjson.users", [user(n) | {key: 7} for n in range(1, 4)], day(2))
    assert said_of_users(place) == [f"key {shown(key)} (integer) is new"]
    assert place.rows("select distinct department from marts.dim_users") == [("Sales",)]


def said_of_users(place: Place) -> list[str]:
    """Builds; the warnings about the users' batches."""
    warnings = place.built().warnings
    return [warning.partition(": ")[2] for warning in warnings if warning.startswith("dummyjson.users batch ")]


def shown(key: str) -> str:
    """A key as messages write it: in quotes where it would be read as a path."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return key if key and not set(key) & {*'."[]'} else f'"{escaped}"'


def test_a_key_with_a_dot_does_not_stand_for_the_path_that_it_looks_like(place: Place) -> None:
    users = [user(n) | {"company.department": "Sales"} for n in range(1, 4)]
    for record in users:
        record["company"] = {key: value for key, value in record["company"].items() if key != "department"}
    place.land("dummyjson.users", users, day(1))
    assert said_of_users(place) == [
        'key "company.department" (text) is new',
        "key company.department is missing in every record",
    ]


def test_an_object_where_a_list_is_expected_stops_the_build(place: Place) -> None:
    message = stopped(place, [product(n, images={"first": "https://img.example.com/1.webp"}) for n in range(1, 31)])
    assert "key images is object, expected what holds images[]" in message


def test_a_record_that_is_no_object_stops_the_build(place: Place) -> None:
    batch_id = place.land_lines(PRODUCTS, ["5", '"text"'], day(1))
    assert f"{PRODUCTS} batch {batch_id}: a record is of several types" in place.build().messages[SOUND]
