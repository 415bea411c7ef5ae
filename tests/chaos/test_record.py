"""The record of the chaos: which pieces count, and what they say."""

import json
from pathlib import Path

import pytest

from tests.chaos import results


def piece(**other: object) -> dict[str, object]:
    return {
        "arm": "baton",
        "behaviour": results.behaviour(),
        "published": 100,
        "lost": 0,
        "doubled": 0,
        "torn": 0,
        "kills": {"server": 7, "worker": 5},
        "runs": {"Completed": 50, "NothingToDo": 100},
        "recovery_seconds": [1.0] * 95 + [30.0] * 5,
        **other,
    }


@pytest.mark.parametrize(
    ("seen", "number", "bound"), [(0, 105, 0.0281), (0, 1000, 0.00299), (13, 19, 0.8525), (1, 10, 0.3942), (5, 5, 1.0)]
)
def test_the_bound_is_that_of_clopper_and_pearson(seen: int, number: int, bound: float) -> None:
    assert results.upper_bound(seen, number) == pytest.approx(bound, abs=0.001)


def test_pieces_of_the_same_code_add_up_and_others_do_not_count(tmp_path: Path) -> None:
    for number, made in enumerate(
        [piece(), piece(lost=1), piece(behaviour="older", lost=50), piece(arm="naive-event")]
    ):
        results.write(tmp_path / f"{number}.json", made)
    lines = results.report(tmp_path).splitlines()
    assert lines[2] == "| this chain | 2 | 200 | 24 | 1 | 0 | 0 | 2.3 % |"
    assert lines[3].startswith("| one file, `emit_event`, an automation | 1 | 100 | 12 | 0 |")
    assert lines[-1].startswith(
        "From publication to the ledger: 1 s in the median, 30 s at the 95th percentile, 30 s at"
    )
    assert lines[-1].endswith("1.5 transforms a batch.")


def test_a_piece_is_replaced_at_once(tmp_path: Path) -> None:
    results.write(tmp_path / "a.json", {"rounds": 1})
    results.write(tmp_path / "a.json", {"rounds": 2})
    assert [json.loads(file.read_text()) for file in tmp_path.iterdir()] == [{"rounds": 2}]


def test_a_change_of_a_flow_is_another_behaviour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    (tmp_path / "flows").mkdir()
    file = tmp_path / "flows" / "extract.py"
    file.write_text("a")
    before = results.behaviour()
    assert results.behaviour() == before
    file.write_text("b")
    assert results.behaviour() != before
