"""What is on a server, as files with names in place of ids."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from .errors import FileExistsAlreadyError
from .files import ACTION_LISTS, NAMED, as_list
from .plan import key_of, normal, readable
from .project import TAG
from .server import Json, Server

DEFAULTS: dict[str, Any] = {
    "description": "",
    "enabled": True,
    "tags": [],
    "actions_on_trigger": [],
    "actions_on_resolve": [],
}
TRIGGER_DEFAULTS: dict[str, Any] = {"match": {}, "match_related": {}, "after": [], "expect": [], "for_each": []}


def export(server: Server, folder: Path, names: Sequence[str], tag: str) -> list[Path]:
    """Writes one file for each automation, or for each of these names; FileExistsAlreadyError before any is written."""
    found = [raw for raw in server.automations() if not names or raw["name"] in names]
    look_up(server, found)
    files: dict[Path, str] = {}
    for raw in found:
        file = free_name(folder, key_of(raw, tag) or slug(raw["name"]), files)
        files[file] = as_yaml(raw, server, tag)
    if taken := [file for file in files if file.exists()]:
        raise FileExistsAlreadyError(
            f"{', '.join(map(str, taken))}: already there; nothing was written; give another --dir, or names"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    return list(files)


def look_up(server: Server, found: Iterable[Json]) -> None:
    """Asks for the name of every id that an action has."""
    actions = [action for raw in found for key in ACTION_LISTS for action in as_list(raw.get(key))]
    for kind, named in NAMED.items():
        server.look_up_ids(kind, [action[named.id_key] for action in actions if action.get(named.id_key)])


def slug(name: str) -> str:
    """A file's name for an automation's."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "automation"


def free_name(folder: Path, key: str, taken: Iterable[Path]) -> Path:
    """A file of that name, with a number where two automations have one name."""
    number, file = 2, folder / f"{key}.yaml"
    while file in taken:
        file, number = folder / f"{key}_{number}.yaml", number + 1
    return file


def as_yaml(raw: Json, server: Server, tag: str) -> str:
    """A file as a person would write it: no ids, no defaults, no tags of this tool."""
    data = readable(normal(raw), server.names)
    data["tags"] = [each for each in data["tags"] if not each.startswith(f"{TAG}:")]
    data = {key: value for key, value in data.items() if DEFAULTS.get(key, ...) != value}
    data["trigger"] = without_defaults(data["trigger"])
    for key in ACTION_LISTS:
        if key in data:
            data[key] = [plain_action(action) for action in data[key]]
    if tag not in raw["tags"]:
        data["adopts"] = raw["id"]
    order = ("name", "description", "enabled", "adopts", "tags", "trigger", *ACTION_LISTS)
    ordered = {key: data[key] for key in order if key in data} | data
    return yaml.dump(escaped(ordered), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=116)


def without_defaults(trigger: Json) -> Json:
    """A trigger without what says nothing; seconds without a fraction."""
    made = {key: value for key, value in trigger.items() if TRIGGER_DEFAULTS.get(key, ...) != value}
    if isinstance(made.get("within"), float) and made["within"].is_integer():
        made["within"] = int(made["within"])
    if "triggers" in made:
        made["triggers"] = [without_defaults(child) for child in made["triggers"]]
    return made


def plain_action(action: Json) -> Json:
    """An action without what is not set; an id that has no name under the key that Prefect has for it."""
    made = {key: value for key, value in action.items() if value is not None}
    if made.get("schedule_after") in (0, 0.0):
        del made["schedule_after"]
    for kind, named in NAMED.items():
        if kind in made and not named.fits(str(made[kind])):
            made[named.id_key] = made.pop(kind)
    return made


def escaped(value: Any) -> Any:
    """Texts with `$${NAME}` for `${NAME}`, which a file would take from the environment."""
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escaped(inner) for inner in value]
    return re.sub(r"(?<!\$)\$\{", "$${", value) if isinstance(value, str) else value


class Dumper(yaml.SafeDumper):
    """Lists indented below their key, and texts of several lines as they read."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


Dumper.add_representer(str, _text)
