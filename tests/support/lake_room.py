"""A landing and a lake of their own, for flows that run in a test's process or in processes that it starts."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from flows.landing.batch import Batch
from flows.landing.names import new_batch_id
from flows.landing.writer import open_writer
from flows.settings import PROJECT, Settings
from flows.sources.reader.files import find_source
from flows.sources.reader.reading import read_source
from flows.warehouse.connection import connect
from tests.support.room import Room


@dataclass(frozen=True)
class LakeRoom(Room):
    """Where a test's batches and tables are."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The result of a query on the lake."""
        with connect(Settings()) as connection:
            return connection.sql(query).fetchall()

    def land(self, *tables: str, products: int = 12) -> list[Batch]:
        """One more batch of each table of dummyjson."""
        landed = []
        with self.api(products=products):
            for table in tables:
                batch = Batch(Settings().landing_root, f"dummyjson.{table}", new_batch_id(datetime.now(UTC), uuid4()))
                source = find_source(batch.source, base_urls=Settings().api_urls)
                with open_writer(batch) as writer:
                    for page in read_source(source):
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
