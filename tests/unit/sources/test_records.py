"""Records are cut out of an answer as they were sent; what DuckDB could not load is refused where it is read."""

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.sources.reader.records import MAX_DEPTH, MAX_RECORD_BYTES, Fields, depth, split

AS_SENT = [
    b'{"id":12345678901234567890.12,"price":1.10,"tiny":1e-30}',
    b'{"id":1,"id":2,"b":0,"a":1}',
    b'{"id":1,"price":1e400,"long":' + b"9" * 400 + b"}",
    b'{"":5,"a.b":[null,true,{}],"text":"caf\\u00e9 \xf0\x9f\x8e\x89 \\ud83c\\udf89 \\\\ud83c"}',
]


@pytest.mark.parametrize("record", AS_SENT)
def test_a_record_is_byte_for_byte_what_was_sent(record: bytes) -> None:
    (found,) = split(b'{"rows": [' + record + b"]}", "rows").records
    assert bytes(found) == record


def test_white_space_goes_where_a_record_would_be_more_than_a_line() -> None:
    body = b'\xef\xbb\xbf\n{\r\n "data": {"items": [\n  {"a b": 1.10,\n "c": "x  y"},\n {"a b": 2}\n]}}\n'
    assert [bytes(record) for record in split(body, "data.items").records] == [b'{"a b":1.10,"c":"x  y"}', b'{"a b":2}']


def test_half_a_surrogate_pair_becomes_the_replacement_character_and_a_pair_stays() -> None:
    body = rb'[{"\ud83c": "a \uDF89 b", "pair": "\ud83c\udf89", "text": "\\ud83c", "both": "\ud83c\ud83c\udf89"}]'
    (record,) = split(body, "$").records
    assert bytes(record) == (
        rb'{"\ufffd": "a \ufffd b", "pair": "\ud83c\udf89", "text": "\\ud83c", "both": "\ufffd\ud83c\udf89"}'
    )


REFUSED = {
    "no JSON": (b'[{"a": 1}, {"b"', "expected JSON, got what does not parse"),
    "NaN": (b'[{"a": NaN}]', "expected JSON"),
    "a trailing comma": (b'[{"a": 1,}]', "trailing comma"),
    "latin-1": (b'[{"a": "\xe9"}]', "expected JSON in UTF-8, got bytes that are not"),
    "a number": (b'[{"a": 1}, 2]', "expected an object at position 1, got 2"),
    "a list in the list": (b'[[{"a": 1}]]', "expected an object at position 0, got "),
    "null": (b"null", "expected a list, got None"),
    "an object": (b'{"a": []}', r"expected a list, got an object with the keys \['a'\]"),
    "deep": (b'[{"a":' * 5000 + b"1" + b"}]" * 5000, "levels"),
    "deep, one record": (b'[{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]", "levels"),
    "too long": (b'[{"a":"' + b"x" * MAX_RECORD_BYTES + b'"}]', "at most 16,777,216 bytes, which DuckDB reads"),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_list_of_objects_that_duckdb_reads_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(body, "$")


def loaded(lines: list[bytes], folder: Path) -> list[str]:
    """What the base models would read."""
    file = folder / "records.jsonl.gz"
    file.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines)))
    with duckdb.connect() as connection:
        rows = connection.sql(f"select json::text from read_ndjson_objects('{file}')").fetchall()
    return [text for (text,) in rows]


def test_the_longest_record_that_is_not_refused_can_be_loaded(tmp_path: Path) -> None:
    record = b'{"a":"' + b"x" * (MAX_RECORD_BYTES - 8) + b'"}'
    assert len(record) == MAX_RECORD_BYTES
    (found,) = split(b"[" + record + b"]", "$").records
    assert [len(text) for text in loaded([b"{}", bytes(found), b"{}"], tmp_path)] == [2, MAX_RECORD_BYTES, 2]


def test_the_deepest_record_that_is_not_refused_can_be_loaded(tmp_path: Path) -> None:
    for levels in (100, 800):
        record = b'{"a":' * levels + b"1" + b"}" * levels
        (found,) = split(b"[" + record + b"]", "$").records
        assert loaded([bytes(found)], tmp_path) == [record.decode()]


def test_brackets_in_texts_are_no_levels() -> None:
    assert depth(b'{"a": "' + b"[{" * 2 * MAX_DEPTH + rb'\"[", "b": [1]}') == 2
    assert depth(b"[" * (MAX_DEPTH + 5) + b"]" * (MAX_DEPTH + 5)) == MAX_DEPTH + 5


texts = st.text(st.characters(exclude_categories=()), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.lists(st.dictionaries(texts, values, max_size=4), max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects, st.sampled_from([None, 1]), st.booleans())
def test_whatever_json_is_sent_is_loaded_as_it_was_sent(
    tmp_path: Path, records: list[dict[str, Any]], indent: int | None, escaped: bool
) -> None:
    body = json.dumps(records, ensure_ascii=escaped, indent=indent).encode("utf-8", "replace")
    lines = [bytes(record) for record in split(body, "$").records]
    assert loaded(lines, tmp_path) == [line.decode() for line in lines]
    assert len(lines) == len(records)
    for line, sent in zip(lines, json.loads(body), strict=True):
        assert json.loads(line) == whole(sent)


def whole(value: Any) -> Any:
    """The value with every half of a surrogate pair replaced."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {whole(key): whole(inner) for key, inner in value.items()}
        case list():
            return [whole(inner) for inner in value]
    return value


def test_keys_and_cursors_are_read_out_of_records() -> None:
    array = split(b'[{"a b": 1, "c": "x", "t": {"at": 5}}, {"a b": 2, "c": "\\u00e9", "t": {"at": "y"}}]', "$").array
    assert Fields(["a b"], int | str).read(array) == [1, 2]
    assert Fields(["a b", "c"], int | str).read(array) == [(1, "x"), (2, "é")]
    assert Fields(["t.at"], int | str, nested=True).read(array) == [5, "y"]
    for lacking in (b'[{"a b": null}]', b'[{"a b": 1.5}]', b'[{"a b": true}]', b"[{}]", b'[{"t": {}}]'):
        with pytest.raises(ValueError, match=r"\$\[0\]"):
            Fields(["a b"], int | str).read(split(lacking, "$").array)
