"""How far a dbt run is, from the events that dbt fires while it works.

dbt calls `on_event` in its own threads, some eighteen times a node, and waits for it. So it only counts: it writes no
log line and sends nothing. Another thread reads it, and reports.
"""

from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from flows.errors import some

FAILED = ("error", "fail", "runtime error")
"""The statuses of a node that failed, in dbt's words."""


@dataclass
class Progress:
    """One dbt run, as far as it is."""

    total: int = 0
    """How many nodes were selected; 0 until dbt has read the project."""
    done: int = 0
    running: dict[str, None] = field(default_factory=dict)
    """The names of the nodes that run now, in the order they started."""
    failed: SimpleQueue[str | None] = field(default_factory=SimpleQueue)
    """A line for each node that has failed, for one reader; None ends its reading."""

    def on_event(self, event: Any) -> None:
        """Takes one event of dbt (an EventMsg)."""
        name = event.info.name
        if name == "NodeStart":
            self.running[event.data.node_info.node_name] = None
        elif name == "NodeFinished":
            node = event.data.node_info
            self.running.pop(node.node_name, None)
            self.done += 1
            if node.node_status in FAILED:
                what = f"{node.resource_type} {node.node_name}: {node.node_status}"
                self.failed.put(f"{what}: {' '.join(event.data.run_result.message.split())}")
        elif name == "ConcurrencyLine":
            self.total = event.data.node_count

    @property
    def percent(self) -> float:
        """How many of a hundred parts are done."""
        return 100 * self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        """`12 of 70 nodes done, dim_products runs`, and of many that run the first few."""
        if not self.total:
            return "reads the project"
        names = list(self.running)  # One step, so that dbt's threads cannot change it meanwhile.
        verb = "runs" if len(names) == 1 else "run"
        return f"{self.done:,} of {self.total:,} nodes done" + (f", {some(names)} {verb}" if names else "")
