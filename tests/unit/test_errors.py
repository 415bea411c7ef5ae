"""What goes into a message is counted in English, and no longer than a person reads."""

from flows.errors import LINES_SHOWN, counted, some, some_lines


def test_one_is_singular_and_thousands_are_grouped() -> None:
    assert [counted(number, "batch", "batches") for number in (0, 1, 20000)] == [
        "0 batches",
        "1 batch",
        "20,000 batches",
    ]


def test_of_many_lines_the_first_few_are_shown_and_the_others_counted() -> None:
    lines = [str(number) for number in range(20000)]
    assert some_lines(lines[:LINES_SHOWN]).splitlines() == lines[:LINES_SHOWN]
    assert some_lines(lines).splitlines() == [*lines[:LINES_SHOWN], "and 19,980 more"]


def test_of_many_names_the_first_few_are_shown() -> None:
    assert some([]) == ""
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some([f"n{number}" for number in range(20_000)]) == "n0, n1, n2 and 19,997 more"
