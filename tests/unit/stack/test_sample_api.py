"""The sample API behaves as dummyjson.com does, in everything that the extract can notice."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, get_args

import pytest
import requests
import yaml

from flows.settings import PROJECT
from stack.sample_api.data import FIRST_DAY, Entity
from stack.sample_api.server import serving

Record = dict[str, Any]
ENTITIES = get_args(Entity)


def get(url: str, **query: object) -> requests.Response:
    return requests.get(url, params={name: str(value) for name, value in query.items()}, timeout=10)


def everything(url: str, **query: object) -> dict[str, dict[int, Record]]:
    """All records of all entities, by id."""
    return {
        entity: {record["id"]: record for record in get(f"{url}/{entity}", limit=0, **query).json()[entity]}
        for entity in ENTITIES
    }


def test_the_default_page_has_thirty_of_all_products() -> None:
    with serving() as url:
        body = get(f"{url}/products").json()
    assert (body["total"], body["skip"], body["limit"], len(body["products"])) == (194, 0, 30, 30)


def test_limit_zero_means_all_and_a_page_past_the_end_is_empty() -> None:
    with serving(day=FIRST_DAY) as url:
        assert len(get(f"{url}/products", limit=0).json()["products"]) == 194
        past = get(f"{url}/products", skip=194).json()
        last = get(f"{url}/products", limit=100, skip=190).json()
    assert (past["products"], past["total"], past["limit"]) == ([], 194, 0)
    assert [record["id"] for record in last["products"]] == [191, 192, 193, 194]
    assert last["limit"] == 4


def test_the_data_have_the_quirks_of_the_real_ones() -> None:
    with serving() as url:
        products = get(f"{url}/products", limit=0).json()["products"]
    assert 60 < sum("brand" in product for product in products) < 134
    assert len({product["title"] for product in products}) < len({product["sku"] for product in products}) == 194
    assert {type(product["discountPercentage"]) for product in products} == {int, float}
    assert len({product["category"] for product in products}) == 24
    assert {len(product["reviews"]) for product in products} == {3}
    assert all("@" in review["reviewerEmail"] for product in products for review in product["reviews"])


def test_the_same_seed_and_day_give_the_same_shop_whatever_the_pages() -> None:
    with serving(seed=7, day=date(2026, 3, 1)) as one, serving(seed=7, day=date(2026, 3, 1)) as two:
        complete = everything(one)
        for entity in ENTITIES:
            pages = [get(f"{two}/{entity}", limit=17, skip=skip).json() for skip in range(0, 221, 17)]
            assert [record for page in pages for record in page[entity]] == list(complete[entity].values())
            assert {page["total"] for page in pages} == {len(complete[entity])}
            number = max(complete[entity])
            assert get(f"{two}/{entity}/{number}").json() == complete[entity][number]


def test_from_day_to_day_products_and_carts_come_and_go_and_prices_stock_and_carts_change() -> None:
    with serving(day=FIRST_DAY) as url:
        today, tomorrow = everything(url), everything(url, day=FIRST_DAY + timedelta(days=1))
    assert list(today["products"]) == [*range(1, 195)]
    assert list(tomorrow["products"]) == [*range(2, 196)]
    assert (min(tomorrow["carts"]), len(tomorrow["carts"])) == (11, 50)
    kept = today["products"].keys() & tomorrow["products"].keys()
    changed = {
        key: sum(today["products"][number].get(key) != tomorrow["products"][number].get(key) for number in kept)
        for key in ("title", "sku", "price", "stock")
    }
    assert changed["title"] == changed["sku"] == 0
    assert 20 <= changed["price"] <= 35, "a seventh"
    assert changed["stock"] > 180
    older = [number for number, user in today["users"].items() if user != tomorrow["users"][number]]
    assert {*older} == {n for n, user in today["users"].items() if user["birthDate"].endswith("-1-2")}


def test_before_the_first_day_and_with_other_sizes_it_is_a_shop_all_the_same() -> None:
    with serving(3, carts=2, users=1, day=date(2000, 1, 1)) as url:
        shop = everything(url)
    assert {entity: [*records] for entity, records in shop.items()} == {
        "products": [1, 2, 3],
        "carts": [1, 2],
        "users": [1],
    }
    with serving(0, carts=5, users=0) as url:
        assert everything(url) == {"products": {}, "carts": {}, "users": {}}
    with serving(0, carts=5, users=1) as url:
        assert [cart["products"] for cart in everything(url)["carts"].values()] == [[]] * 5


@pytest.mark.parametrize("days", [0, 1, 100, 5000])
def test_every_cart_is_of_a_user_and_holds_products_of_the_day_at_their_prices_and_adds_up(days: int) -> None:
    with serving(carts=300, day=FIRST_DAY + timedelta(days=days)) as url:
        shop = everything(url)
    for cart in shop["carts"].values():
        assert cart["userId"] in shop["users"]
        items = cart["products"]
        assert len({item["id"] for item in items}) == len(items) == cart["totalProducts"] > 0
        for item in items:
            product = shop["products"][item["id"]]
            for key in ("title", "price", "discountPercentage", "thumbnail"):
                assert item[key] == product[key]
            assert item["total"] == round(item["price"] * item["quantity"], 2)
            discounted = item["total"] * (100 - item["discountPercentage"]) / 100
            assert abs(item["discountedTotal"] - discounted) < 0.005_001
        assert cart["totalQuantity"] == sum(item["quantity"] for item in items)
        for key in ("total", "discountedTotal"):
            assert cart[key] == round(sum(item[key] for item in items), 2)
    assert len({cart["userId"] for cart in shop["carts"].values()}) > 100
    assert len({item["id"] for cart in shop["carts"].values() for item in cart["products"]}) > 150


def test_a_cart_keeps_its_products_from_day_to_day_and_one_that_has_gone_gives_way() -> None:
    with serving(day=FIRST_DAY) as url:
        today, tomorrow = everything(url)["carts"], everything(url, day=FIRST_DAY + timedelta(days=1))["carts"]
    for number in today.keys() & tomorrow.keys():
        items = [
            [(item["id"], item["quantity"]) for item in cart["products"]] for cart in (today[number], tomorrow[number])
        ]
        assert [(195 if product == 1 else product, quantity) for product, quantity in items[0]] == items[1]


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    """Every key that holds a plain value, as dbt's source description writes it: `reviews[].rating`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from keys_of(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, f"{path}[]")
    else:
        yield path


@pytest.mark.parametrize("entity", ENTITIES)
def test_the_records_have_the_keys_that_the_dbt_source_describes(entity: Entity) -> None:
    described = yaml.safe_load((PROJECT / "dbt/models/base/dummyjson/__sources.yml").read_text())["sources"][0]
    (table,) = [table for table in described["tables"] if table["name"] == entity]
    with serving() as url:
        records = everything(url)[entity].values()
    assert {key for record in records for key in keys_of(record)} == {column["name"] for column in table["columns"]}


def test_select_keeps_the_id_and_what_was_asked_for() -> None:
    with serving() as url:
        assert set(get(f"{url}/products", select="title,price").json()["products"][0]) == {"id", "title", "price"}


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/nowhere", 404, "text/html"),
        ("/products/0", 404, "application/json"),
        ("/users/209", 404, "application/json"),
        ("/products?limit=many", 400, "application/json"),
        ("/products?skip=-1", 400, "application/json"),
        ("/http/500", 500, "application/problem+json"),
        ("/http/404", 404, "application/json"),
        ("/test", 200, "application/json"),
    ],
)
def test_errors_come_in_the_form_of_the_real_api(path: str, status: int, kind: str) -> None:
    with serving() as url:
        response = get(url + path)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith(kind)


def test_too_many_requests_are_answered_429_with_the_seconds_to_wait() -> None:
    with serving(rate_limit=(2, 5.0)) as url:
        answers = [get(f"{url}/test") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "5"


def test_as_a_process_it_says_its_url_and_ends_when_it_is_told_to() -> None:
    command = [sys.executable, "-m", "stack.sample_api.server", "--products", "3", "--carts", "2", "--users", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert {entity: get(f"{url}/{entity}").json()["total"] for entity in ENTITIES} == {
            "products": 3,
            "carts": 2,
            "users": 1,
        }
        process.terminate()
        assert process.wait(10) == 0
