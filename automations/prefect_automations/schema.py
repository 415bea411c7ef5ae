"""The form of a file, held against the server's own models piece by piece, so that each error has its place.

Prefect ignores keys that it does not know; here they are errors, since a misspelt `within` is an automation that does
something else.
"""

import copy
from collections.abc import Mapping
from typing import Any

from prefect.events.actions import DeclareIncident
from prefect.events.schemas.automations import MetricTrigger
from pydantic import BaseModel, ValidationError

from .files import ACTION_LISTS, NAMED, AutomationFile, Location, as_list, made_up_id
from .prefect_server import ACTIONS, TRIGGERS, AutomationCreate, CompositeTrigger
from .problems import Problem, errors_of, expected

CLOUD: dict[str, type[BaseModel]] = {"metric": MetricTrigger, "declare-incident": DeclareIncident}
"""What Prefect Cloud has and a server of one's own has not, by its client's models."""


def check_schema(file: AutomationFile) -> list[Problem]:
    """Everything that the server would refuse, and the keys that it would ignore."""
    problems = check_keys(file, (), file.data, AutomationCreate)
    for key in ("name", "trigger", "actions"):
        if file.data.get(key) in (None, ""):
            problems.append(file.problem((key,), f"{key}: is missing"))
    if file.data.get("trigger") not in (None, ""):
        problems += check_trigger(file, ("trigger",), file.data["trigger"])
    for key in ACTION_LISTS:
        for position, action in enumerate(as_list(file.data.get(key))):
            problems += check_action(file, (key, position), action)
    if not errors_of(problems) and not is_cloud_only(file.data):
        problems += check_model(file, (), AutomationCreate, file.resolved(made_up_id))
    return problems


def is_cloud_only(data: Mapping[str, Any]) -> bool:
    """Whether an automation has a trigger or an action that only Prefect Cloud has."""

    def types(trigger: Any) -> list[str]:
        if not isinstance(trigger, dict):
            return []
        return [
            str(trigger.get("type")),
            *(found for child in as_list(trigger.get("triggers")) for found in types(child)),
        ]

    actions = [action for key in ACTION_LISTS for action in as_list(data.get(key)) if isinstance(action, dict)]
    return not CLOUD.keys().isdisjoint([*types(data.get("trigger")), *(str(each.get("type")) for each in actions)])


def check_trigger(file: AutomationFile, location: Location, trigger: Any) -> list[Problem]:
    """One trigger, and those within it."""
    if not isinstance(trigger, dict):
        return [file.problem(location, f"trigger: expected a mapping with type, got {trigger!r}")]
    kind = model_of(TRIGGERS, trigger)
    if kind is None:
        return [file.problem((*location, "type"), type_message(TRIGGERS, trigger))]
    problems = [*check_keys(file, location, trigger, kind), *cloud_warning(file, location, trigger)]
    if issubclass(kind, CompositeTrigger):
        for position, child in enumerate(as_list(trigger.get("triggers"))):
            problems += check_trigger(file, (*location, "triggers", position), child)
        if is_cloud_only({"trigger": trigger}):
            return problems
    return [*problems, *([] if errors_of(problems) else check_model(file, location, kind, trigger))]


def check_action(file: AutomationFile, location: Location, action: Any) -> list[Problem]:
    """One action, with names or ids."""
    if not isinstance(action, dict):
        return [file.problem(location, f"action: expected a mapping with type, got {action!r}")]
    kind = model_of(ACTIONS, action)
    if kind is None:
        return [file.problem((*location, "type"), type_message(ACTIONS, action))]
    problems = [*check_keys(file, location, action, kind), *cloud_warning(file, location, action)]
    for key, named in NAMED.items():
        if key not in action or named.id_key not in kind.model_fields:
            continue
        if named.id_key in action:
            problems.append(file.problem((*location, key), f"{key}: and {named.id_key} say the same; keep the name"))
        if not isinstance(action[key], str):
            problems.append(file.problem((*location, key), f"{key}: expected {named.form}, got {action[key]!r}"))
    model_errors = check_model(file, location, kind, with_made_up_ids(action))
    return problems if errors_of(problems) else [*problems, *model_errors]


def type_message(models: Mapping[str, type[BaseModel]], data: Mapping[str, Any]) -> str:
    """What is said where no model has the type."""
    if "type" not in data:
        return f"type: is missing; expected one of {', '.join(sorted(models))}"
    return f"type: {expected(models, data['type'])}"


def model_of(models: Mapping[str, type[BaseModel]], data: Mapping[str, Any]) -> type[BaseModel] | None:
    """The model of a trigger or an action, by its type."""
    name = str(data.get("type"))
    cloud = CLOUD.get(name)
    return models.get(name) or (cloud if cloud and (cloud is MetricTrigger) == (models is TRIGGERS) else None)


def cloud_warning(file: AutomationFile, location: Location, data: Mapping[str, Any]) -> list[Problem]:
    """Said where a type is Prefect Cloud's."""
    if data.get("type") not in CLOUD:
        return []
    message = f"type: {data['type']} is Prefect Cloud's; a server of your own refuses it"
    return [file.warning((*location, "type"), message)]


def with_made_up_ids(action: Mapping[str, Any]) -> dict[str, Any]:
    """An action with an id in place of each name, for the server's model."""
    made = {key: value for key, value in action.items() if key not in NAMED}
    return made | {NAMED[key].id_key: str(made_up_id(key, str(action[key]))) for key in NAMED if key in action}


def check_keys(
    file: AutomationFile, location: Location, data: Mapping[str, Any], kind: type[BaseModel]
) -> list[Problem]:
    """Keys that the model does not have."""
    known = set(kind.model_fields) - {"id"}
    known |= {key for key, named in NAMED.items() if named.id_key in known}
    return [
        file.problem((*location, str(key)), f"{key}: is not a key here{why_not(key, known)}")
        for key in data
        if key not in known
    ]


def why_not(key: object, known: set[str]) -> str:
    """What would do in place of a key."""
    return "; one automation a file" if key == "automations" else f": {expected(known, key)}"


def check_model(
    file: AutomationFile, location: Location, kind: type[BaseModel], data: Mapping[str, Any]
) -> list[Problem]:
    """What the server's model says of it."""
    try:
        kind.model_validate(copy.deepcopy(dict(data)))  # The server's validators change what they are given.
    except ValidationError as error:
        return [
            file.problem(
                (*location, *found["loc"]),
                f"{'.'.join(str(part) for part in found['loc']) or file.name}: "
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
