"""A landing and a warehouse of their own, for flows that run in a test's process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from stack.sample_api import serving


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
