"""What automations make of an event, by the server's own rules, and whether that is what a sample expects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.utilities.schema_tools.validation import validate as schema_errors

from .files import as_list
from .model import Action, Model, fires
from .prefect_server import EventTrigger, Posture, ReceivedEvent
from .project import Project
from .samples import Sample
from .stand_ins import is_unknown, readable
from .templates import context_of, parameters_of, render, rendered, templates

Shown = dict[str, Any]


@dataclass(frozen=True)
class EventOutcome:
    """What one automation makes of an event."""

    automation: str
    event: str
    outcome: str
    """One of samples.OUTCOMES."""
    detail: str
    actions: list[Shown] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Actions that would fail, and expectations that are not met."""


def outcome_of(model: Model, sample: Sample, project: Project) -> EventOutcome:
    """What an automation makes of a sample, held against the flow's parameters and against what is expected."""
    word, detail = what_happens(model, sample.event)
    acts = word in ("fires", "counts", "starts the clock")
    actions = [show(model, action, sample.event, project) for action in (model.actions if acts else [])]
    failures = [f"{each['type']}: {each['fails']}" for each in actions if "fails" in each]
    failures += unmet(model, sample, word, actions)
    return EventOutcome(model.file.name, sample.event.event, word, detail, actions, failures)


def what_happens(model: Model, event: ReceivedEvent) -> tuple[str, str]:
    """One of the outcomes, and the same in words."""
    triggers = [trigger for _, trigger in model.triggers if trigger.covers(event)]
    if not model.enabled:
        return "nothing", "nothing, it is disabled" + (" (it would match)" if triggers else "")
    if not triggers:
        return "nothing", "nothing"
    data = model.file.data["trigger"]
    if data.get("type") != "event":
        counted = any(fires(trigger, event) for trigger in triggers)
        words = f"counts as one of {len(as_list(data.get('triggers')))} triggers"
        return ("counts", words) if counted else ("nothing", "nothing")
    return of_trigger(triggers[0], event)


def of_trigger(trigger: EventTrigger, event: ReceivedEvent) -> tuple[str, str]:
    """What a trigger that covers an event makes of it."""
    within = f"{trigger.within}"
    if trigger.posture == Posture.Proactive:
        if trigger.starts_after(event.event) or not trigger.after:
            return "starts the clock", f"starts the clock: fires if nothing comes within {within}"
        return "stops the clock", "stops the clock"
    if trigger.after:
        if not trigger.expects(event.event):
            return "starts the clock", f"starts the clock: fires if what is expected comes within {within}"
        return "fires", f"fires, if it comes within {within} after one of {', '.join(sorted(trigger.after))}"
    if trigger.threshold > 1:
        return "counts", f"counts as one of {trigger.threshold} events within {within}"
    return "fires", "fires"


def show(model: Model, action: Action, event: ReceivedEvent, project: Project) -> Shown:
    """An action with what would be sent, or why it would fail."""
    shown = {key: value for key, value in action.data.items() if key in ("type", "deployment", "block", "state")}
    context = context_of(model, event)
    try:
        if action.type == "run-deployment":
            shown["parameters"] = as_shown(rendered(parameters_of(action.data), context))
        else:
            texts = {text.place[0]: as_shown(render(text.text, context)) for text in templates(action.data)}
            shown |= {str(key): value for key, value in texts.items()}
    except Exception as error:  # A template can do anything; the server would fail the action, too.
        return shown | {"fails": str(error)}
    refused = refused_parameters(action, shown.get("parameters", {}), project)
    return shown | ({"fails": refused} if refused else {})


def as_shown(value: Any) -> Any:
    """A rendered value with `<name>` for what only the server knows."""
    if isinstance(value, dict):
        return {key: as_shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_shown(inner) for inner in value]
    return readable(value) if isinstance(value, str) and is_unknown(value) else value


def refused_parameters(action: Action, values: Shown, project: Project) -> str:
    """Why the flow would not take the parameters; empty if it does, or is not known here."""
    deployment = project.deployments.get(str(action.data.get("deployment")))
    if deployment is None or action.type != "run-deployment":
        return ""
    known = deployment.schema.get("properties", {})
    unknown = [f"{key}: is not a parameter of {deployment.flow}" for key in values if key not in known]
    errors = schema_errors({**deployment.parameters, **values}, deployment.schema)
    refused = [f"{'.'.join(map(str, each.absolute_path)) or 'parameters'}: {each.message}" for each in errors]
    return "; ".join(unknown + refused)


def unmet(model: Model, sample: Sample, word: str, actions: Sequence[Shown]) -> list[str]:
    """Where the outcome is not what the sample expects of this automation."""
    expected = sample.expect.get(model.file.name)
    if expected is None:
        return []
    if expected.outcome != word:
        return [f"expected: {expected.outcome}; got: {word}"]
    if expected.parameters is None:
        return []
    runs = [each.get("parameters") for each in actions if each.get("type") == "run-deployment"]
    if dict(expected.parameters) in runs:
        return []
    return [f"expected a run with {dict(expected.parameters)}; got {runs[0] if len(runs) == 1 else runs or 'none'}"]


def unknown_automations(samples: Iterable[Sample], names: Iterable[str]) -> list[str]:
    """Expectations of automations that no file describes."""
    known = set(names)
    return [
        f"{sample.file.name if sample.file else sample.event.event}: expect: no automation is called {name!r}"
        for sample in samples
        for name in sample.expect
        if name not in known
    ]
