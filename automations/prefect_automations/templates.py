"""Renders templates by the server's own code, with stand-ins for what only a server knows."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .files import Location
from .model import Model
from .prefect_server import (
    STRICT,
    EventTrigger,
    Firing,
    LabelDiver,
    Posture,
    ReceivedEvent,
    TriggerState,
    maybe_template,
    render_parameters,
    upgraded,
)
from .stand_ins import UnknownMapping, native_objects

RENDERED = {"run-deployment": ("parameters",), "send-notification": ("subject", "body"), "call-webhook": ("payload",)}
"""Where Prefect renders templates, by the action's type; nowhere else."""


@dataclass(frozen=True)
class Text:
    """A template and its place within an action."""

    place: Location
    text: str


def templates(action: Mapping[str, Any]) -> list[Text]:
    """Every template of an action that Prefect renders."""
    return [found for key in RENDERED.get(str(action.get("type")), ()) for found in texts(action.get(key), (key,))]


def texts(value: Any, place: Location = ()) -> Iterator[Text]:
    """Every template within a value."""
    if isinstance(value, str) and maybe_template(value):
        yield Text(place, value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, (*place, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from texts(inner, (*place, position))


def not_rendered(action: Mapping[str, Any]) -> list[Text]:
    """Templates where Prefect renders none: another key, or a list within a list of parameters."""
    rendered = RENDERED.get(str(action.get("type")), ())
    found = [text for key, value in action.items() if key not in rendered for text in texts(value, (key,))]
    # The worker replaces `{{ prefect.variables.x }}` and `{{ $NAME }}` in job variables, whoever has started the run.
    ours = [text for text in found if not re.match(r"\s*\{\{\s*(prefect\.|\$)", text.text)]
    return ours + [Text(("parameters", *text.place), text.text) for text in left_in(parameters_of(action))]


def left_in(parameters: Mapping[str, Any]) -> Iterator[Text]:
    """Templates that are still texts in parameters of which the server has taken the templates."""

    def walk(value: Any, place: Location) -> Iterator[Text]:
        if isinstance(value, dict) and "__prefect_kind" in value:
            return
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(inner, (*place, key))
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                yield from walk(inner, (*place, position))
        elif isinstance(value, str) and maybe_template(value):
            yield Text(place, value)

    yield from walk(upgraded(parameters), ())


def parameters_of(action: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run-deployment action."""
    given = action.get("parameters")
    return dict(given) if isinstance(given, dict) and action.get("type") == "run-deployment" else {}


def context_of(model: Model, event: ReceivedEvent) -> dict[str, Any]:
    """What a template can name: the server's own context, with stand-ins for what it would look up."""
    firing = firing_of(model, event)
    return {
        "automation": model.automation,
        "event": event,
        "labels": LabelDiver(firing.triggering_labels),
        "firing": firing,
        "firings": firing.all_firings(),
        "events": firing.all_events(),
        "variables": UnknownMapping("variables"),
        **native_objects(event),
    }


def firing_of(model: Model, event: ReceivedEvent) -> Firing:
    """What the server makes of a trigger that fires for an event."""
    triggers = [trigger for _, trigger in model.triggers] or model.automation.triggers_of_type(EventTrigger)
    trigger = next((each for each in triggers if each.covers(event)), triggers[0])
    labels = {label: event.find_resource_label(label) or "" for label in trigger.for_each}
    return Firing(
        trigger=trigger,
        trigger_states={TriggerState.Triggered},
        triggered=event.occurred,
        triggering_labels=labels,
        triggering_event=event,
    )


def render(text: str, context: Mapping[str, Any]) -> str:
    """A template's text; a missing attribute is an error in place of nothing."""
    return STRICT.from_string(text).render(context)


def rendered(parameters: Mapping[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """Parameters as the server would render them."""
    logger = logging.getLogger("prefect.server.utilities.user_templates")
    before, logger.disabled = logger.disabled, True
    try:
        return render_parameters(parameters, context, {name: variable(name) for name in variables_in(parameters)})
    finally:
        logger.disabled = before


def variable(name: str) -> Any:
    """A variable of the workspace, which only the server knows."""
    return UnknownMapping("variables")[name]


def variables_in(value: Any) -> list[str]:
    """Variables that parameters name as `{"__prefect_kind": "workspace_variable"}`."""
    if isinstance(value, dict):
        own = value.get("variable_name") if value.get("__prefect_kind") == "workspace_variable" else None
        found = [name for inner in value.values() for name in variables_in(inner)]
        return [own, *found] if isinstance(own, str) else found
    return [name for inner in value for name in variables_in(inner)] if isinstance(value, list) else []


class Hostile(dict[str, Any]):
    """A payload of which every value is a placeholder that the server would render a second time."""

    PLACEHOLDER: ClassVar = {"__prefect_kind": "jinja", "template": "{{ 'rendered twice' }}"}

    def __init__(self) -> None:
        super().__init__(self.PLACEHOLDER)

    def __missing__(self, key: str) -> "Hostile":
        return Hostile()

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]


def is_open(parameter: Any, context: Mapping[str, Any]) -> bool:
    """Whether a value of the payload can become a placeholder in a parameter, which the server then renders."""
    hostile = context["event"].model_copy(update={"payload": Hostile()})
    firing = context["firing"].model_copy(update={"triggering_event": hostile})
    events = {"event": hostile, "events": [hostile], "firing": firing, "firings": [firing]}
    try:
        return has_placeholder(rendered({"value": parameter}, {**context, **events}))
    except Exception:  # The action fails, and nothing is rendered a second time.
        return False


def has_placeholder(value: Any) -> bool:
    """Whether a rendered value has what the server takes for a placeholder."""
    if isinstance(value, dict):
        return "__prefect_kind" in value or any(map(has_placeholder, value.values()))
    return isinstance(value, list) and any(map(has_placeholder, value))


def is_proactive_without_event(trigger: EventTrigger) -> bool:
    """Whether a trigger fires because nothing has come, so that there is no event."""
    return trigger.posture == Posture.Proactive and not trigger.after and not trigger.for_each
