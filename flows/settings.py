"""Where things are, from the environment (prefix `BATON_`). Knows nothing of Prefect."""

import re
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent
SOURCE_NAME = re.compile(r"([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)")


class Settings(BaseSettings):
    """Read anew for each run, so that a changed environment is never missed.

    Relative paths are relative to the working directory, as everywhere on a command line.
    """

    model_config = SettingsConfigDict(env_prefix="BATON_")

    landing_root: Path = PROJECT / "data" / "landing"
    """The folder under which extracts publish their batches."""
    warehouse: Path = PROJECT / "data" / "warehouse.duckdb"
    """The DuckDB file that dbt builds and that holds the ledger."""
    api_urls: dict[str, str] = {"dummyjson": "https://dummyjson.com"}
    """Base URL of each source's API, as JSON: `dummyjson.products` is read from <its URL>/products."""
    warehouse_wait_seconds: float = 60.0
    """How long the transform waits for a warehouse file that another process holds."""


def split_source(source: str) -> tuple[str, str]:
    """`dummyjson.products` -> `("dummyjson", "products")`; ValueError on anything that is not a source name.

    A source name becomes a folder and a dbt selector, so nothing else may pass.
    """
    match = SOURCE_NAME.fullmatch(source) if isinstance(source, str) else None
    if match is None:
        raise ValueError(
            f"source: expected a name such as 'dummyjson.products' ([a-z][a-z0-9_]* twice, joined by a dot), "
            f"got {source!r}"
        )
    return match[1], match[2]
