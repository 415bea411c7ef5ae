"""What goes into processing and what comes out: the run that does it, and its result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from logging import Logger, LoggerAdapter
from typing import Any

from flows.errors import BatonError, some
from flows.landing.batch import Batch
from flows.warehouse.dbt import Node
from flows.warehouse.ledger import Arrival, Entry, Key


@dataclass(frozen=True)
class TransformRun:
    """Who processes: the id of the flow run, when it started (with a zone), and where it logs. Needs no flow."""

    id: str
    started_at: datetime
    logger: Logger | LoggerAdapter[Any]


@dataclass(frozen=True)
class Failure:
    """Sources whose pending batches stay pending, and why."""

    sources: frozenset[str]
    error: Exception
    batches: Mapping[Key, int] = field(default_factory=dict)
    """The batches that stay pending, where known, each with its failed builds; 0 if this one does not count."""


@dataclass(frozen=True)
class ProcessingResult:
    """What was done: the ledger's new entries, what went into quarantine and why, and what failed. Results add up."""

    entries: tuple[Entry, ...] = ()
    quarantined: Mapping[Batch, str] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    """Of the last dbt build."""
    failures: tuple[Failure, ...] = ()
    locked: frozenset[str] = frozenset()
    """Sources with pending batches that were left, because other transforms hold their locks."""
    arrivals: Mapping[Key, Arrival] = field(default_factory=dict)
    """How the processed batches compare with those before."""

    def __add__(self, later: "ProcessingResult") -> "ProcessingResult":
        return ProcessingResult(
            self.entries + later.entries,
            {**self.quarantined, **later.quarantined},
            later.nodes or self.nodes,
            self.failures + later.failures,
            self.locked | later.locked,
            {**self.arrivals, **later.arrivals},
        )

    @property
    def nodes_to_show(self) -> tuple[Node, ...]:
        """Those of the builds that failed, or else of the last build."""
        errors = [failure.error for failure in self.failures]
        return tuple(node for error in errors if isinstance(error, BatonError) for node in error.nodes) or self.nodes

    @property
    def processed(self) -> set[Key]:
        """The batches that went into the ledger."""
        return {(entry.source, entry.batch_id) for entry in self.entries}

    @property
    def failed_sources(self) -> set[str]:
        """The sources of all failures."""
        return {source for failure in self.failures for source in failure.sources}


def failed(sources: Iterable[str], error: Exception, batches: Mapping[Key, int] | None = None) -> ProcessingResult:
    """The result of a build that failed; see `Failure` for its batches."""
    return ProcessingResult(failures=(Failure(frozenset(sources), error, batches or {}),))


def some_names(keys: Iterable[Key]) -> str:
    """`dummyjson.carts 2026…, dummyjson.users 2026…`, and of many batches the first few."""
    return some([" ".join(key) for key in keys])
