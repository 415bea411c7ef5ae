"""`baton source check`: whether everything that a deployed source needs is there, before the night finds out."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel

from flows.errors import InvalidInputError
from flows.settings import split_source
from flows.sources.reader.declaration import Secret
from flows.sources.reader.files import Source, find_source
from flows.sources.reader.scaffold import deployed_sources


def check_sources(
    prefect_yaml: Path,
    dbt_project: Path,
    folders: Iterable[Path] = (),
    base_urls: Mapping[str, str] | None = None,
    *,
    only: str | None = None,
    environments: Collection[Mapping[str, str]] = (os.environ,),
) -> list[str]:
    """What deployed sources, or `only` this one, lack or contradict, a line each; none if all is right.

    Secrets must be set in each of the environments, those of the workers. Without any they are not looked for.
    """
    folders = list(folders)
    names = list(dict.fromkeys(deployed_sources(prefect_yaml.read_text())))
    if only is not None and only not in names:
        return [f"{only}: expected a deployment in {prefect_yaml}, found none; `baton source new {only}` writes it"]
    problems: list[str] = []
    for name in names if only is None else [only]:
        try:
            source = find_source(name, folders, base_urls)
        except InvalidInputError as error:
            problems.append(f"{name}: {error}")
            continue
        problems += [
            f"{name}: {problem}" for problem in (*_secrets(source, environments), *_models(source, dbt_project))
        ]
    return problems


def _secrets(source: Source, environments: Collection[Mapping[str, str]]) -> Iterator[str]:
    """Secrets in environment variables that are not set; of a Prefect Secret block only a flow can ask."""
    for secret in secrets_in(source.system):
        if secret.env and not all(environment.get(secret.env) for environment in environments):
            yield f"expected a secret in {secret}, which is not set; set it where extracts run"


def secrets_in(value: object) -> Iterator[Secret]:
    """Every secret that a declaration names."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from secrets_in(inner)


def _models(source: Source, dbt_project: Path) -> Iterator[str]:
    system, table = split_source(source.name)
    models = dbt_project / "models"
    hint = f"`baton source new {source.name}` writes it"
    for suffix in ("_manifests", ""):
        if not any(models.rglob(f"base_{system}__{table}{suffix}.sql")):
            yield f"expected the base model base_{system}__{table}{suffix}.sql in {models}, found none; {hint}"
    declared = _declared(models, system, table)
    if declared is None:
        yield f"expected the dbt source {source.name} in a __sources.yml, found none; {hint}"
    elif declared != list(source.table.primary_key):
        ours = list(source.table.primary_key)
        yield f"primary_key is {ours} in {source.file.name}, but {declared} in the dbt source; make them the same"


def _declared(models: Path, system: str, table: str) -> list[str] | None:
    """The primary key that dbt knows; None if it does not know the source."""
    for file in models.rglob("*.yml"):
        for source in (yaml.safe_load(file.read_text()) or {}).get("sources") or []:
            for known in source.get("tables") or [] if source.get("name") == system else []:
                if known.get("name") == table:
                    key = ((known.get("config") or {}).get("meta") or {}).get("primary_key") or []
                    return [key] if isinstance(key, str) else list(key)
    return None
