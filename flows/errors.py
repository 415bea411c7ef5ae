"""Every error that Baton raises, as one tree. Each message says what was expected, what came and what to do.

BatonError
├── InvalidInputError (ValueError)   a parameter, a setting or a declaration is not what it has to be
├── ApiError                         a source could not be read
│   └── ApiChangedError              its data changed while it was read; reading again may help
├── LandingError                     the landing as a whole cannot be read or written
│   └── LandingPrunedError           a full refresh would lose batches that the landing no longer has
├── BatchError                       one batch is not what its manifest says, or its content cannot be built
├── WarehouseError                   the warehouse cannot be used; every batch stays pending
│   ├── SchemaVersionError           newer code has been at work in it
│   ├── PublishingError              the marts are built and in the ledger, but readers still see the ones before
│   └── WarehouseBusyError           another process is at work in it
│       └── ConflictError            another process changed the same in the lake, and was first
├── BuildError                       dbt did not do all that it was asked to; every batch stays pending
│   └── DataError                    because of what a batch holds: its checks or its casts failed
├── ServerError                      the Prefect server did not answer, or refused
│   └── NotFoundError                it has no object of that name
├── HandoffError                     the batch is published, but the transform could not be started
├── ChildRunError                    a child run did not complete
└── NoHeartbeatError                 no event of this run arrived, so silence proves nothing
"""

import re
from collections.abc import Sequence
from typing import Any

LINES_SHOWN = 20
NAMES_SHOWN = 3
"""So many lines of a list are in a message."""
MACHINE_FAULTS = {
    re.compile(pattern): advice
    for pattern, advice in {
        r"No space left on device|Disk quota exceeded|File too large": "the disk is full; free space, or move what is "
        "named here to a larger disk",
        r"Out of Memory Error|Cannot allocate memory|MemoryError|std::bad_alloc": "the memory did not suffice; give "
        "the worker more, or run fewer things beside it",
        r"Permission denied|Operation not permitted": "the user of this process may not do that; give it the right to",
        r"Read-only file system": "the disk can only be read; mount it for writing",
        r"Too many open files": "too many files are open in this process; raise its limit (ulimit -n)",
        r"Input/output error": "the disk could not be read or written; look at the system's log",
    }.items()
}
"""How the system, Python and DuckDB say that a machine is at its limits, and what to do."""


class BatonError(Exception):
    """The root: whoever catches it catches everything that Baton raises on purpose."""

    nodes: tuple[Any, ...] = ()
    """What dbt did before it failed, a `flows.warehouse.dbt.Node` each."""


class InvalidInputError(BatonError, ValueError):
    """A parameter, a setting or a declaration is not what it has to be."""


class ApiError(BatonError):
    """A source could not be read; the message says which request, what was expected and what came."""


class ApiChangedError(ApiError):
    """The pages do not belong together: the data changed while they were read. Reading again may help."""


class LandingError(BatonError):
    """The landing as a whole cannot be read or written; nothing can be said of its batches."""


class LandingPrunedError(LandingError):
    """A full refresh would lose batches that the warehouse holds and the landing no longer does."""


class BatchError(BatonError):
    """A batch in the landing is not what its manifest says; the message names the file."""


class WarehouseError(BatonError):
    """The warehouse cannot be used; nothing was changed, and what is pending stays so."""


class SchemaVersionError(WarehouseError):
    """The warehouse was migrated by newer code, and this code would misread it."""


class PublishingError(WarehouseError):
    """The marts are built and in the ledger, but could not be published; the next transform publishes them."""


class WarehouseBusyError(WarehouseError):
    """Another process is at work in the warehouse."""


class ConflictError(WarehouseBusyError):
    """Another process changed the same in the lake, and was first; trying again is right."""


class BuildError(BatonError):
    """dbt did not do all that it was asked to; the message names the nodes that failed."""


class DataError(BuildError):
    """What a batch holds made dbt fail. Only this counts against a batch: a full disk or a broken model never does."""


class ServerError(BatonError):
    """The Prefect server did not answer, or did not do what it was asked to."""


class NotFoundError(ServerError):
    """The Prefect server has no object of that name."""


class HandoffError(BatonError):
    """The batch is published, but its event could not be sent, or the transform not started. The batch is safe."""


class ChildRunError(BatonError):
    """A child run did not complete; the message names it, its state and what the state says."""


class NoHeartbeatError(BatonError):
    """No event of this run arrived while others were waited for, so their silence proves nothing."""


def machine_fault(text: str) -> str | None:
    """What is wrong with the machine, and what to do, if that is what a message says."""
    return next((advice for words, advice in MACHINE_FAULTS.items() if words.search(text)), None)


def cut(text: str, limit: int = 80) -> str:
    """What came, for a message: no longer than a person reads."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def counted(number: int, one: str, many: str) -> str:
    """`1 batch`, `2 batches`, `20,000 batches`."""
    return f"{number:,} {one if number == 1 else many}"


def some(names: Sequence[str]) -> str:
    """`a, b, c`, and of many the first few: `a, b, c and 4 more`."""
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def some_lines(lines: Sequence[str]) -> str:
    """The lines below each other, and of many the first few."""
    more = [f"and {len(lines) - LINES_SHOWN:,} more"] if len(lines) > LINES_SHOWN else []
    return "\n".join([*lines[:LINES_SHOWN], *more])
