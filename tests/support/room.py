"""A landing and a warehouse of their own, for flows that run in a test's process."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flows.landing.batch import Batch
from flows.landing.names import MANIFEST, RECORDS
from stack.sample_api.server import serving

WITHOUT_PRICES = [{"id": n, "sku": f"{n}", "title": "no price", "category": "x", "images": []} for n in range(1, 21)]
"""Products that no build takes."""


@dataclass(frozen=True)
class Room:
    """Where a test's batches and tables are."""

    landing: Path
    warehouse: Path
    patch: pytest.MonkeyPatch

    @contextmanager
    def api(self, **options: Any) -> Iterator[str]:
        """The sample API as `dummyjson`, for as long as the block runs."""
        with serving(**options) as url:
            self.patch.setenv("BATON_API_URLS", json.dumps({"dummyjson": url}))
            yield url

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The result of a query on the warehouse."""
        with duckdb.connect(str(self.warehouse)) as connection:
            return connection.sql(query).fetchall()


def empty_folder(folder: Path) -> Path:
    """The folder, empty. Rooms always have the same: for another path in its profile dbt parses everything again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def rewrite(batch: Batch, records: list[dict[str, Any]]) -> None:
    """Puts other records into a batch published in a folder and makes the manifest agree: bad data, no damaged file."""
    content = gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode())
    Path(batch.folder, RECORDS).write_bytes(content)
    manifest = json.loads(Path(batch.folder, MANIFEST).read_text())
    manifest |= {"rows": len(records), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    Path(batch.folder, MANIFEST).write_text(json.dumps(manifest))
