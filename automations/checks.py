"""What can be known without a server: names, parameters, templates, and the traps of Prefect's triggers.

Templates are rendered by the server's own code against sample events (`samples/*.json`), which are events as a server
gives them, with the flows that send them.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import jinja2
from prefect.server.events.actions import ActionFailed, RunDeployment
from prefect.server.events.schemas.automations import (
    Automation,
    EventTrigger,
    Firing,
    Posture,
    TriggeredAction,
    TriggerState,
)
from prefect.server.events.schemas.events import ReceivedEvent, ResourceSpecification, matches
from prefect.server.events.schemas.labelling import LabelDiver
from prefect.server.schemas.core import Flow, TaskRun, WorkPool
from prefect.server.schemas.responses import DeploymentResponse, FlowRunResponse, WorkQueueWithStatus
from prefect.server.utilities.user_templates import UserTemplateEnvironment, maybe_template
from prefect.utilities.schema_tools.validation import validate as schema_errors
from pydantic import BaseModel, ValidationError

from automations.files import NAMED, Described, Location, Problem, expected, made_up_id
from automations.project import Deployment, Project

NATIVE: dict[str, type[BaseModel]] = {
    "flow_run": FlowRunResponse,
    "flow": Flow,
    "deployment": DeploymentResponse,
    "task_run": TaskRun,
    "work_pool": WorkPool,
    "work_queue": WorkQueueWithStatus,
}
"""What the server looks up for a template that names it, if the event is about one."""
PARTS = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
ALONE = re.compile(r"\{\{((?!\}\}).)*\}\}", re.DOTALL)
UNSURE = re.compile(r"\s*(event\s*(\.\s*payload|\.\s*resource\s*[\[.](?!\s*(id|name)\b)|\[)|labels)")
"""What an event may lack; its own id, name and time it has always."""


@dataclass(frozen=True)
class Sample:
    """An event as a server gives it, and the flows that send such events."""

    event: ReceivedEvent
    sent_by: tuple[str, ...]
    file: Path


def read_samples(folder: Path) -> list[Sample]:
    """Every sample of the folder; a file whose event has several names is several samples."""
    samples = []
    for file in sorted(folder.glob("*.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        names = data["event"]["event"]
        for name in [names] if isinstance(names, str) else names:
            event = ReceivedEvent.model_validate(data["event"] | {"event": name})
            samples.append(Sample(event, tuple(data.get("sent_by", ())), file))
    return samples


def check(
    automations: Sequence[Described], project: Project, samples: Sequence[Sample], others: Iterable[str] | None = ()
) -> list[Problem]:
    """Every problem of automations; they may name each other, and the others (None: a server will tell)."""
    names = None if others is None else {*others, *(described.name for described in automations)}
    problems: list[Problem] = []
    models = {}
    for described in automations:
        problems += check_names(described, project, names)
        try:
            models[described.name] = as_server_has_it(described)
        except ValidationError:  # Its form is wrong, which was said when it was read.
            continue
        problems += check_traps(described, models[described.name], project, samples)
        problems += check_templates(described, models[described.name], project, samples)
    valid = [described for described in automations if described.name in models]
    return [*problems, *check_doubles(valid, models, samples)]


def as_server_has_it(described: Described) -> Automation:
    """The automation with made-up ids."""
    data = described.automation().model_dump(mode="json", exclude={"owner_resource"})
    return Automation.model_validate(data | {"id": made_up_id("automation", described.name)})


def check_names(described: Described, project: Project, automations: Iterable[str] | None) -> Iterator[Problem]:
    """Names that are neither in prefect.yaml nor in the files. Blocks are only on the server."""
    known: dict[str, Iterable[str]] = {
        "deployment": project.deployments,
        "work_pool": project.work_pools,
        "work_queue": project.work_queues,
        **({} if automations is None else {"automation": automations}),
    }
    for reference in described.references():
        names = list(known.get(reference.kind, [reference.name]))
        form = NAMED[reference.kind]
        if form.fits(reference.name) and reference.name in names:
            continue
        if reference.kind == "deployment" and (why := project.unread.get(reference.name.partition("/")[2])):
            yield described.problem(
                reference.location, f"deployment: its flow and parameters were not checked: {why}", "warning"
            )
            continue
        if not form.fits(reference.name):
            message = f"expected {form.form}, got {reference.name!r}"
        else:
            where = "described by no file" if reference.kind == "automation" else "not in prefect.yaml"
            message = f"is {where}: {expected(names, reference.name)}"
        same = [name for name in names if name.rpartition("/")[2] == reference.name.rpartition("/")[2] != ""]
        there = f" (there is {', '.join(same)})" if same and reference.name not in same else ""
        yield described.problem(reference.location, f"{reference.kind}: {message}{there}")


def check_traps(
    described: Described, automation: Automation, project: Project, samples: Sequence[Sample]
) -> Iterator[Problem]:
    """What Prefect takes and what then does not do what its author wants."""
    triggers = automation.triggers_of_type(EventTrigger)
    places = [place for place, trigger in described.triggers() if trigger.get("type") == "event"]
    for place, trigger in zip(places, triggers, strict=True):
        yield from check_trigger(described, place, trigger, samples)
    custom = [name for trigger in triggers for name in trigger.expect if not name.startswith("prefect.")]
    for location, action in described.actions():
        if action["type"] == "run-deployment" and action.get("source") == "inferred" and custom:
            yield described.problem(
                (*location, "source"),
                f"source: inferred is the deployment whose run sent {custom[0]!r}, so this would run the upstream "
                "again; name a deployment",
            )
        elif automation.enabled:
            yield from check_loop(described, location, action, automation, project, samples)


def check_trigger(
    described: Described, place: Location, trigger: EventTrigger, samples: Sequence[Sample]
) -> Iterator[Problem]:
    """The traps of one trigger, wherever it stands."""
    # With `after` the time is what is asked for: one thing within so long of another.
    timed = trigger.within > timedelta(0) and trigger.threshold == 1 and not trigger.after
    if trigger.posture == Posture.Reactive and timed:
        yield described.problem(
            (*place, "within"),
            "within: above 0 with threshold 1 a reactive trigger drops every further event of those seconds; "
            "within: 0 fires for each",
            "warning",
        )
    for key, names in (("after", trigger.after), ("expect", trigger.expect)):
        for name in sorted(names):
            alike = named(samples, name)
            if not alike and not name.startswith("prefect."):
                known = {sample.event.event for sample in samples}
                yield described.problem(
                    (*place, key),
                    f"{key}: {name!r} is no event of samples/: {expected(known, name)}; if it is right, add a sample",
                    "warning",
                )
            for label in trigger.match.root if alike and isinstance(trigger.match, ResourceSpecification) else ():
                if not any(label in sample.event.resource.root for sample in alike):
                    labels = alike[0].event.resource.root
                    yield described.problem(
                        (*place, "match", label),
                        f"match: no sample of {name!r} has {label}: {expected(labels, label)}",
                    )


def check_loop(
    described: Described,
    location: Location,
    action: Mapping[str, Any],
    automation: Automation,
    project: Project,
    samples: Sequence[Sample],
) -> Iterator[Problem]:
    """An action that causes what its own trigger matches, and so on without an end."""
    target = str(action.get("deployment", ""))
    if action["type"] == "run-deployment" and target in project.deployments:
        events, subject = caused_by_run(target, project.deployments[target], samples), f"a run of {target} sends"
    elif action["type"] == "change-flow-run-state":
        events, subject = caused_by_state(action, automation, samples), "this action causes"
    else:
        events, subject = iter(()), ""
    for subject, event in (*((subject, event) for event in events), *caused_by_action(automation, action)):
        if starts_for(automation, event):
            yield described.problem(
                location,
                f"a loop: {subject} {event.event!r}, which this trigger matches, and so on; "
                "narrow match or match_related to others",
            )
            return


def caused_by_action(automation: Automation, action: Mapping[str, Any]) -> Iterator[tuple[str, ReceivedEvent]]:
    """What Prefect itself sends for every action, done or failed."""
    for event in ("automation.triggered", "automation.action.triggered", "automation.action.executed"):
        yield "this automation sends", made_up_event(f"prefect.{event}", automation)
    yield "this action, should it fail, sends", made_up_event("prefect.automation.action.failed", automation)


def made_up_event(name: str, automation: Automation) -> ReceivedEvent:
    """An event about an automation."""
    resource = {
        "prefect.resource.id": f"prefect.automation.{automation.id}",
        "prefect.resource.name": automation.name,
    }
    return ReceivedEvent.model_validate(
        {"occurred": "2026-01-01T00:00:00Z", "event": name, "resource": resource, "payload": {}, "id": uuid4()}
    )


def caused_by_state(
    action: Mapping[str, Any], automation: Automation, samples: Sequence[Sample]
) -> Iterator[ReceivedEvent]:
    """The event of the state that is set, of every run of which a sample would set it."""
    name = action.get("name") or str(action["state"]).title()
    for sample in samples:
        if starts_for(automation, sample.event) and sample.event.event.startswith("prefect.flow-run."):
            yield sample.event.model_copy(update={"event": f"prefect.flow-run.{name}"})


def caused_by_run(name: str, deployment: Deployment, samples: Sequence[Sample]) -> Iterator[ReceivedEvent]:
    """Events that a run of the deployment causes: its states, and what its flow is known to send."""
    flow_run = {"prefect.resource.id": f"prefect.flow-run.{uuid4()}", "prefect.resource.name": "any-run"}
    roles = {"flow": name.partition("/")[0], "deployment": name.partition("/")[2]}
    related = [
        {
            "prefect.resource.id": f"prefect.{role}.{made_up_id(role, name)}",
            "prefect.resource.role": role,
            "prefect.resource.name": value,
        }
        for role, value in roles.items()
    ]
    for state in ("Scheduled", "Pending", "Running", "heartbeat", "Completed", "Failed", "Crashed", "TimedOut"):
        yield ReceivedEvent.model_validate(
            {
                "occurred": "2026-01-01T00:00:00Z",
                "event": f"prefect.flow-run.{state}",
                "resource": flow_run,
                "related": related,
                "payload": {},
                "id": uuid4(),
            }
        )
    yield from (sample.event for sample in samples if deployment.flow in sample.sent_by)


def check_doubles(
    automations: Sequence[Described], models: Mapping[str, Automation], samples: Sequence[Sample]
) -> Iterator[Problem]:
    """Two enabled automations that start the same deployment for one event."""
    for one, two in combinations(automations, 2):
        for location, action in two.actions():
            target = action.get("deployment")
            if not target or target not in [other.get("deployment") for _, other in one.actions()]:
                continue
            for sample in samples:
                if all(
                    models[each.name].enabled and starts_for(models[each.name], sample.event) for each in (one, two)
                ):
                    yield two.problem(
                        (*location, "deployment"),
                        f"deployment: {one.name!r} ({one.file.name}) starts {target} for {sample.event.event!r} too; "
                        "disable one of the two",
                    )
                    break


def starts_for(automation: Automation, event: ReceivedEvent) -> bool:
    """Whether the event has a part in making the automation fire, now or with others."""
    return any(
        trigger.posture == Posture.Reactive and fires(trigger, event)
        for trigger in automation.triggers_of_type(EventTrigger)
    )


def fires(trigger: EventTrigger, event: ReceivedEvent) -> bool:
    """By the server's rules: whether a reactive trigger counts the event."""
    return trigger.covers(event) and trigger.expects(event.event)


def named(samples: Iterable[Sample], pattern: str) -> list[Sample]:
    """The samples of that event; `prefect.flow-run.*` is several."""
    return [sample for sample in samples if matches(pattern, sample.event.event)]


def check_templates(
    described: Described, automation: Automation, project: Project, samples: Sequence[Sample]
) -> Iterator[Problem]:
    """Renders everything against each sample that the triggers match, and holds parameters against the flow's."""
    triggers = automation.triggers_of_type(EventTrigger)
    covered = [s for t in triggers for name in sorted(t.expect | t.after) or ["*"] for s in named(samples, name)]
    if not covered and any(map(has_template, (action for _, action in described.actions()))):
        yield described.problem(
            ("trigger",),
            "no sample in samples/ is an event of this trigger, so its templates were not rendered",
            "warning",
        )
    for index, (location, action) in enumerate(described.actions()):
        deployment = project.deployments.get(str(action.get("deployment")))
        found = [
            *check_text_around(described, location, action, deployment),
            *check_event_is_there(described, location, action, triggers),
        ]
        for sample in covered or list[Sample | None]([None]):
            if not found:  # What is wrong with one event is mostly wrong with the next, too.
                found += check_rendered(described, location, action, automation, index, sample, deployment)
        yield from found


def check_event_is_there(
    described: Described, location: Location, action: Mapping[str, Any], triggers: Iterable[EventTrigger]
) -> Iterator[Problem]:
    """A proactive trigger whose clock no event starts fires for nothing that has come, so there is no event."""
    if not any(t.posture == Posture.Proactive and not t.after and not t.for_each for t in triggers):
        return
    for place, text in texts(action):
        if re.search(r"\bevent\b", text) and "default" not in text:
            yield described.problem(
                (*location, *place),
                f"{text!r}: a proactive trigger without `after` and `for_each` fires without an event; "
                "add `after`, or leave the event out",
            )


def check_text_around(
    described: Described, location: Location, action: Mapping[str, Any], deployment: Deployment | None
) -> Iterator[Problem]:
    """Text around a template makes a text of any type, and of a missing value nothing, silently."""
    for way, value in texts({"parameters": action.get("parameters") or {}}):
        if ALONE.fullmatch(value.strip()):
            continue
        place, key = (*location, *way), ".".join(map(str, way[1:]))
        schema = deployment.schema.get("properties", {}).get(way[1], {}) if deployment and len(way) == 2 else {}
        types = types_of(schema)
        if types and "string" not in types:
            yield described.problem(
                place, f"{key}: text around a template is a text; the flow wants {', '.join(types)}"
            )
        elif any(UNSURE.match(part) and "default" not in part for part in PARTS.findall(value)):
            yield described.problem(
                place,
                f"{key}: text around a template of which a missing value would leave nothing, silently; "
                "use the template alone, or | default(...)",
            )


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """The JSON types that a parameter's schema names; none if it takes anything."""
    options = [schema, *schema.get("anyOf", [])]
    return [str(option["type"]) for option in options if "type" in option]


def check_rendered(
    described: Described,
    location: Location,
    action: Mapping[str, Any],
    automation: Automation,
    index: int,
    sample: Sample | None,
    deployment: Deployment | None,
) -> Iterator[Problem]:
    """One action against one sample (without one, only what needs none)."""
    if sample:
        context = template_context(automation, sample.event)
        for place, text in texts(action):
            try:
                ENVIRONMENT.from_string(text).render(context)
            except jinja2.UndefinedError as error:
                message = f"{text!r}: {error.message}, in a {sample.event.event!r} as in samples/{sample.file.name}"
                yield described.problem((*location, *place), f"{'.'.join(map(str, place))}: {message}")
                return
            except Exception as error:  # A template can do anything.
                yield described.problem((*location, *place), f"{text!r}: {error}")
                return
    if action["type"] != "run-deployment" or deployment is None:
        return
    given = action.get("parameters") or {}
    for key in given:
        if key not in deployment.schema.get("properties", {}):
            message = f"{key}: is not a parameter of {deployment.flow}: "
            yield described.problem(
                (*location, "parameters", key), message + expected(deployment.schema.get("properties", {}), key)
            )
    if any(key not in deployment.schema.get("properties", {}) for key in given):
        return
    try:
        values = rendered_parameters(automation, index, sample.event) if sample else without_templates(given)
    except ActionFailed as error:
        yield described.problem((*location, "parameters"), f"parameters: {error.reason}")
        return
    except Exception as error:
        yield described.problem((*location, "parameters"), f"parameters: cannot be rendered: {error}")
        return
    for wrong in schema_errors(deployment.parameters | values, deployment.schema, ignore_required=sample is None):
        place = tuple(wrong.absolute_path)
        name = ".".join(map(str, place)) or "parameters"
        yield described.problem(
            (*location, "parameters", *place), f"{name}: {deployment.flow} takes no such value: {wrong.message}"
        )


def rendered_parameters(automation: Automation, index: int, event: ReceivedEvent) -> dict[str, Any]:
    """The parameters of the automation's run-deployment action as the server would render them; it needs no server."""
    action = automation.actions[index]
    assert isinstance(action, RunDeployment)
    triggered = triggered_action(automation, index, event)
    logger = logging.getLogger("prefect.server.utilities.user_templates")
    before, logger.disabled = logger.disabled, True
    try:
        return asyncio.run(action.render_parameters(triggered))
    finally:
        logger.disabled = before


def triggered_action(automation: Automation, index: int, event: ReceivedEvent) -> TriggeredAction:
    """What the server makes of a trigger that has fired."""
    trigger = automation.triggers_of_type(EventTrigger)[0]
    labels = {label: event.find_resource_label(label) or "" for label in trigger.for_each}
    return TriggeredAction(
        automation=automation,
        firing=Firing(
            trigger=trigger,
            trigger_states={TriggerState.Triggered},
            triggered=event.occurred,
            triggering_labels=labels,
            triggering_event=event,
        ),
        triggered=event.occurred,
        triggering_labels=labels,
        triggering_event=event,
        action=automation.actions[index],
        action_index=index,
    )


def template_context(automation: Automation, event: ReceivedEvent) -> dict[str, Any]:
    """What a template can name: the server's own context, with stand-ins for what it would look up."""
    firing = triggered_action(automation, 0, event).firing
    assert firing is not None
    return {
        "automation": automation,
        "event": event,
        "labels": LabelDiver(firing.triggering_labels),
        "firing": firing,
        "firings": firing.all_firings(),
        "events": firing.all_events(),
        **{name: stand_in(model, name, 2) for name, model in NATIVE.items()},
    }


def stand_in(model: type[BaseModel], name: str, depth: int) -> SimpleNamespace:
    """An object with the model's fields, so that a template that names another one fails."""
    fields: dict[str, Any] = {"url": f"<{name}.url>"}
    for key, field in model.model_fields.items():
        inner = next((part for part in parts_of(field.annotation) if issubclass(part, BaseModel)), None)
        fields[key] = stand_in(inner, f"{name}.{key}", depth - 1) if inner and depth else f"<{name}.{key}>"
    return SimpleNamespace(**fields)


def parts_of(annotation: Any) -> list[type]:
    """The classes of a union, or the one class."""
    parts = getattr(annotation, "__args__", None) or [annotation]
    return [part for part in parts if isinstance(part, type)]


def texts(action: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Every template of an action, with its place."""

    def walk(value: Any, place: Location) -> Iterator[tuple[Location, str]]:
        if isinstance(value, str) and maybe_template(value):
            yield place, value
        elif isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(inner, (*place, key))
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                yield from walk(inner, (*place, position))

    for key in ("parameters", "subject", "body", "payload", "message"):
        yield from walk(action.get(key), (key,))


def has_template(action: Mapping[str, Any]) -> bool:
    """Whether there is anything to render."""
    return any(texts(action))


def without_templates(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that stand as they are."""
    return {key: value for key, value in values.items() if not any(texts({"parameters": value}))}


def strict_environment() -> UserTemplateEnvironment:
    """The server's sandbox, where a missing attribute is an error in place of nothing."""
    from prefect.server.events.jinja_filters import all_filters

    made = UserTemplateEnvironment(
        undefined=jinja2.StrictUndefined, extensions=["jinja2_humanize_extension.HumanizeExtension"]
    )
    made.filters.update(all_filters)
    return made


ENVIRONMENT = strict_environment()
