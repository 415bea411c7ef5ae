"""Which keys records have, and as which SQL types dbt can read them."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
PLAIN = re.compile(r'[^."\[\]]+')


@dataclass(frozen=True)
class Column:
    """A key as `__sources.yml` names it, `reviews[].rating`, and its type; None where records differ or have none."""

    name: str
    data_type: str | None


def columns_of(records: Iterable[bytes]) -> list[Column]:
    """Every key of the records, in the order in which they come up."""
    found: dict[str, list[Any]] = {}
    for record in records:
        for name, value in _leaves(json.loads(record, parse_float=Decimal), ""):
            found.setdefault(name, []).append(value)
    return [Column(name, sql_type(values)) for name, values in found.items()]


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _leaves(inner, f"{name}.{_quoted(key)}" if name else _quoted(key))
        case list() if name:
            for inner in value:
                yield from _leaves(inner, f"{name}[]")
        case _:
            yield name, value


def _quoted(key: str) -> str:
    """The key as part of a name; one that holds a dot, a bracket or a quote in double quotes."""
    return key if PLAIN.fullmatch(key) else '"{}"'.format(key.replace("\\", "\\\\").replace('"', '\\"'))


def sql_type(values: Iterable[Any]) -> str | None:
    """The type that all values, but for null, can be cast to without loss."""
    some = [value for value in values if value is not None]
    kinds = {type(value) for value in some}
    if not some or (kinds - {int, Decimal} and len(kinds) > 1):
        return None
    if kinds == {bool}:
        return "boolean"
    if kinds == {str}:
        return _type_of_text(some)
    if kinds == {int}:
        return "bigint" if all(-(2**63) <= value < 2**63 for value in some) else "hugeint"
    return _type_of_numbers(map(Decimal, some))


def _type_of_text(texts: list[str]) -> str:
    if all(DAY.fullmatch(text) for text in texts):
        return "date"
    found = [MOMENT.fullmatch(text) for text in texts]
    if all(found):
        zones = {match is not None and match[3] is not None for match in found}
        return {True: "timestamptz", False: "timestamp"}[zones.pop()] if len(zones) == 1 else "text"
    return "text"


def _type_of_numbers(numbers: Iterable[Decimal]) -> str:
    """Room for a thousand million times what came; a number with more digits than a decimal has is a double."""
    whole, scale = 0, 2
    for number in numbers:
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int)
        scale = max(scale, -exponent)
        whole = max(whole, number.adjusted() + 1)
    precision = max(18, whole + scale)
    return f"decimal({precision},{scale})" if precision <= 38 else "double"
