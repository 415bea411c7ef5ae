"""Templates and parameters of actions, rendered against each sample that the triggers match."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from prefect.utilities.schema_tools.validation import validate as schema_errors

from .model import Action, Model
from .prefect_server import NATIVE
from .problems import Problem, Severity, expected
from .project import Deployment, Project
from .samples import Sample, named
from .stand_ins import is_unknown, readable, unknown_names
from .templates import (
    context_of,
    is_open,
    is_proactive_without_event,
    not_rendered,
    parameters_of,
    render,
    rendered,
    templates,
    texts,
)

PARTS = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
ONE_TEMPLATE = re.compile(r"\{\{((?!\}\}).)*\}\}", re.DOTALL)
UNSURE = re.compile(r"\s*(event\s*(\.\s*payload|\.\s*resource\s*[\[.](?!\s*(id|name)\b)|\[)|labels)")
"""What an event may lack; its own id, name and time it has always."""


@dataclass(frozen=True)
class Check:
    """One action, with what is needed to check it."""

    model: Model
    action: Action
    deployment: Deployment | None
    """The one that is run, where its flow is known."""

    def problem(self, place: tuple[Any, ...], message: str, severity: Severity = "error") -> Problem:
        """A problem at a place within the action."""
        return self.model.file.problem((*self.action.location, *place), readable(message), severity)


def check_templates(model: Model, project: Project, samples: Sequence[Sample]) -> Iterator[Problem]:
    """Every action, against each sample that the triggers match."""
    covered = covered_samples(model, samples)
    if not covered and model.triggers and any(templates(action.data) for action in model.actions):
        message = "no sample in samples/ is an event of this trigger, so its templates were not rendered"
        yield model.file.warning(("trigger",), message)
    for action in model.actions:
        deployment = project.deployments.get(str(action.data.get("deployment")))
        check = Check(model, action, deployment if action.type == "run-deployment" else None)
        found = [
            *check_where(check),
            *check_text_around(check),
            *check_event_is_there(check),
            *check_parameter_names(check),
        ]
        yield from found
        if any(problem.severity == "error" for problem in found):
            continue
        yield from first_of_each(check, covered)


def covered_samples(model: Model, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the events that the triggers name; of a trigger that names none, all that it matches."""
    found = []
    for _, trigger in model.triggers:
        names = sorted(trigger.expect | trigger.after) or ["*"]
        matching = [sample for name in names for sample in named(samples, name)]
        found += [sample for sample in matching if trigger.covers_resources(*parts(sample))] or matching
    return found


def parts(sample: Sample) -> tuple[Any, Any]:
    """Resource and related resources."""
    return sample.event.resource, sample.event.related


def first_of_each(check: Check, samples: Sequence[Sample]) -> Iterator[Problem]:
    """The problems with the first sample that has an error: the next one mostly has the same."""
    seen: set[str] = set()
    for sample in samples or list[Sample | None]([None]):
        found = list(check_rendered(check, sample)) if sample else list(check_values(check, without_templates(check)))
        new = [problem for problem in found if problem.message not in seen]
        seen |= {problem.message for problem in new}
        yield from new
        if any(problem.severity == "error" for problem in new):
            return


def without_templates(check: Check) -> dict[str, Any]:
    """The parameters that have no template."""
    return {key: value for key, value in parameters_of(check.action.data).items() if not any(texts(value))}


def check_where(check: Check) -> Iterator[Problem]:
    """Templates where Prefect renders none."""
    for text in not_rendered(check.action.data):
        name = ".".join(map(str, text.place))
        message = f"{name}: Prefect renders no template here, and {text.text!r} stays as it is"
        yield check.problem(text.place, message, "warning")


def check_event_is_there(check: Check) -> Iterator[Problem]:
    """A proactive trigger whose clock no event starts fires for nothing that has come, so there is no event."""
    if not any(is_proactive_without_event(trigger) for _, trigger in check.model.triggers):
        return
    for text in templates(check.action.data):
        if re.search(r"\bevent\b", text.text) and "default" not in text.text:
            message = (
                f"{text.text!r}: a proactive trigger without `after` and `for_each` fires without an event; "
                "add `after`, or leave the event out"
            )
            yield check.problem(text.place, message, "warning")


def check_text_around(check: Check) -> Iterator[Problem]:
    """Text around a template makes a text of any type, and of a missing value nothing, silently."""
    for text in texts(parameters_of(check.action.data), ("parameters",)):
        if ONE_TEMPLATE.fullmatch(text.text.strip()):
            continue
        key = ".".join(map(str, text.place[1:]))
        types = types_of(schema_of(check.deployment, text.place))
        if types and "string" not in types:
            message = f"{key}: text around a template is a text; the flow wants {', '.join(types)}"
            yield check.problem(text.place, message)
        elif any(UNSURE.match(part) and "default" not in part for part in PARTS.findall(text.text)):
            message = (
                f"{key}: text around a template of which a missing value would leave nothing, silently; "
                "use only the template, or | default(...)"
            )
            yield check.problem(text.place, message, "warning")


def schema_of(deployment: Deployment | None, place: Sequence[Any]) -> Mapping[str, Any]:
    """The JSON schema of a parameter; empty for what is within one, and where the flow is not known."""
    if deployment is None or len(place) != 2:
        return {}
    found: Mapping[str, Any] = deployment.schema.get("properties", {}).get(place[1], {})
    return found


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """The JSON types that a parameter's schema names; none if it takes anything."""
    options = [schema, *schema.get("anyOf", [])]
    return [str(option["type"]) for option in options if "type" in option]


def check_parameter_names(check: Check) -> Iterator[Problem]:
    """Parameters that the flow does not have."""
    if check.deployment is None:
        return
    known = check.deployment.schema.get("properties", {})
    for key in parameters_of(check.action.data):
        if key not in known:
            message = f"{key}: is not a parameter of {check.deployment.flow}: {expected(known, key)}"
            yield check.problem(("parameters", key), message)


def check_rendered(check: Check, sample: Sample) -> Iterator[Problem]:
    """One action against one sample."""
    context = context_of(check.model, sample.event)
    for text in templates(check.action.data):
        if (problem := check_text(check, text.place, text.text, context, sample)) is not None:
            yield problem
            if problem.severity == "error":
                return
    parameters = parameters_of(check.action.data)
    for key, value in parameters.items():
        if any(texts(value)) and is_open(value, context):
            message = (
                f"{key}: the server renders a payload's {{'__prefect_kind': ...}} once more, so whoever sends the "
                "event can read variables; add `| string`, or take a label of the resource"
            )
            yield check.problem(("parameters", key), message, "warning")
    try:
        values = rendered(parameters, context)
    except Exception as error:  # A template can do anything; the server would fail the action, too.
        severity = certainty(sample, ("parameters",), str(error))
        yield check.problem(("parameters",), f"parameters: cannot be rendered: {error}", severity)
        return
    yield from check_values(check, values)


def check_text(
    check: Check, place: tuple[Any, ...], text: str, context: dict[str, Any], sample: Sample
) -> Problem | None:
    """One template against one sample."""
    name = ".".join(map(str, place))
    where = f"in a {sample.event.event!r}" + (f" as in samples/{sample.file.name}" if sample.file else "")
    absent = [name for name in NATIVE if context[name] is None and re.search(rf"\b{name}\b", text)]
    try:
        made = render(text, context)
    except Exception as error:  # A template can do anything.
        message = getattr(error, "message", None) or str(error)
        if absent:
            kind = absent[0].replace("_", "-")
            message = f"{text!r}: the event has no {kind} among its resources, {where}; it would render as nothing"
            return check.problem(place, f"{name}: {message}", "warning")
        severity = certainty(sample, place, message) if isinstance(error, jinja2.UndefinedError) else "error"
        return check.problem(place, f"{name}: {text!r}: {message}, {where}", severity)
    if unknown := unknown_names(made):
        message = f"{name}: {text!r}: only the server knows {', '.join(unknown)}; not checked"
        return check.problem(place, message, "warning")
    return None


def certainty(sample: Sample, place: tuple[Any, ...], message: str) -> Severity:
    """An error where the action would fail by what is said of the event, or by the server's own objects.

    In a text the server renders nothing in place of what its objects lack, and a newer one may have it.
    """
    if "prefect.server.schemas" in message:
        return "error" if place[0] == "parameters" else "warning"
    return "error" if sample.is_given else "warning"


def check_values(check: Check, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Rendered parameters against the flow's; what only the server knows is a warning."""
    if check.deployment is None:
        return
    complete = len(values) == len(parameters_of(check.action.data))
    given = {**check.deployment.parameters, **values}
    for error in schema_errors(given, check.deployment.schema, ignore_required=not complete):
        place = tuple(error.absolute_path)
        name = ".".join(map(str, place)) or "parameters"
        unsure = bool(place) and is_unknown(error.instance)
        message = f"{name}: {check.deployment.flow} takes no such value: {error.message}"
        if unsure:
            message = f"{name}: only the server knows whether {check.deployment.flow} takes {error.instance}"
        yield check.problem(("parameters", *place), message, "warning" if unsure else "error")
