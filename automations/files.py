"""One automation a YAML file, in Prefect's own schema, with names where Prefect wants ids.

Reads the files with line numbers and holds them against the server's own models. Prefect ignores keys that it does
not know; here they are errors, since a misspelt `within` is an automation that does something else.
"""

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import NAMESPACE_URL, UUID, uuid5

import yaml
from prefect.server.events.actions import ServerActionTypes
from prefect.server.events.schemas.automations import AutomationCreate, CompositeTrigger, ServerTriggerTypes
from pydantic import BaseModel, ValidationError

Location = tuple[str | int, ...]
"""Keys and positions from the top of a file: ("actions", 0, "parameters")."""

TRIGGERS: dict[str, type[BaseModel]] = {
    kind.model_fields["type"].default: kind for kind in get_args(ServerTriggerTypes)
}
ACTIONS: dict[str, type[BaseModel]] = {kind.model_fields["type"].default: kind for kind in get_args(ServerActionTypes)}
ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")


@dataclass(frozen=True)
class NamedKind:
    """A key that names something of which Prefect wants the id."""

    id_key: str
    form: str

    def fits(self, name: str) -> bool:
        """Whether the name has the form."""
        parts = name.split("/") if "/" in self.form else [name]
        return len(parts) == self.form.count("/") + 1 and all(parts)


NAMED = {
    "deployment": NamedKind("deployment_id", "flow/deployment"),
    "automation": NamedKind("automation_id", "name"),
    "work_pool": NamedKind("work_pool_id", "name"),
    "work_queue": NamedKind("work_queue_id", "pool/queue"),
    "block": NamedKind("block_document_id", "type/name"),
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, and where."""

    file: Path
    line: int
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


@dataclass(frozen=True)
class Reference:
    """A name in a file: where it stands, what kind of thing it names, and the name."""

    location: Location
    kind: str
    name: str


@dataclass(frozen=True)
class Described:
    """One automation as its file has it."""

    file: Path
    data: dict[str, Any]
    lines: dict[Location, int]

    @property
    def name(self) -> str:
        return str(self.data.get("name", self.file.stem))

    def problem(self, location: Location, message: str, severity: Literal["error", "warning"] = "error") -> Problem:
        """A problem at that place, or at the nearest one around it that has a line."""
        while location not in self.lines and location:
            location = location[:-1]
        return Problem(self.file, self.lines.get(location, 1), message, severity)

    def references(self) -> list[Reference]:
        """Every name that stands for an id."""
        return [
            Reference((*location, key), key, action[key])
            for location, action in self.actions()
            for key in NAMED
            if isinstance(action.get(key), str)
        ]

    def actions(self) -> list[tuple[Location, dict[str, Any]]]:
        """Every action, with its place."""
        return [
            ((key, position), action)
            for key in ACTION_LISTS
            for position, action in enumerate(listed(self.data.get(key)))
            if isinstance(action, dict)
        ]

    def triggers(self) -> list[tuple[Location, dict[str, Any]]]:
        """Every trigger, with its place; those within others, too, in the order in which Prefect goes through them."""

        def within(place: Location, trigger: Any) -> list[tuple[Location, dict[str, Any]]]:
            if not isinstance(trigger, dict):
                return []
            inner = enumerate(listed(trigger.get("triggers")))
            return [(place, trigger)] + [
                found for position, child in inner for found in within((*place, "triggers", position), child)
            ]

        return within(("trigger",), self.data.get("trigger"))

    def resolved(self, id_of: Callable[[str, str], UUID]) -> dict[str, Any]:
        """What Prefect takes: ids, as `id_of(kind, name)` gives them, in place of names."""
        data = copy.deepcopy(self.data)
        for reference in self.references():
            *way, key = reference.location
            action: Any = data
            for step in way:
                action = action[step]
            del action[str(key)]
            action[NAMED[reference.kind].id_key] = str(id_of(reference.kind, reference.name))
        return data

    def automation(self) -> AutomationCreate:
        """The server's model of it, with made-up ids; pydantic's ValidationError if it is not valid."""
        return AutomationCreate.model_validate(self.resolved(made_up_id))


def listed(value: Any) -> list[Any]:
    """The value if it is a list; a file can have anything in that place."""
    return value if isinstance(value, list) else []


def made_up_id(kind: str, name: str) -> UUID:
    """The same for the same name; for offline checks, where no server knows the real one."""
    return uuid5(NAMESPACE_URL, f"{kind}/{name}")


def read(files: Iterable[Path]) -> tuple[list[Described], list[Problem]]:
    """The automations of the files, and what is wrong with their form."""
    found: list[Described] = []
    problems: list[Problem] = []
    for file in sorted({file.resolve(): file for file in files}.values()):
        described, wrong = read_one(file)
        problems += wrong
        if described is not None:
            found.append(described)
            problems += check_schema(described)
    first: dict[str, Described] = {}
    for described in found:
        if "name" in described.data and first.setdefault(described.name, described) is not described:
            message = f"name: {described.name!r} is also the name in {first[described.name].file.name}"
            problems.append(described.problem(("name",), message))
    return found, problems


def read_one(file: Path) -> tuple[Described | None, list[Problem]]:
    """A file as it stands; None and the reason if it is not a YAML mapping."""
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Location, int] = {}
        twice = list(find_lines(node, (), lines)) if node else []
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        return None, [Problem(file, 1, f"cannot be read: {error}")]
    except RecursionError:
        return None, [Problem(file, 1, "not YAML of this kind: a part of it contains itself")]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line if mark else 0
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        hint = (
            "; a template that begins a value needs quotes"
            if "{{" in "".join(text.splitlines()[line : line + 1])
            else ""
        )
        return None, [Problem(file, line + 1, f"not YAML: {said}{hint}")]
    if not isinstance(data, dict):
        what = "nothing" if data is None else f"a {type(data).__name__}"
        return None, [Problem(file, 1, f"expected a mapping with name, trigger and actions, found {what}")]
    return Described(file, data, lines), [
        Problem(file, line, f"{key}: is there twice, and YAML would take the last") for key, line in twice
    ]


def find_lines(node: yaml.Node, location: Location, lines: dict[Location, int]) -> Iterable[tuple[str, int]]:
    """Notes the line of every place; yields each key that a mapping has twice."""
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place, line = (*location, str(key.value)), key.start_mark.line + 1
            if place in lines:
                yield str(key.value), line
            lines[place] = line
            yield from find_lines(value, place, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from find_lines(value, (*location, position), lines)


def check_schema(described: Described) -> list[Problem]:
    """Holds an automation against the server's models, piece by piece, so that each error has its place."""
    problems = check_keys(described, (), described.data, AutomationCreate)
    for key in ("name", "trigger", "actions"):
        if described.data.get(key) in (None, ""):
            problems.append(described.problem((key,), f"{key}: is missing"))
    if described.data.get("trigger") not in (None, ""):
        problems += check_trigger(described, ("trigger",), described.data["trigger"])
    for key in ACTION_LISTS:
        for position, action in enumerate(listed(described.data.get(key))):
            problems += check_action(described, (key, position), action)
    if not problems:
        problems += check_model(described, (), AutomationCreate, described.resolved(made_up_id))
    return problems


def check_trigger(described: Described, location: Location, trigger: Any) -> list[Problem]:
    """One trigger, and those within it."""
    if not isinstance(trigger, dict):
        return [described.problem(location, f"trigger: expected a mapping with type, got {trigger!r}")]
    kind = TRIGGERS.get(str(trigger.get("type")))
    if kind is None:
        return [described.problem((*location, "type"), f"type: {expected(TRIGGERS, trigger.get('type'))}")]
    problems = check_keys(described, location, trigger, kind)
    if issubclass(kind, CompositeTrigger):
        for position, child in enumerate(listed(trigger.get("triggers"))):
            problems += check_trigger(described, (*location, "triggers", position), child)
    return problems or check_model(described, location, kind, trigger)


def check_action(described: Described, location: Location, action: Any) -> list[Problem]:
    """One action, with names or ids."""
    if not isinstance(action, dict):
        return [described.problem(location, f"action: expected a mapping with type, got {action!r}")]
    kind = ACTIONS.get(str(action.get("type")))
    if kind is None:
        return [described.problem((*location, "type"), f"type: {expected(ACTIONS, action.get('type'))}")]
    problems = check_keys(described, location, action, kind)
    ids = dict(action)
    for key, named in NAMED.items():
        if key not in action or named.id_key not in kind.model_fields:
            continue
        name = ids.pop(key)
        if named.id_key in action:
            problems.append(
                described.problem((*location, key), f"{key}: and {named.id_key} say the same; keep the name")
            )
        if not isinstance(name, str):
            problems.append(described.problem((*location, key), f"{key}: expected {named.form}, got {name!r}"))
        ids[named.id_key] = str(made_up_id(key, str(name)))
    return problems or check_model(described, location, kind, ids)


def check_keys(
    described: Described, location: Location, data: Mapping[str, Any], kind: type[BaseModel]
) -> list[Problem]:
    """Keys that the model does not have."""
    known = set(kind.model_fields) - {"id"}
    known |= {key for key, named in NAMED.items() if named.id_key in known}
    return [
        described.problem((*location, str(key)), f"{key}: is not a key here: {expected(known, key)}")
        for key in data
        if key not in known
    ]


def check_model(
    described: Described, location: Location, kind: type[BaseModel], data: Mapping[str, Any]
) -> list[Problem]:
    """What the server's model says of it."""
    try:
        kind.model_validate(dict(data))
    except ValidationError as error:
        return [
            described.problem(
                (*location, *found["loc"]),
                f"{'.'.join(str(part) for part in found['loc']) or described.name}: "
                f"{with_names(' '.join(found['msg'].removeprefix('Value error, ').split()))}"
                + ("" if isinstance(found["input"], dict) else f"; got {found['input']!r}"),
            )
            for found in error.errors()
        ]
    return []


def with_names(message: str) -> str:
    """The server speaks of ids, where the files have names."""
    for key, named in NAMED.items():
        message = message.replace(f"{named.id_key} is", f"{key} ({named.form}, or {named.id_key}) is")
    return message


def expected(known: Iterable[str], got: object) -> str:
    """`did you mean within?`, or the list of what would do."""
    close = difflib.get_close_matches(str(got), list(known), n=1)
    return f"got {got!r}; " + (
        f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(sorted(known)) or 'none'}"
    )
