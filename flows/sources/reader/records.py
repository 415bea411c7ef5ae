"""Splits an answer into its records without parsing them: what lands is what was sent, digit for digit.

msgspec checks the JSON and finds where each record begins and ends. Only white space between tokens goes, so that a
record is one line, and half of a surrogate pair, which is no text, becomes U+FFFD: DuckDB would refuse all of the file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import DecodeError, Raw

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""DuckDB's `maximum_object_size`, by which the base models read: what is longer would land and never load."""
MAX_DEPTH = 1000
"""Levels of lists and objects in a record. Python before 3.12 stops a little sooner."""

OPEN = ord("{")

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_HALF_PAIRS = re.compile(
    rb"(?<!\\)((?:\\\\)*)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class Body:
    """A JSON text that is read at a few paths; every object on the way is decoded once, its values are not."""

    def __init__(self, text: Raw) -> None:
        self.text = text
        self._objects: dict[tuple[str, ...], dict[str, Raw]] = {}

    def at(self, path: str) -> Raw | None:
        """The value at a dotted path, as it was sent; None if it leads nowhere."""
        names = tuple(path.split("."))
        text: Raw | None = self.text
        for position, name in enumerate(names):
            text = self._object(names[:position], text).get(name)
            if text is None:
                return None
        return text

    def value(self, path: str) -> Any:
        """The number, text, truth value or null at a path; None if it leads nowhere. ValueError for anything else."""
        found = self.at(path)
        if found is None:
            return None
        value = msgspec.json.decode(found)
        if not isinstance(value, str | int | float | bool | None):
            raise ValueError(f"expected a number or a text under {path!r}, got {kind(found)}")
        return value

    def _object(self, path: tuple[str, ...], text: Raw | None) -> dict[str, Raw]:
        if path not in self._objects:
            try:
                self._objects[path] = _OBJECT.decode(text or b"{}")
            except msgspec.ValidationError:
                self._objects[path] = {}
        return self._objects[path]


@dataclass(frozen=True)
class Split:
    """A list of records: each as it was sent, and all of them as one JSON array."""

    records: Sequence[Raw]
    array: Raw
    body: Body
    """What they were in."""


def split(body: bytes, selector: str) -> Split:
    """The records of the list at a path, `$` for the body itself; ValueError saying what is wrong with them."""
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        if not body.isascii():
            body.decode("utf-8")
        return _split(Body(Raw(one_line(body))), selector)
    except DecodeError as error:
        if (repaired := _HALF_PAIRS.sub(_replacement, body)) != body:
            return split(repaired, selector)
        raise ValueError(f"expected JSON, got what does not parse ({error})") from None
    except RecursionError:
        raise ValueError(f"expected JSON of at most {MAX_DEPTH} levels, got more") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"expected JSON in UTF-8, got bytes that are not ({error.reason} at {error.start})") from None


def _split(body: Body, selector: str) -> Split:
    array = body.text if selector == "$" else body.at(selector)
    if array is None:
        raise ValueError(f"expected a list under {selector!r}, got {kind(body.text)}")
    try:
        records = _LIST.decode(array)
    except msgspec.ValidationError:
        place = "" if selector == "$" else f" under {selector!r}"
        raise ValueError(f"expected a list{place}, got {kind(array)}") from None
    for position, record in enumerate(records):
        _check(record, position)
    return Split(records, array, body)


def one_line(body: bytes) -> bytes:
    """The JSON without the white space between its tokens, if it has line breaks."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body


def _replacement(match: re.Match[bytes]) -> bytes:
    return match[1] + (match[2] or rb"\ufffd")


def _check(record: Raw, position: int) -> None:
    view = memoryview(record)
    if view[0] != OPEN:
        raise ValueError(
            f"expected an object at position {position}, got {bytes(view[:80]).decode('utf-8', 'replace')}"
        )
    if len(view) > MAX_RECORD_BYTES:
        raise ValueError(
            f"expected records of at most {MAX_RECORD_BYTES:,} bytes, which DuckDB reads, "
            f"got {len(view):,} at position {position}"
        )
    if len(view) > 2 * MAX_DEPTH and depth(bytes(view)) > MAX_DEPTH:
        raise ValueError(f"expected records of at most {MAX_DEPTH} levels, got more at position {position}")


def depth(record: bytes) -> int:
    """How many lists and objects are open at once, at the most; not counted where there are too few to matter."""
    openers = record.count(b"{") + record.count(b"[")
    if openers <= MAX_DEPTH:
        return openers
    level = deepest = 0
    for character in _STRING.sub(b"", record):
        if character in b"{[":
            level += 1
            deepest = max(deepest, level)
        elif character in b"}]":
            level -= 1
    return deepest


def kind(text: Raw) -> str:
    """What a JSON value is, in words."""
    value = msgspec.json.decode(text)
    match value:
        case dict():
            return f"an object with the keys {sorted(value)}"[:300]
        case list():
            return "a list"
    return repr(value)[:80]


class Fields:
    """Reads the same few fields of every record."""

    def __init__(self, paths: Sequence[str], types: Any, *, nested: bool = False) -> None:
        names = [path.split(".") if nested else [path] for path in paths]
        self._decoder = msgspec.json.Decoder(list[_struct(names, types)])  # type: ignore[misc]
        self._depth = len(names[0]) if nested else 1
        self._single = len(names) == 1

    def read(self, array: Raw) -> list[Any]:
        """A tuple for each record, or for one path the value; ValueError naming the record that lacks one."""
        try:
            rows = self._decoder.decode(array)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        for _ in range(self._depth - 1):
            rows = [row.f0 for row in rows]
        return [row.f0 for row in rows] if self._single else [*map(msgspec.structs.astuple, rows)]


def _struct(names: Sequence[Sequence[str]], types: Any) -> Any:
    """A struct with one field for each first name; for a single path one in another, down to its last name."""
    inner = [types if len(path) == 1 else _struct([path[1:]], types) for path in names]
    fields = [(f"f{position}", kind) for position, kind in enumerate(inner)]
    return msgspec.defstruct("Record", fields, rename={f"f{n}": path[0] for n, path in enumerate(names)})
