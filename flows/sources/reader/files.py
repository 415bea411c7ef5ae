"""Reads declarations, and finds that of a source. Errors name file, line and key, what was expected and what came."""

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.errors import InvalidInputError
from flows.settings import SOURCE_NAME, split_source
from flows.sources.reader.declaration import System, Table, check_base_url
from flows.sources.reader.python_sources import PythonTable

DECLARATIONS = Path(__file__).resolve().parent.parent
"""The folder of the declarations that belong to the project."""
UNSHOWN = {"auth", "base_url", "headers"}
"""Keys under which somebody may have written a secret."""


@dataclass(frozen=True)
class Source:
    """One table that can be read, and the system that it is of."""

    name: str
    """`shop.orders`."""
    file: Path
    table: Table | PythonTable
    system: System | None = None
    """Of a table of an HTTP API."""


class _Loader(yaml.SafeLoader):
    """YAML in which a date stays the text that it is, and a key that comes twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} comes twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def find_source(source: str, folders: Iterable[Path] = (), base_urls: Mapping[str, str] | None = None) -> Source:
    """The declaration of a source, from the project's folder or one of these; a later folder's file wins.

    `base_urls` replaces declared base URLs by system. InvalidInputError if there is no such source.
    """
    system, _ = split_source(source)
    files = declaration_files(folders)
    if system not in files:
        known = ", ".join(sorted(files)) or "none"
        raise InvalidInputError(
            f"source: {source!r} belongs to {system!r}, which no file declares; declared are: {known}. "
            f"Add {DECLARATIONS / system}.yaml, or put it into the folder that BATON_SOURCES names"
        )
    sources = load_file(files[system], base_urls or {})
    if source not in sources:
        raise InvalidInputError(
            f"source: expected a table that {files[system]} declares ({', '.join(sources)}), got {source!r}"
        )
    return sources[source]


def declaration_files(folders: Iterable[Path] = ()) -> dict[str, Path]:
    """The file of each system, `.yaml` or `.py`; InvalidInputError for a folder that is not there or has both."""
    found: dict[str, Path] = {}
    for folder in (DECLARATIONS, *folders):
        if not folder.is_dir():
            raise InvalidInputError(f"BATON_SOURCES: expected a folder, got {folder}")
        here: dict[str, Path] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix in (".yaml", ".py") and SOURCE_NAME.fullmatch(f"{file.stem}.x"):
                if file.stem in here:
                    raise InvalidInputError(f"{file}: {file.stem} is declared by {here[file.stem].name} too; keep one")
                here[file.stem] = file
        found |= here
    return found


def load_file(file: Path, base_urls: Mapping[str, str] | None = None) -> dict[str, Source]:
    """Every source of one file, by name."""
    if file.suffix == ".py":
        return _python_sources(file)
    system = load_system(file)
    if base_urls and file.stem in base_urls:
        system = system.model_copy(update={"base_url": _override(file.stem, base_urls[file.stem])})
    return {
        name: Source(name, file, table, system)
        for table_name, table in system.tables.items()
        for name in [f"{file.stem}.{table_name}"]
    }


def load_system(file: Path) -> System:
    """One YAML file, checked."""
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        given = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInputError(f"{file}:{line}: expected YAML, got this: {error.problem}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{file}: cannot be read: {error}") from error
    try:
        return System.model_validate(given)
    except ValidationError as error:
        lines = [_explain(file, node, details) for details in error.errors(include_url=False)]
        raise InvalidInputError("\n".join(lines)) from None


def _explain(file: Path, node: yaml.Node | None, error: ErrorDetails) -> str:
    """`shop.yaml:12: tables.orders.paginator.type: expected 'offset', ..., got 'ofset'`."""
    context: dict[str, Any] = error.get("ctx", {})
    where = [str(part) for part in error["loc"]]
    if error["type"] == "unknown_key":
        where.append(context["key"])
    elif error["type"].startswith("union_tag"):
        where.append("type")
    line, path = _place(node, where)
    return f"{file}:{line}: {'.'.join(path) or 'the file'}: {_expected(error, context, path)}"


def _expected(error: ErrorDetails, context: dict[str, Any], path: list[str]) -> str:
    came = f"got {type(error['input']).__name__}" if UNSHOWN & set(path) else f"got {str(error['input'])[:80]!r}"
    match error["type"]:
        case "missing":
            return "expected this key, which is missing"
        case "union_tag_not_found":
            return "expected this key, which says of which type this is"
        case "union_tag_invalid":
            return f"expected one of {context['expected_tags']}, got {context['tag']!r}"
        case "unknown_key" | "secret":
            return error["msg"]
        case "value_error":
            said = str(context["error"])
            return said if ", got " in said else f"{said}, {came}"
    expected = (
        error["msg"].replace("Input should be", "expected").replace("String should", "expected a text that should")
    )
    return f"{expected[0].lower()}{expected[1:]}, {came}"


def _place(node: yaml.Node | None, where: list[str]) -> tuple[int, list[str]]:
    """The line of the deepest key on the way that is in the file, and the way as it is in the file."""
    line, path, found = _walk(node, where)
    if where[:1] == ["tables"] and found == 2 and len(where) > 2:
        by_default = _walk(node, ["defaults", *where[2:]])
        if by_default[2] > 1:
            return by_default[:2]
    return line, path


def _walk(node: yaml.Node | None, where: list[str]) -> tuple[int, list[str], int]:
    """Line and way as `_place` gives them, and how many parts of the way are in the file."""
    line, path, found = (node.start_mark.line + 1 if node else 1), [], 0
    for part in where:
        entries = {key.value: (key, value) for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
        if part == "[key]" or ("type" in entries and entries["type"][1].value == part):
            continue  # Pydantic's own: a key of a mapping, and the type of a union.
        path.append(part)
        if part in entries:
            key, node = entries[part]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            key = node = node.value[int(part)]
        else:
            node = None
            continue
        line, found = key.start_mark.line + 1, found + 1
    return line, path, found


def _override(system: str, url: str) -> str:
    try:
        return check_base_url(url)
    except ValueError as error:
        raise InvalidInputError(f"BATON_API_URLS: {system}: {error}") from None


def _python_sources(file: Path) -> dict[str, Source]:
    module = _module(file)
    tables = {value.name: value for value in vars(module).values() if isinstance(value, PythonTable)}
    if not tables:
        raise InvalidInputError(f"{file}: expected functions decorated with @table, found none")
    return {f"{file.stem}.{name}": Source(f"{file.stem}.{name}", file, table) for name, table in tables.items()}


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"baton_source_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Some decorators, such as dlt's, look their module up there.
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidInputError(f"{file}: cannot be imported: {type(error).__name__}: {error}") from error
    return module
