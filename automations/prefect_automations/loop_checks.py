"""An action that causes what its own trigger matches, and so on; and two automations that start one deployment."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import uuid4

from .files import made_up_id
from .known_events import STATES
from .model import Action, Model
from .prefect_server import EventTrigger, ReceivedEvent, ResourceSpecification
from .problems import Problem
from .project import Deployment, Project
from .samples import Sample, named

LIFE = ("Scheduled", "Pending", "Running", "heartbeat", "Completed", "Failed", "Crashed", "TimedOut")


def check_loops(model: Model, project: Project, samples: Sequence[Sample]) -> Iterator[Problem]:
    """Upstreams that would be run again, and loops."""
    own = [name for _, trigger in model.triggers for name in trigger.expect if not name.startswith("prefect")]
    for action in model.actions:
        if action.type == "run-deployment" and action.data.get("source") == "inferred" and own:
            message = (
                f"source: inferred is the deployment whose run sent {own[0]!r}, so this would run the upstream "
                "again; name a deployment"
            )
            yield model.file.warning((*action.location, "source"), message)
        elif model.enabled:
            yield from check_loop(model, action, project, samples)


def check_loop(model: Model, action: Action, project: Project, samples: Sequence[Sample]) -> Iterator[Problem]:
    """The first event that an action causes and that its own trigger matches."""
    for subject, event in caused(model, action, project, samples):
        if model.starts_for(event):
            message = (
                f"a loop: {subject} {event.event!r}, which this trigger matches, and so on; "
                "narrow match or match_related to others"
            )
            yield model.file.problem(action.location, message)
            return


def caused(
    model: Model, action: Action, project: Project, samples: Sequence[Sample]
) -> Iterator[tuple[str, ReceivedEvent]]:
    """What an action causes, and who sends it."""
    target = str(action.data.get("deployment", ""))
    if action.type == "run-deployment" and "/" in target:
        deployment = project.deployments.get(target)
        for event in caused_by_run(target, deployment, project.tags_of(target), samples):
            yield f"a run of {target} sends", event
    elif action.type == "change-flow-run-state":
        for event in caused_by_state(model, action, samples):
            yield "this action causes", event
    for name in ("automation.triggered", "automation.action.triggered", "automation.action.executed"):
        yield "this automation sends", event_of_automation(f"prefect.{name}", model)
    yield "this action, should it fail, sends", event_of_automation("prefect.automation.action.failed", model)


def event_of_automation(name: str, model: Model) -> ReceivedEvent:
    """An event about an automation."""
    return made_event(name, f"prefect.automation.{model.automation.id}", model.file.name, [])


def made_event(name: str, resource_id: str, resource_name: str, related: list[dict[str, str]]) -> ReceivedEvent:
    """An event that nobody has sent."""
    return ReceivedEvent.model_validate(
        {
            "id": uuid4(),
            "occurred": "2026-01-01T00:00:00Z",
            "event": name,
            "resource": {"prefect.resource.id": resource_id, "prefect.resource.name": resource_name},
            "related": related,
            "payload": {},
        }
    )


def caused_by_state(model: Model, action: Action, samples: Sequence[Sample]) -> Iterator[ReceivedEvent]:
    """The event of the state that is set, of every run of which a sample would set it."""
    state = str(action.data.get("state"))
    title = next((name for name, kind in STATES.items() if kind == state and name.upper() == state), state.title())
    for _, trigger in model.triggers:
        for sample in (found for name in sorted(trigger.expect) for found in named(samples, name)):
            if model.starts_for(sample.event) and sample.event.event.startswith("prefect.flow-run."):
                event = f"prefect.flow-run.{action.data.get('name') or title}"
                yield sample.event.model_copy(update={"event": event})


def caused_by_run(
    name: str, deployment: Deployment | None, tags: Iterable[str], samples: Sequence[Sample]
) -> Iterator[ReceivedEvent]:
    """Events that a run of the deployment causes: its states, and what its flow is known to send."""
    flow, _, short = name.partition("/")
    related = [
        related_to(role, value, made_up_id(role, name)) for role, value in (("flow", flow), ("deployment", short))
    ]
    related += [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
    for state in LIFE:
        yield made_event(f"prefect.flow-run.{state}", f"prefect.flow-run.{uuid4()}", "any-run", related)
    if deployment:
        yield from (sample.event for sample in samples if deployment.flow in sample.sent_by)


def related_to(role: str, name: str, identifier: Any) -> dict[str, str]:
    """A related resource."""
    return {
        "prefect.resource.id": f"prefect.{role}.{identifier}",
        "prefect.resource.role": role,
        "prefect.resource.name": name,
    }


def check_doubles(models: Sequence[Model], others: Sequence[Model], samples: Sequence[Sample]) -> Iterator[Problem]:
    """Enabled automations that start one deployment for one event: among each other, and with those of other files."""
    by_deployment: dict[str, list[Starter]] = {}
    for is_given, group in ((False, others), (True, models)):
        for two in (starter for model in group for starter in starters_of(model, samples)):
            before = by_deployment.setdefault(two.deployment, [])
            for one in before if is_given else ():
                if one.model is not two.model and (event := event_of_both(one, two)):
                    yield double(one, two, event)
            before.append(two)


@dataclass(frozen=True)
class Starter:
    """An action of an enabled automation that runs a deployment, with some events for which it does."""

    model: Model
    action: Action
    deployment: str
    events: Sequence[ReceivedEvent]


MOST_EVENTS = 5
"""How many events of an automation are tried with another one."""


def starters_of(model: Model, samples: Sequence[Sample]) -> list[Starter]:
    """Every action that runs a deployment."""
    runs = [
        (action, target)
        for action in model.actions
        if action.type == "run-deployment" and isinstance(target := action.data.get("deployment"), str)
    ]
    if not model.enabled or not runs:
        return []
    fitting = (
        fitted(sample.event, trigger)
        for _, trigger in model.triggers
        for name in sorted(trigger.expect) or ["*"]
        for sample in named(samples, name)
    )
    events = list(islice((event for event in fitting if model.starts_for(event)), MOST_EVENTS))
    return [Starter(model, action, target, events) for action, target in runs]


def fitted(event: ReceivedEvent, trigger: EventTrigger) -> ReceivedEvent:
    """An event with the names and ids that the trigger asks for, where it asks for some without wildcards."""
    if trigger.covers(event):
        return event
    resource = {**event.resource.root, **literals(trigger.match)}
    specifications = trigger.match_related if isinstance(trigger.match_related, list) else [trigger.match_related]
    related = [each.root for each in event.related]
    for wanted in map(literals, specifications):
        role = wanted.get("prefect.resource.role")
        fits = [each for each in related if each.get("prefect.resource.role") == role]
        related = [*related, {**(fits[0] if fits else {"prefect.resource.id": "any"}), **wanted}] if role else related
    data = event.model_dump() | {"resource": resource, "related": related}
    return ReceivedEvent.model_validate(data)


def literals(specification: Any) -> dict[str, str]:
    """The first value of each label that has no wildcard and is not a negation."""
    made: dict[str, str] = {}
    for label, values in ResourceSpecification.model_validate(specification).items():
        plain = [value for value in values if not re.search(r"[*?\[!]", value)]
        made |= {label: plain[0]} if plain else {}
    return made


def event_of_both(one: Starter, two: Starter) -> ReceivedEvent | None:
    """An event for which both start the deployment."""
    events = [*one.events, *two.events]
    return next((event for event in events if one.model.starts_for(event) and two.model.starts_for(event)), None)


def double(one: Starter, two: Starter, event: ReceivedEvent) -> Problem:
    """Said at the second."""
    other = one.model.file
    where = other.file.name if other.lines else "on the server"
    message = f"deployment: {other.name!r} ({where}) starts {two.deployment} for {event.event!r} too"
    return two.model.file.warning((*two.action.location, "deployment"), f"{message}; disable one of the two")
