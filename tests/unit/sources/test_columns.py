"""Types follow from what was seen, and where values differ there is none."""

import pytest

from flows.sources.reader.columns import Column, columns_of

TYPES = [
    ("1", "bigint"),
    ("18446744073709551616", "hugeint"),
    ("1.10", "decimal(18,2)"),
    ("12345678901234567890.123", "decimal(23,3)"),
    ("1e-30", "decimal(30,30)"),
    ("1e40", "double"),
    ('"2026-01-01"', "date"),
    ('"2026-01-01T00:00:00Z"', "timestamptz"),
    ('"2026-01-01 00:00:00.5"', "timestamp"),
    ('"SO-1"', "text"),
    ("true", "boolean"),
    ("null", None),
]


@pytest.mark.parametrize(("value", "data_type"), TYPES)
def test_a_value_has_the_type_that_loses_nothing(value: str, data_type: str | None) -> None:
    assert columns_of([b'{"x": null}', b'{"x": ' + value.encode() + b"}"]) == [Column("x", data_type)]


def test_values_of_several_kinds_have_no_type_but_whole_and_decimal_numbers_are_decimals() -> None:
    assert columns_of([b'{"x": 1, "y": 1}', b'{"x": 1.5, "y": "1"}']) == [
        Column("x", "decimal(18,2)"),
        Column("y", None),
    ]
    assert columns_of([b'{"x": true}', b'{"x": 1}']) == [Column("x", None)]
    assert columns_of([b'{"x": "2026-01-01T00:00:00Z"}', b'{"x": "2026-01-01T00:00:00"}']) == [Column("x", "text")]


def test_keys_of_objects_and_of_the_items_of_lists_are_named_by_their_path() -> None:
    record = b'{"a": {"b": 1, "c.d": {"e[]": "x"}}, "tags": ["t"], "rows": [{"n": 1}, {"m": true}], "": 0}'
    assert columns_of([record]) == [
        Column("a.b", "bigint"),
        Column('a."c.d"."e[]"', "text"),
        Column("tags[]", "text"),
        Column("rows[].n", "bigint"),
        Column("rows[].m", "boolean"),
        Column('""', "bigint"),
    ]
