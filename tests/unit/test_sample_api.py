"""The stand-in behaves as dummyjson.com does, where the extract can tell the difference."""

import subprocess
import sys
from datetime import date

import pytest
import requests

from stack.sample_api import serving


def get(url: str, **query: object) -> requests.Response:
    return requests.get(url, params={name: str(value) for name, value in query.items()}, timeout=10)


def test_the_default_page_has_thirty_of_all_products() -> None:
    with serving() as url:
        body = get(f"{url}/products").json()
    assert (body["total"], body["skip"], body["limit"], len(body["products"])) == (194, 0, 30, 30)


def test_limit_zero_means_all_and_a_page_past_the_end_is_empty() -> None:
    with serving() as url:
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


def test_the_same_seed_and_day_give_the_same_products_and_another_day_other_prices() -> None:
    with serving(seed=7, day=date(2026, 1, 1)) as one, serving(seed=7, day=date(2026, 1, 1)) as two:
        first = get(f"{one}/products", limit=0).json()["products"]
        assert get(f"{two}/products", limit=0).json()["products"] == first
        later = get(f"{one}/products", limit=0, day="2026-01-02").json()["products"]
    assert [product["id"] for product in later] == [product["id"] for product in first]
    assert [product["title"] for product in later] == [product["title"] for product in first]
    assert [product["price"] for product in later] != [product["price"] for product in first]


def test_select_keeps_the_id_and_what_was_asked_for() -> None:
    with serving() as url:
        assert set(get(f"{url}/products", select="title,price").json()["products"][0]) == {"id", "title", "price"}


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/nowhere", 404, "text/html"),
        ("/products/9999", 404, "application/json"),
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
    command = [sys.executable, "-m", "stack.sample_api", "--products", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert get(f"{process.stdout.readline().strip()}/products").json()["total"] == 3
        process.terminate()
        assert process.wait(10) == 0
