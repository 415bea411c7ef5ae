"""What a reading asks for follows from the declaration, the previous reading and what was asked for by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.errors import InvalidInputError
from flows.sources.reader.cursors import greatest, less
from flows.sources.reader.declaration import Contract
from flows.sources.reader.windows import FULL, Window, plan_window, split_window


def changes(initial_value: object = "2026-01-01T00:00:00Z", lag: object = "10m") -> Contract:
    incremental = {"cursor_path": "t", "start_param": "since", "initial_value": initial_value, "lag": lag}
    return Contract.model_validate({"primary_key": "id", "reading": "changes", "incremental": incremental})


def test_the_first_reading_starts_at_the_initial_value_and_the_next_at_the_greatest_value_less_the_lag() -> None:
    assert plan_window(changes()) == Window("changes", "2026-01-01T00:00:00Z")
    later = plan_window(changes(), "2026-03-01T00:05:00Z")
    assert later == Window("changes", "2026-02-28T23:55:00Z", previous="2026-03-01T00:05:00Z")


def test_a_source_that_is_read_in_full_always_is() -> None:
    full = Contract(primary_key=("id",))
    assert plan_window(full) == plan_window(full, full=True) == FULL
    with pytest.raises(InvalidInputError, match="since, until: expected a source with reading: changes"):
        plan_window(full, since="2026-01-01")


def test_a_full_reading_of_changes_asks_for_everything_there_is() -> None:
    assert plan_window(changes(), "2026-03-01T00:00:00Z", full=True) == Window("full", "2026-01-01T00:00:00Z")


def test_a_cursor_of_another_kind_than_before_asks_for_a_full_reading() -> None:
    with pytest.raises(InvalidInputError, match="read everything once, with full=True"):
        plan_window(changes(), 17)
    assert plan_window(changes(), 17, full=True).reading == "full"


def test_a_backfill_asks_for_its_window_and_the_lag_before_it() -> None:
    window = plan_window(changes(), since="2026-02-01", until="2026-02-02")
    assert window == Window("changes", "2026-01-31", "2026-02-02", backfill=True)
    assert plan_window(changes(), until="2026-02-02").start == "2026-01-01T00:00:00Z"
    for since, until in (("2026-02-02", "2026-02-02"), ("2026-02-03", "2026-02-02"), ("soon", None), (None, "5")):
        with pytest.raises(InvalidInputError, match=r"since|until"):
            plan_window(changes(), since=since, until=until)


def test_numbers_are_cursors_too() -> None:
    table = changes(0, 5)
    assert plan_window(table, 100).start == 95
    assert plan_window(table, since="7", until="9") == Window("changes", 2, 9, backfill=True)
    with pytest.raises(InvalidInputError, match="since: expected a value of the kind of 0, got '2026-01-01'"):
        plan_window(table, since="2026-01-01")


LAGS = [
    ("2026-01-01", "1d", "2025-12-31"),
    ("2026-01-01", "1h", "2025-12-31"),
    ("2026-01-01T00:00:30Z", "1m", "2025-12-31T23:59:30Z"),
    ("2026-01-01T00:00:30.5Z", "1m", "2025-12-31T23:59:30.500Z"),
    ("2026-01-01T00:00:30.123456789+02:00", "30s", "2026-01-01T00:00:00.123456+02:00"),
    ("2026-01-01 00:00:30", "30s", "2026-01-01 00:00:00"),
    ("2026-01-01T00:00:30Z", 0, "2026-01-01T00:00:30Z"),
    (100, 7, 93),
]


@pytest.mark.parametrize(("value", "lag", "start"), LAGS)
def test_a_lag_leaves_a_value_in_the_form_that_it_came_in(value: str | int, lag: str | int, start: str | int) -> None:
    assert less(value, lag) == start


def test_times_are_compared_by_value_and_kept_as_they_came() -> None:
    assert greatest(["2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00Z"], None) == "2026-01-01T00:00:00.5Z"
    assert greatest(["2026-01-01T01:00:00+02:00"], "2026-01-01T00:00:00Z") == "2026-01-01T00:00:00Z"
    assert greatest([9, 10], 8) == 10
    assert greatest([], None) is None


def test_a_time_in_the_future_does_not_make_later_changes_be_missed() -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert greatest(["2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"], None) == "2026-01-01T00:00:00Z"
    assert greatest([soon], "2026-01-01T00:00:00Z") == soon


@pytest.mark.parametrize("values", [["x"], [1, "2026-01-01"], ["2026-01-01", 1], [""]])
def test_what_cannot_be_compared_is_refused(values: list[int | str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        greatest(values, None)


def test_a_span_is_split_into_windows_that_follow_each_other_without_a_gap() -> None:
    assert list(split_window("2026-01-01", "2026-01-04", "1d")) == [
        ("2026-01-01", "2026-01-02"),
        ("2026-01-02", "2026-01-03"),
        ("2026-01-03", "2026-01-04"),
    ]
    assert list(split_window("2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z", "1h")) == [
        ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
        ("2026-01-01T01:00:00Z", "2026-01-01T01:30:00Z"),
    ]
    assert list(split_window("2026-01-01", "2026-01-02", "18h")) == [
        ("2026-01-01", "2026-01-01T18:00:00"),
        ("2026-01-01T18:00:00", "2026-01-02"),
    ]
    assert list(split_window("0", "2500", "1000")) == [("0", "1000"), ("1000", "2000"), ("2000", "2500")]


@pytest.mark.parametrize(
    ("since", "until", "every"),
    [
        ("2026-01-02", "2026-01-01", "1d"),
        ("1", "2026-01-01", "1d"),
        ("0", "9", "0"),
        ("2026-01-01", "2026-01-02", "0d"),
    ],
)
def test_a_span_that_leads_nowhere_is_refused(since: str, until: str, every: str) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        list(split_window(since, until, every))
