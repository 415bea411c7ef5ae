"""How batches and their files are named."""

import re
from datetime import UTC, datetime
from uuid import UUID

from flows.errors import InvalidInputError

RECORDS = "records.jsonl.gz"
MANIFEST = "manifest.json"
NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Of a source's system, and of its table."""
BATCH_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")


def new_batch_id(scheduled_at: datetime, flow_run_id: UUID) -> str:
    """Sorts by time, and is the same for every retry of one flow run, since both arguments are.

    The last twelve digits of the run's id are random in every version of UUID; the first are a clock in v7.
    """
    return f"{scheduled_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{flow_run_id.hex[-12:]}"


def batch_time(batch_id: str) -> datetime:
    """When the run of a batch was scheduled, as its id says."""
    return datetime.strptime(batch_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def check_batch_id(batch_id: str) -> str:
    """The id itself; InvalidInputError on anything that is not one, because it becomes the name of a folder."""
    if not (isinstance(batch_id, str) and BATCH_ID.fullmatch(batch_id)):
        raise InvalidInputError(
            f"batch_id: expected an id such as '20261124T000000Z-0123456789ab', got {str(batch_id)[:80]!r}"
        )
    return batch_id
