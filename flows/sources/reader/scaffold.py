"""`baton source new`: what dbt and Prefect need to know of a source, written from one page of it.

Files that are there are never overwritten. To the two that belong to several sources, `__sources.yml` and
`prefect.yaml`, a block is added at the end, so that every comment stays.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import yaml

from flows.errors import InvalidInputError
from flows.settings import split_source
from flows.sources.reader.columns import Column, columns_of
from flows.sources.reader.look import Look

NEW_SOURCES = """\
# `columns` are the keys that the source is known to send. A model reads those with a data_type; a key that is not here,
# or one from here that no record has, is a warning that names it.
sources:
  - name: {system}
    description: The API of {system}, as the extract flow has landed it.
    config:
      meta:
        # What `source()` reads when somebody queries it by hand.
        external_location: "{location}"
        formatter: oldstyle
      freshness:
        warn_after: {{count: 26, period: hour}}
        error_after: {{count: 50, period: hour}}
    tables:
"""
MANIFESTS = """\
{{{{ config(pre_hook="{{{{ delete_quarantined_batches('{source}') }}}}") }}}}

{{{{ landed_manifests(source('{system}', '{table}')) }}}}
"""
RECORDS = """\
{{{{ config(pre_hook="{{{{ delete_batches_without_manifest(ref('{base}_manifests')) }}}}") }}}}

{{{{ landed_records(source('{system}', '{table}'), ref('{base}_manifests')) }}}}
"""
BATCHES = """\
{{{{ config(
    incremental_strategy='delete+insert',
    unique_key='_batch_id',
    pre_hook="{{{{ delete_batches_without_manifest(ref('{base}_manifests')) }}}}",
) }}}}

{{{{ loaded_batches(ref('{base}_manifests'), ref('{base}')) }}}}
"""
BASE_YML = """\
models:
  - name: {base}_manifests
    description: The landed batches of {source} as their manifests say; one row a batch that is not in quarantine.
  - name: {base}
    description: Every record of every landed batch of {source}, as the source sent it.
  - name: {base}_batches
    description: What was found in each batch of {source} when it was loaded.
    data_tests:
      - batches_are_sound:
          name: {system}_{table}_batches_are_sound
          arguments: {{source_name: {system}, table_name: {table}}}
      - batches_are_as_usual:
          name: {system}_{table}_batches_are_as_usual
          arguments: {{source_name: {system}, table_name: {table}}}
          config: {{severity: warn}}
"""
STAGING = """\
with

source as (

    {{{{ typed_records('{source}') }}}}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        _row_number,
        {columns}
    from source

)

select * from renamed
"""
DEPLOYMENT = """
  - <<: *extract
    name: {deployment}
    tags: [baton, "source:{source}"]
    description: Reads {source}; the automation transform_when_extract_finishes starts the transform.
    parameters: {{source: {source}, handoff: event}}
    schedules: *nightly
"""


def write_models(look: Look, dbt_project: Path, prefect_yaml: Path) -> list[Path]:
    """Writes everything that the source still lacks; what was written or added to. InvalidInputError for no records."""
    columns = columns_of(look.records)
    if not columns:
        raise InvalidInputError(f"{look.source.name}: expected records to see its columns from, got a page without any")
    source = look.source.name
    system, table = split_source(source)
    models = dbt_project / "models"
    names = {"source": source, "system": system, "table": table, "base": f"base_{system}__{table}"}
    base, staging = models / "base" / system, models / "staging" / system
    texts = {
        base / f"{names['base']}_manifests.sql": MANIFESTS.format(**names),
        base / f"{names['base']}.sql": RECORDS.format(**names),
        base / f"{names['base']}_batches.sql": BATCHES.format(**names),
        base / f"{names['base']}.yml": BASE_YML.format(**names),
        staging / f"stg_{system}__{table}.sql": staging_model(source, columns),
        staging / f"stg_{system}__{table}.yml": staging_yml(source, columns, look.source.table.primary_key),
    }
    written = [path for path, text in texts.items() if _write_new(path, text)]
    return [
        *_declare(base / "__sources.yml", models, look, columns),
        *written,
        *_deploy(prefect_yaml, source),
    ]


def staging_model(source: str, columns: Sequence[Column]) -> str:
    """A view that only renames; the casts are in `typed_records`, by the types of `__sources.yml`."""
    lines = [
        key if key == alias else '"{}" as {}'.format(key.replace('"', '""'), alias)
        for key, alias in aliases(source, columns).items()
    ]
    return STAGING.format(source=source, columns=",\n        ".join(lines))


def aliases(source: str, columns: Sequence[Column]) -> dict[str, str]:
    """The staging model's name of each typed key outside of lists: snake_case, `id` as `<entity>_id`."""
    _, table = split_source(source)
    reserved = reserved_words()
    found: dict[str, str] = {}
    for column in columns:
        if column.data_type is None or "[]" in column.name:
            continue
        alias = f"{table.removesuffix('s')}_id" if column.name == "id" else snake_case(column.name)
        while alias in found.values() or alias in reserved:
            alias += "_"
        found[column.name] = alias
    return found


def reserved_words() -> set[str]:
    """Words of DuckDB that name no column."""
    with duckdb.connect() as connection:
        rows = connection.sql(
            "select keyword_name from duckdb_keywords() where keyword_category = 'reserved'"
        ).fetchall()
    return {word for (word,) in rows}


def snake_case(name: str) -> str:
    """`customer.firstName` -> `customer_first_name`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = re.sub(r"\W+", "_", words).strip("_").lower()
    return plain if plain and not plain[0].isdigit() else f"_{plain}"


def staging_yml(source: str, columns: Sequence[Column], primary_key: Sequence[str]) -> str:
    """The view's columns, described, and its key tested."""
    system, table = split_source(source)
    described: list[dict[str, Any]] = [
        {"name": "_batch_id", "description": "The batch that the row came with."},
        {"name": "_extracted_at", "description": "When the batch had been read from the source, UTC."},
        {"name": "_row_number", "description": "Position of the record in its batch, from 1."},
    ]
    for key, alias in aliases(source, columns).items():
        tests = {"data_tests": ["not_null"]} if key in primary_key else {}
        described.append({"name": alias, "description": f"`{key}` of the record.", **tests})
    model = {
        "name": f"stg_{system}__{table}",
        "description": f"{source}, one row a record and batch.",
        "columns": described,
    }
    return _yaml({"models": [model]}, 0)


def _declare(file: Path, models: Path, look: Look, columns: Sequence[Column]) -> list[Path]:
    """Adds the table to the system's `__sources.yml`, which is made if there is none."""
    system, table = split_source(look.source.name)
    node: dict[str, Any] = {
        "name": table,
        "description": f"{table} of {system}, as they were sent.",
        "config": {
            "loaded_at_query": f"select max(_extracted_at) from base.base_{system}__{table}_manifests",
            "meta": {"primary_key": list(look.source.table.primary_key)},
        },
        "columns": [
            {"name": column.name, **({"data_type": column.data_type} if column.data_type else {})} for column in columns
        ],
    }
    text = file.read_text() if file.exists() else NEW_SOURCES.format(system=system, location=_location(models, system))
    if table in _tables(text):
        return []
    _add(file, text, _yaml([node], 6), lambda added: table in _tables(added))
    return [file]


def _location(models: Path, system: str) -> str:
    """As the first system of the project has it, which knows how the landing is read."""
    for other in sorted(models.glob("base/*/__sources.yml")):
        if match := re.search(r'external_location: "(.*)"$', other.read_text(), re.M):
            return match[1].replace(f"/{other.parent.name}/", f"/{system}/")
    raise InvalidInputError(
        f"{models}/base: expected a system whose __sources.yml has an external_location, found none"
    )


def _tables(text: str) -> list[str]:
    content = yaml.safe_load(text) or {}
    return [table["name"] for source in content.get("sources") or [] for table in source.get("tables") or []]


def _deploy(file: Path, source: str) -> list[Path]:
    text = file.read_text()
    if source in deployed_sources(text):
        return []
    name = "-".join(split_source(source)).replace("_", "-")
    block = DEPLOYMENT.format(deployment=name, source=source)
    _add(file, text.rstrip("\n") + "\n", block, lambda added: source in deployed_sources(added))
    return [file]


def deployed_sources(text: str) -> list[str]:
    """The sources that the deployments of a prefect.yaml extract."""
    deployments = (yaml.safe_load(text) or {}).get("deployments") or []
    return [
        deployment["parameters"]["source"]
        for deployment in deployments
        if "extract" in str(deployment.get("entrypoint")) and "source" in (deployment.get("parameters") or {})
    ]


def _add(file: Path, text: str, block: str, holds: Any) -> None:
    """Adds the block at the end; InvalidInputError, and no change, where it would not belong there."""
    try:
        added = holds(text + block)
    except (yaml.YAMLError, KeyError, TypeError):
        added = False
    if not added:
        raise InvalidInputError(f"{file}: the list to add to is not at its end; put this where it belongs:\n{block}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + block)


def _write_new(path: Path, text: str) -> bool:
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def _yaml(value: Any, indent: int) -> str:
    class Dumper(yaml.SafeDumper):
        """Indents the items of lists, as everywhere in the project."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    text = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"{' ' * indent}{line}" for line in text.splitlines(keepends=True))
