"""Values: what JSON says is what staging says, exactly, or the build names what it cannot cast."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.dbt.conftest import Place, day, product
from tests.dbt.test_bad_batches import SOUND
from tests.dbt.test_batches import PRODUCTS

DIGITS = st.text("0123456789", min_size=1, max_size=40)
HARD_DIGITS = st.text("0459", min_size=1, max_size=40)
"""Of those, sums of rounding go wrong first."""


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Any JSON number of up to 80 digits, with any exponent."""
    digits = st.one_of(DIGITS, HARD_DIGITS)
    whole = draw(digits).lstrip("0") or "0"
    fraction = draw(st.one_of(st.just(""), digits.map(lambda text: f".{text}")))
    power = st.one_of(st.integers(-50, 50), st.integers(-400, 400), st.integers(-(10**12), 10**12)).map(str)
    exponent = st.builds("".join, st.tuples(st.sampled_from(["e", "E", "e+"]), power)).map(
        lambda text: text.replace("+-", "-")
    )
    return draw(st.sampled_from(["", "-"])) + whole + fraction + draw(st.one_of(st.just(""), exponent))


def as_decimal(number: str, precision: int, scale: int) -> Decimal | None:
    """What Python says of a number as a decimal(precision, scale), half away from zero; None if it does not fit."""
    with localcontext(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN):
        value = Decimal(number)
        if value.is_zero() or value.adjusted() < -60:
            return Decimal(0)
        if value.adjusted() > 60:
            return None
        rounded = value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP)
        return rounded if abs(rounded) < Decimal(10) ** (precision - scale) else None


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB whose reader is far from Greenwich."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'America/New_York'")
        yield connection


TRAPS = [
    "5.551115123125783e-17",
    "-5.68e-14",
    "5.5e-7",
    "9e-8",
    "9.995",
    "1.005",
    "0.00499999999999999999999999999999999999",
    "12345678901234567890.125",
    "9007199254740993.5",
    f"0.{'0' * 70}1e71",
    "0e400",
    "1e400",
    "-0",
]
TYPES = [(12, 2), (4, 2), (38, 20), (38, 0), (38, 38)]


def test_any_json_number_is_the_decimal_that_python_says(place: Place, connection: duckdb.DuckDBPyConnection) -> None:
    casts = [f"{{{{ cast_text('text', 'decimal({p},{s})', 'try_cast') }}}}" for p, s in TYPES]
    query = place.compiled(
        f"select {', '.join(casts)} from (select record ->> '/a' as text from ("
        "select {{ exact_numbers('raw') }} as record from (select unnest($1)::json as raw)))"
    )

    @settings(max_examples=40, deadline=None)
    @given(st.lists(numbers(), min_size=20, max_size=100))
    @example(TRAPS)
    def check(several: list[str]) -> None:
        records = [f'{{"b": "1e5, 7.5", "a":{number}, "c": [-1.5]}}' for number in several]
        got = dict(zip(several, connection.execute(query, [records]).fetchall(), strict=True))
        assert got == {number: tuple(as_decimal(number, *size) for size in TYPES) for number in several}

    check()


def test_a_record_with_exact_numbers_is_the_same_but_for_the_quotes(
    place: Place, connection: duckdb.DuckDBPyConnection
) -> None:
    query = place.compiled("select {{ exact_numbers('$1::json') }}")
    scalars = st.one_of(
        st.none(), st.booleans(), st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
    )
    values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)))

    @settings(max_examples=200, deadline=None)
    @given(values, st.booleans())
    @example({'say \\"5\\': 'x\\\\"1', "1": ["-2", "1e5"]}, True)
    def check(value: Any, escaped: bool) -> None:
        raw = json.dumps({"long": "?", "value": value}, ensure_ascii=escaped).replace('"?"', "1234567890.1234567890", 1)
        ((got,),) = connection.execute(query, [raw]).fetchall()
        assert json.loads(got) == json.loads(raw, parse_int=str, parse_float=str)

    check()


@st.composite
def times(draw: st.DrawFn) -> tuple[str, datetime]:
    """A time as APIs write it, and when that is; without a zone it is UTC."""
    moment = draw(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
    text = draw(st.sampled_from([moment.isoformat(), moment.isoformat(sep=" "), moment.isoformat(timespec="seconds")]))
    moment = moment if "." in text else moment.replace(microsecond=0)
    if draw(st.booleans()):
        return text, moment.replace(tzinfo=UTC)
    minutes = draw(st.integers(-14 * 60, 14 * 60))
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    zone = draw(st.sampled_from([f"{sign}{hours:02}:{rest:02}", f"{sign}{hours:02}{rest:02}"]))
    zone, minutes = draw(st.sampled_from([(zone, minutes), ("Z", 0)]))
    return text + zone, moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))


def test_a_time_is_the_same_moment_in_every_session(place: Place, connection: duckdb.DuckDBPyConnection) -> None:
    query = place.compiled(
        "select epoch_us({{ cast_text('text', 'timestamptz') }}), epoch_us({{ cast_text('text', 'timestamp') }}) "
        "from (select unnest($1) as text)"
    )
    start = datetime(1970, 1, 1, tzinfo=UTC)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(times(), min_size=1, max_size=100))
    def check(several: list[tuple[str, datetime]]) -> None:
        got = connection.execute(query, [[text for text, _ in several]]).fetchall()
        assert got == [((moment - start) // timedelta(microseconds=1),) * 2 for _, moment in several]

    check()


def prices(place: Place) -> dict[int, Decimal]:
    """The prices in the mart."""
    return dict(place.rows("select product_id, price from marts.dim_products"))


def priced(number: int, price: str) -> str:
    """A product whose price is this JSON number, as it is written."""
    return json.dumps(product(number, price="?")).replace('"?"', price, 1)


def test_numbers_of_any_form_reach_the_mart_exactly(place: Place) -> None:
    written = {
        1: "5.551115123125783e-17",
        2: "1234567890.1249999999999999999",
        3: "1.5e3",
        4: "9.995",
        5: "1.005",
        6: "1E2",
        7: "1234567890.125",
        8: "0.004999999999999999999",
        9: "2.00000000000000000000000000001e2",
    }
    place.land_lines(PRODUCTS, [priced(number, price) for number, price in written.items()], day(1))
    place.built()
    assert prices(place) == {number: as_decimal(price, 12, 2) for number, price in written.items()}


def test_noise_far_behind_the_point_makes_no_version_in_the_history(place: Place) -> None:
    for number, discount in enumerate(("0", "5.551115123125783e-17", "-5.68e-14", "9e-8"), 1):
        record = json.dumps(product(1, discountPercentage="?")).replace('"?"', discount, 1)
        place.land_lines(PRODUCTS, [record], day(number))
        place.built()
    assert place.rows("select discount_percentage, valid_from from marts.dim_products_history") == [(0, day(1))]


def json_text(value: str) -> str:
    """What is in the quotes of a JSON text; another value as it is."""
    return value.strip('"')


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("stock", "9223372036854775808", "bigint"),
        ("stock", "-9223372036854775809", "bigint"),
        ("stock", "123456789012345678901234567890", "bigint"),
        ("price", "1e400", "decimal(12,2)"),
        ("price", "12345678901234567890.12", "decimal(12,2)"),
        ("price", "9999999999.995", "decimal(12,2)"),
        ("price", "Infinity", "decimal(12,2)"),
        ("rating", "100", "decimal(4,2)"),
        ("reviews[].date", '"30/04/2025"', "timestamptz"),
        ("reviews[].date", '""', "timestamptz"),
        ("reviews[].rating", "92233720368547758080", "bigint"),
    ],
)
def test_a_value_that_staging_cannot_cast_stops_the_build_with_batch_key_and_value(
    place: Place, key: str, value: str, expected: str
) -> None:
    good, bad = json.dumps(product(1)), product(2)
    if key.startswith("reviews[]."):
        bad["reviews"] = [bad["reviews"][0] | {key.removeprefix("reviews[]."): "?"}]
    else:
        bad[key] = "?"
    batch_id = place.land_lines(PRODUCTS, [good, json.dumps(bad).replace('"?"', value, 1)], day(1))
    built = place.build()
    assert list(built.messages) == [SOUND]
    said = f"batch {batch_id}: key {key} is {json_text(value)}, expected {expected} (values like it: 1)"
    assert said in built.messages[SOUND]


def test_what_a_view_will_read_is_checked_again_when_its_declaration_changes(place: Place) -> None:
    batch_id = place.land(PRODUCTS, [product(1), product(2)], day(1))
    place.built()
    with duckdb.connect(str(place.warehouse)) as warehouse:
        warehouse.execute("update base.base_dummyjson__products_batches set checked_as = 'another declaration'")
        warehouse.execute(
            """update base.base_dummyjson__products set record = replace(record::text, '"stock":2', '"stock":1e30')"""
        )
    assert f"{PRODUCTS} batch {batch_id}: key stock is 1e30" in place.build().messages[SOUND]


def test_a_sum_that_its_mart_cannot_hold_stops_the_build_with_batch_key_and_value(place: Place) -> None:
    most = {1: 2**63 - 1, 4: 1}
    batch_id = place.land(
        PRODUCTS, [product(n, category="a", stock=stock, price=0) for n, stock in most.items()], day(1)
    )
    message = place.build().messages["category_summary"]
    assert f"{PRODUCTS} batch {batch_id}: stock of category a is 9223372036854775808, more than bigint holds" in message
    place.clear()
    batch_id = place.land(PRODUCTS, [product(2, category="a", stock=2**53 + 1, price=10.5)], day(1))
    message = place.build().messages["category_summary"]
    assert f"{PRODUCTS} batch {batch_id}: stock times price of category a is 94575592174780426.50" in message
    assert "most of it is product_id 2" in message


def test_an_average_is_rounded_as_decimals_are(place: Place) -> None:
    place.land(PRODUCTS, [product(1, category="a", price=1.00), product(2, category="a", price=1.01)], day(1))
    place.built()
    assert place.rows("select average_price from marts.category_summary") == [(Decimal("1.01"),)]
