"""A file as the server's models have it: as much of it as is valid, so that one error hides no other."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .files import ACTION_LISTS, AutomationFile, Location, made_up_id
from .prefect_server import ACTIONS, Automation, EventTrigger, Posture, ReceivedEvent
from .schema import with_made_up_ids

Kind = TypeVar("Kind", bound=BaseModel)
NEVER = {"type": "event", "posture": "Reactive", "expect": ["no trigger that is valid"]}


@dataclass(frozen=True)
class Action:
    """One action that has a type, with its place."""

    location: Location
    data: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.data.get("type"))


@dataclass(frozen=True)
class Model:
    """The valid parts of a file."""

    file: AutomationFile
    automation: Automation
    """With made-up ids; its trigger never fires where the file's is not valid."""
    triggers: Sequence[tuple[Location, EventTrigger]]
    actions: Sequence[Action]

    @property
    def enabled(self) -> bool:
        """Whether the file switches it on."""
        return self.file.data.get("enabled", True) is True

    def starts_for(self, event: ReceivedEvent) -> bool:
        """Whether the event has a part in making the automation fire, now or with others."""
        return any(trigger.posture == Posture.Reactive and fires(trigger, event) for _, trigger in self.triggers)


def fires(trigger: EventTrigger, event: ReceivedEvent) -> bool:
    """By the server's rules: whether a reactive trigger counts the event."""
    return trigger.covers(event) and trigger.expects(event.event)


def model_of(file: AutomationFile) -> Model:
    """The valid parts of a file."""
    actions = [Action(location, data) for location, data in file.actions()]
    triggers = [
        (place, trigger)
        for place, data in file.triggers()
        if data.get("type") == "event" and (trigger := valid(EventTrigger, data)) is not None
    ]
    return Model(file, build(file, actions), triggers, [action for action in actions if "type" in action.data])


def build(file: AutomationFile, actions: Sequence[Action]) -> Automation:
    """The server's automation of the valid parts, switched off where the server refuses it as a loop."""
    body: dict[str, Any] = {
        "id": made_up_id("automation", file.name),
        "name": file.name,
        "description": str(file.data.get("description") or ""),
        "enabled": file.data.get("enabled", True) is True,
        "tags": [tag for tag in file.data.get("tags") or [] if isinstance(tag, str)],
        "trigger": file.data.get("trigger"),
    }
    for key in ACTION_LISTS:
        of_key = [action for action in actions if action.location[0] == key]
        body[key] = [model for action in of_key if (model := action_model(action)) is not None]
    for change in ({}, {"enabled": False}, {"trigger": NEVER}):
        if (automation := valid(Automation, body | change)) is not None:
            return automation
    raise AssertionError("an automation of valid parts is valid")


def action_model(action: Action) -> BaseModel | None:
    """The server's model of an action, with made-up ids; None if it is not valid."""
    kind = ACTIONS.get(action.type)
    return valid(kind, with_made_up_ids(action.data)) if kind else None


def valid(kind: type[Kind], data: Any) -> Kind | None:
    """The model of some data, or None if it is not valid."""
    try:
        return kind.model_validate(copy.deepcopy(data))  # The server's validators change what they are given.
    except (ValidationError, TypeError):
        return None
