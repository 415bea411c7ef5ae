"""The ids of events: the same for the same event sent again, and different for everything else."""

from uuid import uuid4

from flows.server.events import transform_finished
from flows.warehouse.ledger import Finished

RUN = uuid4()


def test_one_run_that_processes_a_source_twice_sends_two_events() -> None:
    """A retry keeps its run id, and on the lake one run may take a source again."""
    first = transform_finished(Finished("dummyjson.products", RUN, {"a": 1}))
    second = transform_finished(Finished("dummyjson.products", RUN, {"b": 1}))
    assert first.id != second.id


def test_the_same_batches_are_the_same_event_in_whatever_order_they_are_read() -> None:
    batches = {"a": 1, "b": 2}
    first = transform_finished(Finished("dummyjson.products", RUN, batches))
    again = transform_finished(Finished("dummyjson.products", RUN, dict(reversed(batches.items()))))
    other = transform_finished(Finished("dummyjson.carts", RUN, batches))
    assert first.id == again.id != other.id
    assert first.payload == {"source": "dummyjson.products", "batches": ["a", "b"], "rows": 3}
