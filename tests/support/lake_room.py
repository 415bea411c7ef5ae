"""A landing and a lake of their own, for flows that run in a test's process or in processes that it starts."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from flows import api, ledger
from flows.landing import Batch, new_batch_id, writing
from flows.settings import PROJECT, Settings
from tests.room import Room


@dataclass(frozen=True)
class LakeRoom(Room):
    """Where a test's batches and tables are."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The result of a query on the lake."""
        with ledger.opened(Settings()) as connection:
            return connection.sql(query).fetchall()

    def land(self, *tables: str, products: int = 12) -> list[Batch]:
        """One more batch of each table of dummyjson."""
        landed = []
        with self.api(products=products) as url:
            for table in tables:
                batch = Batch(Settings().landing_root, f"dummyjson.{table}", new_batch_id(datetime.now(UTC), uuid4()))
                with writing(batch) as writer:
                    for page in api.read_pages(url, table, 100):
                        writer.write(page.records)
                    writer.publish(total=page.total, extracted_at=datetime.now(UTC), flow_run_id=uuid4())
                landed.append(batch)
        return landed

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """A Python program of tests/scale, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", f"tests.scale.{program}", *arguments],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
