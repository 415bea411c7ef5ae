"""For sqlfluff, which renders models without dbt: the macros that return values, with made-up keys."""

from typing import Any

Key = dict[str, Any]

PLAIN = [
    {"name": "id", "parts": [".id"], "type": "bigint", "kind": "integer"},
    {"name": "price", "parts": [".price"], "type": "decimal(12,2)", "kind": "number"},
    {"name": "at", "parts": [".at"], "type": "timestamptz", "kind": "text"},
]
ITEM = {"name": "items[].id", "parts": [".items", "[]", ".id"], "type": "bigint", "kind": "integer"}


def declared_keys(_source_name: str) -> list[Key]:
    """Plain keys of several types, and one in a list."""
    return [*PLAIN, ITEM]


def typed_keys(_source_name: str, list_parts: list[str] | None = None) -> list[Key]:
    """The plain keys, or the one in a list."""
    return [ITEM | {"parts": [".id"]}] if list_parts else PLAIN


def primary_key(_source_name: str) -> list[str]:
    """One key."""
    return ["id"]


def key_parts(_name: str) -> list[str]:
    """Some path."""
    return [".items", "[]"]


def json_kind(type: str, *_where: str) -> str:
    """Number, unless it is an integer."""
    return "integer" if type == "bigint" else "number"


def column_names(_relation: object) -> list[str]:
    """What the model has."""
    return ["checked_as"]


def source_of(_base_model: object) -> str:
    """Some source."""
    return "shop.orders"


def base_of(_source_name: str) -> str:
    """Some base model."""
    return "base_shop__orders"


def checks_of(_source_name: str) -> str:
    """Some checksum."""
    return "0123456789abcdef"


def landing_folder(_source_relation: object) -> str:
    """Some folder."""
    return "/landing/shop/orders"


def report(problems: str) -> str:
    """The query of a test."""
    return problems
