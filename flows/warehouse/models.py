"""Which sources the dbt project has models for."""

from pathlib import Path

from flows.errors import InvalidInputError
from flows.settings import split_source


def refuse_source_without_model(project: Path, source: str) -> None:
    """InvalidInputError unless a base model reads the source: its batches would land, and stop every transform."""
    system, table = split_source(source)
    name = f"base_{system}__{table}.sql"
    models = project / "models"
    if models.is_dir() and not any(models.rglob(name)):
        raise InvalidInputError(
            f"source: expected {name} in {models}, which loads {source}, found none. Nothing was read. "
            f"Write it, or let `baton source new {source}` do that"
        )
