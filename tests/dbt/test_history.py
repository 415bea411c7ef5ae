"""dim_products_history: type 2, the same whatever the order in which batches came."""

import random
from datetime import datetime

from tests.dbt.conftest import Place, Record, cart, day, product, user
from tests.dbt.test_batches import PRODUCTS, marts

Version = tuple[int, float, datetime, datetime | None]
HISTORY = "select product_id, price::double, valid_from, valid_to from marts.dim_products_history order by 1, 3"


def expected_history(readings: dict[datetime, list[Record]]) -> list[Version]:
    """Type 2 of the price, written as plainly as possible: every product, reading by reading."""
    times = sorted(readings)
    versions: list[Version] = []
    for number in {record["id"] for records in readings.values() for record in records}:
        valid_from, price = None, None
        for time in times:
            now = next((record["price"] for record in readings[time] if record["id"] == number), None)
            if now != price:
                if valid_from is not None and price is not None:
                    versions.append((number, price, valid_from, time))
                valid_from, price = time, now
        if valid_from is not None and price is not None:
            versions.append((number, price, valid_from, None))
    return sorted(versions, key=lambda version: version[::2])


def build_history(place: Place) -> None:
    """Builds only what the history is made of."""
    assert place.dbt("run", "--select", "+dim_products_history").success


def test_an_unchanged_product_has_one_version(place: Place) -> None:
    for n in (1, 2, 3):
        place.land(PRODUCTS, [product(1, price=5, stock=n, rating=n)], day(n))
    build_history(place)
    assert place.rows(HISTORY) == [(1, 5, day(1), None)]


def test_a_changed_product_has_a_version_from_the_batch_that_changed_it(place: Place) -> None:
    place.land(PRODUCTS, [product(1, price=5)], day(1))
    build_history(place)
    place.land(PRODUCTS, [product(1, price=6)], day(2))
    build_history(place)
    assert place.rows(HISTORY) == [(1, 5, day(1), day(2)), (1, 6, day(2), None)]


def test_a_brand_that_appears_and_goes_is_a_change(place: Place) -> None:
    for n, brand in enumerate((None, "Dunmere", None), 1):
        place.land(PRODUCTS, [product(1, brand=brand)], day(n))
    build_history(place)
    assert place.rows("select brand, valid_from from marts.dim_products_history order by valid_from") == [
        (None, day(1)),
        ("Dunmere", day(2)),
        (None, day(3)),
    ]


def test_a_product_missing_from_a_complete_batch_is_closed_and_opened_anew_when_it_comes_back(place: Place) -> None:
    for n, records in enumerate([[product(1, price=5)], [], [], [product(1, price=5)]], 1):
        place.land(PRODUCTS, [*records, product(2, price=1)], day(n))
        if n != 2:
            build_history(place)
    assert place.rows(HISTORY) == [(1, 5, day(1), day(2)), (1, 5, day(4), None), (2, 1, day(1), None)]


def test_two_batches_of_the_same_instant_make_no_version_without_length(place: Place) -> None:
    place.land(PRODUCTS, [product(1, price=5)], day(1))
    place.land(PRODUCTS, [product(1, price=6)], day(1))
    build_history(place)
    assert place.rows(HISTORY) == [(1, 6, day(1), None)]


def shop(seed: int) -> dict[datetime, list[Record]]:
    """Seven readings on five days, of twelve products that change, go and come back."""
    chance = random.Random(seed)
    return {
        time: [
            product(number, price=float(chance.randint(1, 3)), stock=chance.randint(0, 9))
            for number in range(1, 13)
            if chance.random() < 0.8
        ]
        for time in (day(1), day(1, 12), day(2), day(3), day(3, 12), day(4), day(5))
    }


def test_any_order_of_arrival_in_any_groups_gives_the_same_marts(place: Place) -> None:
    readings = shop(seed=1)
    seen = []
    for order in range(10):
        chance = random.Random(order)
        place.clear(new=order == 0)
        batches = list(enumerate(readings.items(), 1))
        chance.shuffle(batches)
        while batches:
            group = [batches.pop() for _ in range(min(len(batches), chance.randint(2, 5)))]
            for n, (time, records) in group:
                # the id depends on the reading, not on when it came
                place.numbered(n).land(PRODUCTS, records, time)
                place.numbered(n).land("dummyjson.users", [user(i) for i in range(1, 3 + n)], time)
                place.numbered(n).land("dummyjson.carts", [cart(i, 1, (i, n)) for i in range(1, 3)], time)
            # all that depends on the order; the views and the exports do not
            without = ["path:models/staging", "path:models/exports"] if order else []
            assert place.dbt("run", "--exclude", "source:shop+", *without).success
        seen.append(marts(place))
    assert place.rows(HISTORY) == expected_history(readings)
    assert len(place.rows(HISTORY)) > 30
    assert all(other == seen[0] for other in seen)
