"""One automation a YAML file, in Prefect's own schema, with names where Prefect wants ids."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import yaml

from .environment import hide, substitute
from .problems import Problem, Severity

Location = tuple[str | int, ...]
"""Keys and positions from the top of a file: ("actions", 0, "parameters")."""

ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")
OUR_KEYS = {
    "former_names": "names that this automation had before; what has one of them is updated, not made a second time",
    "adopts": "the id of an automation that this project did not make, and takes over",
}
"""Keys of a file that Prefect does not have."""


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
class Reference:
    """A name in a file: its place, what kind of thing it names, and the name."""

    location: Location
    kind: str
    name: str


@dataclass(frozen=True)
class AutomationFile:
    """One automation as its file has it."""

    file: Path
    data: dict[str, Any]
    """With the environment's values; without the keys that only this tool knows."""
    lines: dict[Location, int]
    shown: dict[str, Any] = field(default_factory=dict)
    """The same with `${NAME}` where the file has it: what may be printed."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Variables that the file names, with their values."""
    former_names: tuple[str, ...] = ()
    adopts: str | None = None

    @property
    def name(self) -> str:
        return str(self.data.get("name", self.file.stem))

    @property
    def key(self) -> str:
        """What the automation is known by on the server, whatever it is called there: the file's name."""
        return self.file.stem

    def problem(self, location: Location, message: str, severity: Severity = "error") -> Problem:
        """A problem at that place, or at the nearest one around it that has a line."""
        while location not in self.lines and location:
            location = location[:-1]
        return Problem(self.file, self.lines.get(location, 1), hide(message, self.values), severity)

    def warning(self, location: Location, message: str) -> Problem:
        """A problem that stops nothing."""
        return self.problem(location, message, "warning")

    def references(self) -> list[Reference]:
        """Every name in place of an id."""
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
            for position, action in enumerate(as_list(self.data.get(key)))
            if isinstance(action, dict)
        ]

    def triggers(self) -> list[tuple[Location, dict[str, Any]]]:
        """Every trigger, with its place; those within others, too, in the order in which Prefect goes through them."""

        def within(place: Location, trigger: Any) -> list[tuple[Location, dict[str, Any]]]:
            if not isinstance(trigger, dict):
                return []
            inner = enumerate(as_list(trigger.get("triggers")))
            return [(place, trigger)] + [
                found for position, child in inner for found in within((*place, "triggers", position), child)
            ]

        return within(("trigger",), self.data.get("trigger"))

    def resolved(self, id_of: Callable[[str, str], UUID]) -> dict[str, Any]:
        """What Prefect takes: ids, as `id_of(kind, name)` gives them, in place of names."""
        data: dict[str, Any] = unshared(self.data)
        for reference in self.references():
            *way, key = reference.location
            action: Any = data
            for step in way:
                action = action[step]
            del action[str(key)]
            action[NAMED[reference.kind].id_key] = str(id_of(reference.kind, reference.name))
        return data


def unshared(value: Any) -> Any:
    """A copy in which no part is there twice: what a YAML alias names is one object, and ids are put into each."""
    if isinstance(value, dict):
        return {key: unshared(inner) for key, inner in value.items()}
    return [unshared(inner) for inner in value] if isinstance(value, list) else value


def as_list(value: Any) -> list[Any]:
    """The value if it is a list; a file can have anything in that place."""
    return value if isinstance(value, list) else []


def made_up_id(kind: str, name: str) -> UUID:
    """The same for the same name; for offline checks, where no server knows the real one."""
    return uuid5(NAMESPACE_URL, f"{kind}/{name}")


def yaml_files(folder: Path) -> list[Path]:
    """The automations' files of a folder; what begins with a dot is none."""
    return sorted(
        file
        for pattern in ("*.yaml", "*.yml")
        for file in folder.glob(pattern)
        if not file.name.startswith(".") and file.name != "prefect.yaml"
    )


def read(files: Iterable[Path], environment: Mapping[str, str] | None = None) -> "Files":
    """The automations of the files, and their problems as YAML and as a set."""
    automations: list[AutomationFile] = []
    problems: list[Problem] = []
    for file in sorted({file.resolve(): file for file in files}.values()):
        automation, found = read_one(file, environment)
        problems += found
        automations += [automation] if automation else []
    return Files(automations, [*problems, *check_unique(automations)])


@dataclass(frozen=True)
class Files:
    """The automations of some files, and the problems of those files."""

    automations: list[AutomationFile]
    problems: list[Problem]


def check_unique(automations: Sequence[AutomationFile]) -> list[Problem]:
    """A name is one automation's, and so is a file's name, by which the server's are known."""
    problems: list[Problem] = []
    names: dict[str, AutomationFile] = {}
    keys: dict[str, AutomationFile] = {}
    for each in automations:
        if "name" in each.data and names.setdefault(each.name, each) is not each:
            problems.append(
                each.problem(("name",), f"name: {each.name!r} is also the name in {names[each.name].file.name}")
            )
        if keys.setdefault(each.key, each) is not each:
            problems.append(
                each.problem(
                    (), f"{each.file.name}: {keys[each.key].file} has the same file name, by which both are known"
                )
            )
    return problems


def read_one(file: Path, environment: Mapping[str, str] | None = None) -> tuple[AutomationFile | None, list[Problem]]:
    """A file; None and the reason if it is not a YAML mapping."""
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Location, int] = {}
        twice = list(find_lines(node, (), lines)) if node else []
        shown: Any = yaml.SafeLoader("").construct_document(node) if node else None
        made = substitute(node, environment)
        data = yaml.SafeLoader("").construct_document(node) if node else None
    except (OSError, UnicodeDecodeError) as error:
        return None, [Problem(file, 1, f"cannot be read: {error}")]
    except RecursionError:
        return None, [Problem(file, 1, "not YAML of this kind: a part of it contains itself")]
    except yaml.YAMLError as error:
        return None, [yaml_problem(file, text, error)]
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        return None, [Problem(file, 1, f"expected a mapping with name, trigger and actions, found {found}")]
    problems = [Problem(file, line, f"{key}: is there twice, and YAML would take the last") for key, line in twice]
    problems += [
        Problem(file, line, f"${{{name}}}: the environment variable {name} is not set") for line, name in made.missing
    ]
    former, adopts = data.pop("former_names", []), data.pop("adopts", None)
    problems += check_our_keys(file, lines, former, adopts)
    names = tuple(name for name in as_list(former) if isinstance(name, str))
    shown = {key: value for key, value in shown.items() if key not in OUR_KEYS}
    return AutomationFile(file, data, lines, shown, made.values, names, str(adopts) if adopts else None), problems


def check_our_keys(file: Path, lines: Mapping[Location, int], former: Any, adopts: Any) -> list[Problem]:
    """`former_names` is a list of names, `adopts` an id."""
    problems = []
    if not isinstance(former, list) or not all(isinstance(name, str) for name in former):
        message = f"former_names: expected a list of names, got {former!r}"
        problems.append(Problem(file, lines.get(("former_names",), 1), message))
    try:
        UUID(str(adopts or UUID(int=0)))
    except ValueError:
        message = f"adopts: expected an automation's id, got {adopts!r}"
        problems.append(Problem(file, lines.get(("adopts",), 1), message))
    return problems


def yaml_problem(file: Path, text: str, error: yaml.YAMLError) -> Problem:
    """What YAML says, at its line, with the usual reason."""
    mark = getattr(error, "problem_mark", None)
    line = mark.line if mark else 0
    message = " ".join(str(getattr(error, "problem", None) or error).split())
    the_line = "".join(text.splitlines()[line : line + 1])
    if "{{" in the_line:
        message += "; a template that begins a value needs quotes"
    elif "${" in the_line:
        message += "; a variable within {...} or [...] needs quotes"
    return Problem(file, line + 1, f"not YAML: {message}")


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
