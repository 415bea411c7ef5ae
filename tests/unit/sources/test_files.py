"""A wrong declaration says in which file and line, under which key, what was expected and what came."""

from pathlib import Path

import pytest

from flows.errors import InvalidInputError
from flows.sources.reader.declaration import Table
from flows.sources.reader.files import DECLARATIONS, declaration_files, find_source, load_file, load_system
from tests.support.api import declared

GOOD = """\
base_url: https://api.example.com/v1
auth: {type: bearer, token: {env: SHOP_TOKEN}}
tables:
  orders:
    primary_key: [order_id, line]
    paginator: {type: header_link}
"""


def test_every_declaration_of_the_project_can_be_loaded() -> None:
    files = declaration_files()
    assert "dummyjson" in files
    for file in files.values():
        assert load_file(file)


WRONG = {
    "an unknown key": (
        GOOD + "    primary_keys: id\n",
        r"shop.yaml:7: tables.orders.primary_keys: expected one of primary_key, .*paginator, total, got primary_keys",
    ),
    "a missing key": (GOOD.replace("primary_key: [order_id, line]", "params: {}"), r":4: .*primary_key: .* is missing"),
    "an unknown type": (
        GOOD.replace("header_link", "ofset"),
        r"shop.yaml:6: tables.orders.paginator.type: expected one of 'offset', 'page_number', .*, got 'ofset'",
    ),
    "no type": (GOOD.replace("type: header_link", "limit: 5"), r"yaml:6: .*paginator.type: expected this key"),
    "another kind of value": (
        GOOD.replace("type: header_link", "type: header_link, limit: many"),
        r"shop.yaml:6: tables.orders.paginator.limit: expected a valid integer.*, got 'many'",
    ),
    "a limit above the maximum": (
        GOOD.replace("type: header_link", "type: header_link, limit: 500, maximum_limit: 100"),
        r"shop.yaml:6: tables.orders.paginator: limit: expected at most maximum_limit, 100, got 500",
    ),
    "no base page": (GOOD.replace("header_link", "page_number"), r":6: .*paginator.base_page: expected this key"),
    "two origins of a cursor": (
        GOOD.replace("type: header_link", "type: cursor, cursor_path: next, last_record: id"),
        r"expected cursor_path .* or last_record",
    ),
    "changes without incremental": (
        GOOD + "    reading: changes\n",
        r"shop.yaml:4: tables.orders: reading: changes and incremental belong together",
    ),
    "keep_last without a key": (
        GOOD.replace("[order_id, line]", "[]") + "    on_change: keep_last\n",
        r"keep_last needs a primary_key",
    ),
    "a lag of the wrong kind": (
        GOOD
        + "    reading: changes\n"
        + "    incremental: {cursor_path: t, start_param: s, initial_value: 2026-01-01, lag: 5}\n",
        r"shop.yaml:8: tables.orders.incremental: lag: expected a time such as 30m, 2h or 1d, got 5",
    ),
    "an initial value that is no cursor": (
        GOOD + "    reading: changes\n    incremental: {cursor_path: t, start_param: s, initial_value: yesterday}\n",
        r"shop.yaml:8: .*incremental: expected a number, or a date or time .*, got 'yesterday'",
    ),
    "a query in the path": (GOOD + "    path: orders?x=1\n", r"shop.yaml:7: tables.orders.path: .*orders\?x=1"),
    "a table's name": (GOOD.replace("orders", "Orders"), r"shop.yaml:4: tables.Orders: .*pattern"),
    "no tables": ("base_url: https://a.example\ntables: {}\n", r"shop.yaml:2: tables: .*at least 1"),
    "no mapping": ("- base_url\n", r"shop.yaml:1: the file: expected a valid dictionary"),
    "empty": ("", r"shop.yaml:1: the file: expected a valid dictionary"),
    "no YAML": ("base_url: [\n", r"shop.yaml:2: expected YAML, got this"),
    "a key twice": (
        GOOD + "    primary_key: id\n",
        r"shop.yaml:7: expected YAML, got this: the key primary_key comes tw",
    ),
    "a default": (
        "base_url: https://a.example\ndefaults:\n  paginator: {type: x}\ntables:\n  orders: {primary_key: id}\n",
        r"shop.yaml:3: defaults.paginator.type: expected one of",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_declaration_is_an_error_that_names_the_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        declared(tmp_path, text)


SECRETS = {
    "a token": GOOD.replace("{env: SHOP_TOKEN}", "hunter2"),
    "a token as a name": GOOD.replace("SHOP_TOKEN", "hunter2-is-no-name"),
    "a token of an unknown auth": GOOD.replace("bearer, token", "barer, hunter2"),
    "a token in a header": GOOD + "headers: {X-Key: [hunter2]}\n",
    "a login in the URL": GOOD.replace("https://", "https://me:hunter2@"),
    "a key in the URL": GOOD.replace("/v1", "/v1?key=hunter2"),
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_that_somebody_wrote_into_a_declaration_is_not_in_the_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as error:
        declared(tmp_path, text)
    assert "hunter2" not in str(error.value)


def test_a_date_stays_the_text_that_it_is(tmp_path: Path) -> None:
    text = GOOD + "    reading: changes\n    incremental: {cursor_path: t, start_param: s, initial_value: 2026-01-31}\n"
    table = declared(tmp_path, text)["shop.orders"].table
    assert table.incremental is not None
    assert table.incremental.initial_value == "2026-01-31"


def test_defaults_go_into_each_table_that_does_not_say_otherwise(tmp_path: Path) -> None:
    text = """
base_url: https://a.example
defaults: {primary_key: id, paginator: {type: single_page}}
tables:
  orders:
  items: {primary_key: [order, line]}
"""
    found = declared(tmp_path, text)
    assert found["shop.orders"].table.primary_key == ("id",)
    assert found["shop.items"].table.primary_key == ("order", "line")
    assert isinstance(found["shop.items"].table, Table)


def test_another_folder_adds_sources_and_its_files_stand(tmp_path: Path) -> None:
    declared(tmp_path, GOOD)
    declared(tmp_path, GOOD.replace("orders", "products"), system="dummyjson")
    assert find_source("shop.orders", [tmp_path]).file == tmp_path / "shop.yaml"
    system = find_source("dummyjson.products", [tmp_path]).system
    assert system is not None and system.base_url == "https://api.example.com/v1"
    assert find_source("dummyjson.carts").file == DECLARATIONS / "dummyjson.yaml"


def test_a_base_url_from_the_environment_stands_and_the_others_stay(tmp_path: Path) -> None:
    declared(tmp_path, GOOD)
    given = {"dummyjson": "http://127.0.0.1:1/"}
    dummyjson, shop = (find_source(name, [tmp_path], given).system for name in ("dummyjson.users", "shop.orders"))
    assert dummyjson is not None and dummyjson.base_url == "http://127.0.0.1:1"
    assert shop is not None and shop.base_url == "https://api.example.com/v1"
    with pytest.raises(InvalidInputError, match="BATON_API_URLS: shop: expected a URL without login"):
        find_source("shop.orders", [tmp_path], {"shop": "http://me:hunter2@127.0.0.1"})


def test_a_source_that_nobody_declares_is_refused_and_those_that_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"'nope.orders' belongs to 'nope', which no file .*: dummyjson.*"):
        find_source("nope.orders")
    with pytest.raises(InvalidInputError, match=r"expected a table that .* declares \(dummyjson.products, .*got 'dum"):
        find_source("dummyjson.orders")
    with pytest.raises(InvalidInputError, match="BATON_SOURCES: expected a folder"):
        find_source("dummyjson.products", [tmp_path / "nowhere"])


def test_a_system_with_two_files_is_refused(tmp_path: Path) -> None:
    declared(tmp_path, GOOD)
    (tmp_path / "shop.py").write_text("")
    with pytest.raises(InvalidInputError, match=r"shop is declared by shop.py too"):
        declaration_files([tmp_path])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match=r"shop.yaml: cannot be read"):
        load_system(file)
