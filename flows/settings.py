"""Where things are, from the environment (prefix `BATON_`). Knows nothing of Prefect."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, NonNegativeInt, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from flows.errors import InvalidInputError, cut

PROJECT = Path(__file__).resolve().parent.parent
SOURCE_NAME = re.compile(r"([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)")


def folder_or_url(root: object) -> object:
    """A path, unless it is an fsspec URL such as s3://bucket/landing; ValueError if DuckDB cannot read it literally."""
    is_url = isinstance(root, str) and "://" in root
    if "\\" in str(root) or (is_url and set(str(root)) & set("*?[")):
        raise ValueError(
            "expected a folder without a backslash, or a URL without *, ? and [, which DuckDB would "
            "read as a pattern; move the landing, or mount it under another name"
        )
    return without_credentials(root) if is_url else Path(root) if isinstance(root, str) else root


def without_credentials(url: object) -> object:
    """The URL itself; ValueError for one with credentials in it, because where data are is shown in logs."""
    if isinstance(url, str) and "@" in urlsplit(url).netloc:
        raise ValueError("expected a URL without credentials; those are read from AWS_ACCESS_KEY_ID and its like")
    return url


def urls_by_system(value: object) -> object:
    """BATON_API_URLS, which is JSON in the environment; ValueError, which shows the form, on anything else."""
    try:
        urls = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        urls = None
    if not isinstance(urls, dict) or not all(map(is_http_url, urls.values())):
        got = "a value that may hold a password" if "@" in str(value) else cut(repr(value))
        raise ValueError(
            f'expected JSON with http:// or https:// URLs, {{"dummyjson": "https://dummyjson.com"}}, got {got}'
        )
    return urls


def is_http_url(value: object) -> bool:
    """Whether it is a URL with a host."""
    try:
        parts = urlsplit(str(value))
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # No number where the port is.
        return False


def check_prefect_api_url(url: str | None) -> None:
    """Raises InvalidInputError unless it is a URL: Prefect says so at the first request only, in a traceback."""
    if url and not is_http_url(url):
        raise InvalidInputError(
            f"PREFECT_API_URL: expected a URL such as http://127.0.0.1:4200/api, got {cut(repr(url))}"
        )


def fault_lines(error: ValidationError) -> str:
    """A line a variable for what pydantic says of it; without the value, which may be a secret."""
    lines = []
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] != "default_factory_not_called":  # Because of another fault.
            lines.append(f"BATON_{str(fault['loc'][0]).upper()}: {message}" if fault["loc"] else message)
    return "\n".join(lines)


class Settings(BaseSettings):
    """Read anew for each run, so that a changed environment is never missed.

    Relative paths are relative to the working directory, as everywhere on a command line.
    """

    model_config = SettingsConfigDict(env_prefix="BATON_", hide_input_in_errors=True)

    landing_root: Annotated[Path | str, BeforeValidator(folder_or_url)] = PROJECT / "data" / "landing"
    """The folder, or the URL of an object store, under which extracts publish their batches."""
    warehouse: Path = PROJECT / "data" / "warehouse.duckdb"
    """The DuckDB file that dbt builds and that holds the ledger."""
    published_marts: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = Field(
        default_factory=lambda settings: settings["warehouse"].with_name("marts.duckdb")
    )
    """The DuckDB file that readers open, beside the warehouse by default; empty switches publishing off."""
    kept_publications: NonNegativeInt = 2
    """How many publications before the current one are kept, for rolling back."""
    exports: Path = Field(default_factory=lambda settings: settings["warehouse"].parent)
    """The folder of the marts that are also Parquet files, the warehouse's by default."""
    dbt_project: Path = PROJECT / "dbt"
    """The folder of the dbt project, which also has its profiles.yml."""
    sources: Path | None = None
    """A folder of declarations besides flows/sources; what both declare is read as this one says."""
    api_urls: Annotated[dict[str, str], NoDecode, BeforeValidator(urls_by_system)] = {}
    """Base URLs in place of declared ones, by system, as JSON: {"dummyjson": "http://127.0.0.1:8000"}."""
    warehouse_wait_seconds: float = 60.0
    """How long the transform waits for a warehouse file that another process holds."""
    target: str = "dev"
    """The target in dbt/profiles.yml: `dev` is the DuckDB file, `lake` a DuckLake that many processes may write."""
    lake_catalog: SecretStr | None = None
    """The Postgres database of the lake's catalog, as a postgresql:// URL."""
    lake_data: Annotated[str | None, BeforeValidator(without_credentials)] = None
    """Where the lake's Parquet files are: an s3:// URL, or a folder that all workers share."""

    def __init__(self, **values: Any) -> None:
        """Raises InvalidInputError, with one line a variable that is not what it has to be."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidInputError(fault_lines(error)) from None

    @model_validator(mode="after")
    def published_beside_the_warehouse(self) -> Self:
        """Readers would lock the warehouse, and DuckDB would open it in place of what is published."""
        if self.published_marts is not None and self.published_marts.absolute() == self.warehouse.absolute():
            raise ValueError("BATON_PUBLISHED_MARTS: expected another file than BATON_WAREHOUSE, got the same")
        return self

    def waiting_at_most(self, seconds: float) -> Self:
        """The same settings, for who would rather leave a warehouse that another process holds."""
        return self.model_copy(update={"warehouse_wait_seconds": min(self.warehouse_wait_seconds, seconds)})

    @property
    def source_folders(self) -> list[Path]:
        """Where declarations are, besides flows/sources."""
        return [] if self.sources is None else [self.sources]

    @property
    def on_lake(self) -> bool:
        """Whether the warehouse is a DuckLake."""
        return self.target == "lake"

    @property
    def lake(self) -> tuple[str, str]:
        """The lake's catalog and data; InvalidInputError if the target is `lake` and one of them was not given."""
        if self.lake_catalog is None or self.lake_data is None:
            raise InvalidInputError(
                "BATON_TARGET=lake: expected BATON_LAKE_CATALOG, a URL such as postgresql://user@host/database, and "
                "BATON_LAKE_DATA, such as s3://bucket/lake or a folder; set both, or leave BATON_TARGET out"
            )
        return self.lake_catalog.get_secret_value(), self.lake_data


def split_source(source: str) -> tuple[str, str]:
    """`dummyjson.products` -> `("dummyjson", "products")`; InvalidInputError on anything that is not a source name.

    A source name becomes a folder and a dbt selector, so nothing else may pass.
    """
    match = SOURCE_NAME.fullmatch(source) if isinstance(source, str) else None
    if match is None:
        raise InvalidInputError(
            f"source: expected a name such as 'dummyjson.products' ([a-z][a-z0-9_]* twice, joined by a dot), "
            f"got {cut(repr(source))}"
        )
    return match[1], match[2]
