"""Where things are, from the environment (prefix `BATON_`). Knows nothing of Prefect."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent
SOURCE_NAME = re.compile(r"([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)")


def folder_or_url(root: object) -> object:
    """A path, unless it is an fsspec URL such as s3://bucket/landing."""
    return Path(root) if isinstance(root, str) and "://" not in root else root


class Settings(BaseSettings):
    """Read anew for each run, so that a changed environment is never missed.

    Relative paths are relative to the working directory, as everywhere on a command line.
    """

    model_config = SettingsConfigDict(env_prefix="BATON_")

    landing_root: Annotated[Path | str, BeforeValidator(folder_or_url)] = PROJECT / "data" / "landing"
    """The folder, or the URL of an object store, under which extracts publish their batches."""
    warehouse: Path = PROJECT / "data" / "warehouse.duckdb"
    """The DuckDB file that dbt builds and that holds the ledger."""
    api_urls: dict[str, str] = {"dummyjson": "https://dummyjson.com"}
    """Base URL of each source's API, as JSON: `dummyjson.products` is read from <its URL>/products."""
    warehouse_wait_seconds: float = 60.0
    """How long the transform waits for a warehouse file that another process holds."""
    target: str = "dev"
    """The target in dbt/profiles.yml: `dev` is the DuckDB file, `lake` a DuckLake that many processes may write."""
    lake_catalog: SecretStr | None = None
    """The Postgres database of the lake's catalog, as a postgresql:// URL."""
    lake_data: str | None = None
    """Where the lake's Parquet files are: an s3:// URL, or a folder that all workers share."""

    @property
    def on_lake(self) -> bool:
        """Whether the warehouse is a DuckLake."""
        return self.target == "lake"

    @property
    def lake(self) -> tuple[str, str]:
        """The lake's catalog and data; ValueError if the target is `lake` and one of them was not given."""
        if self.lake_catalog is None or self.lake_data is None:
            raise ValueError(
                "BATON_TARGET=lake: expected BATON_LAKE_CATALOG, a URL such as postgresql://user@host/database, and "
                "BATON_LAKE_DATA, such as s3://bucket/lake or a folder; set both, or leave BATON_TARGET out"
            )
        return self.lake_catalog.get_secret_value(), self.lake_data


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
