"""Results add up, and lose nothing."""

from pathlib import Path

from flows.errors import BuildError
from flows.landing.batch import Batch
from flows.processing.result import ProcessingResult, failed
from flows.warehouse.dbt import Node

NODE, OTHER = Node("a", "model", "success", 0.1, None), Node("b", "model", "success", 0.1, None)
BATCH = Batch(Path(), "dummyjson.products", "20261124T120000Z-000000000001")


def test_a_sum_has_everything_of_both_and_the_nodes_of_the_last_build() -> None:
    first = ProcessingResult(quarantined={BATCH: "damaged"}, nodes=(NODE,), locked=frozenset({"a.b"}))
    error = BuildError("x")
    both = first + failed({"c.d"}, error)
    assert (both.quarantined, both.nodes, both.locked) == ({BATCH: "damaged"}, (NODE,), frozenset({"a.b"}))
    assert both.failed_sources == {"c.d"}
    assert (both + ProcessingResult(nodes=(OTHER,))).nodes == (OTHER,)


def test_nothing_added_is_nothing_changed() -> None:
    result = failed({"c.d"}, BuildError("x"))
    assert result + ProcessingResult() == ProcessingResult() + result == result
