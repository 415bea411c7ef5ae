"""What Prefect takes of a trigger, and what then never fires, or not as its author means it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from .files import AutomationFile, Location, as_list
from .known_events import KINDS, ROLES, STATES, Kind, Label, all_names, is_listed, is_possible, kinds_of
from .model import Model
from .prefect_server import EventTrigger, Posture, ReceivedEvent, matches
from .problems import Problem, expected
from .samples import Sample, named

ID, NAME, ROLE = "prefect.resource.id", "prefect.resource.name", "prefect.resource.role"


def check_triggers(model: Model, samples: Sequence[Sample]) -> Iterator[Problem]:
    """Every trap of the triggers of an automation."""
    for place, data in model.file.triggers():
        if data.get("type") in ("compound", "sequence") and not as_list(data.get("triggers")):
            yield model.file.warning((*place, "triggers"), "triggers: none, so this never fires")
    for place, trigger in model.triggers:
        yield from check_counting(model.file, place, trigger)
        yield from check_event_names(model.file, place, trigger, samples)
        yield from check_labels(model.file, place, trigger, samples)


def check_counting(file: AutomationFile, place: Location, trigger: EventTrigger) -> Iterator[Problem]:
    """How many events within how long."""
    if trigger.threshold < 1:
        message = f"threshold: {trigger.threshold} is below 1, and no number of events is; 1 fires for each"
        yield file.warning((*place, "threshold"), message)
    # With `after` the time is what is asked for: one thing within so long of another.
    timed = trigger.within > timedelta(0) and trigger.threshold == 1 and not trigger.after
    if trigger.posture == Posture.Reactive and timed:
        message = (
            "within: above 0 with threshold 1 a reactive trigger drops every further event of those seconds; "
            "within: 0 fires for each"
        )
        yield file.warning((*place, "within"), message)


def check_event_names(
    file: AutomationFile, place: Location, trigger: EventTrigger, samples: Sequence[Sample]
) -> Iterator[Problem]:
    """Names of events that nobody is known to send."""
    for key, names in (("after", trigger.after), ("expect", trigger.expect)):
        for name in sorted(names):
            if is_listed(name) and not kinds_of(name) and not named(samples, name):
                message = f"{key}: Prefect sends no {name!r}: {expected(all_names(), name)}"
                yield file.warning((*place, key), shortened(message) + "; if it is a state of your own, add a sample")
            elif not name.startswith(("prefect.", "prefect-cloud.")) and not named(samples, name) and name != "*":
                known = {sample.event.event for sample in samples}
                message = f"{key}: {name!r} is no event of samples/: {expected(known, name)}"
                yield file.warning((*place, key), f"{message}; if it is right, add a sample")


def shortened(message: str) -> str:
    """Without the list of all events of Prefect."""
    return message.partition("; expected one of")[0]


def check_labels(
    file: AutomationFile, place: Location, trigger: EventTrigger, samples: Sequence[Sample]
) -> Iterator[Problem]:
    """Labels and values of `match`, `match_related` and `for_each` that no such event has."""
    names = sorted(trigger.expect | trigger.after)
    candidates = [candidate for name in names for candidate in candidates_of(name, samples)]
    if not candidates:
        return
    what = names[0] if len(names) == 1 else "these events"
    data = dict(file.triggers())[place]
    match = data.get("match")
    if isinstance(match, dict):
        resources = [candidate.resource for candidate in candidates]
        yield from check_specification(file, (*place, "match"), match, resources, f"no {what}")
    related = data.get("match_related")
    for position, each in enumerate(related if isinstance(related, list) else [related]):
        if isinstance(each, dict) and each:
            where = (*place, "match_related", *([position] if isinstance(related, list) else []))
            resources = [resource for candidate in candidates for resource in candidate.related]
            yield from check_specification(file, where, each, resources, f"nothing related to {what}")
    for label in sorted(trigger.for_each):
        yield from check_for_each(file, (*place, "for_each"), label, candidates, what)


class Candidate:
    """What the resource and the related resources of an event can be."""

    def __init__(self, resource: Mapping[str, Label], related: Sequence[Mapping[str, Label]]) -> None:
        self.resource = resource
        self.related = related


def candidates_of(name: str, samples: Sequence[Sample]) -> list[Candidate]:
    """The events that a name can stand for; none if nothing is known of them."""
    given = [of_sample(sample.event) for sample in samples if matches(name, sample.event.event)]
    kinds = kinds_of(name) if is_listed(name) else KINDS if name == "*" else ()
    return [*given, *(of_kind(kind, name) for kind in kinds)]


def of_kind(kind: Kind, name: str) -> Candidate:
    """An event of Prefect's; a state has one type."""
    related = [{**ROLES[role], ROLE: frozenset({role})} for role in kind.roles]
    resource = dict(kind.resource)
    if "prefect.state-type" in resource and "*" not in name:
        state = name.rpartition(".")[2]
        resource |= {"prefect.state-type": frozenset({STATES[state]}), "prefect.state-name": frozenset({state})}
    return Candidate(resource, related)


def of_sample(event: ReceivedEvent) -> Candidate:
    """An event like a sample: its id and name can be others; what is related to it, too, if a flow sends it."""
    free = dict.fromkeys((ID, NAME))
    values: dict[str, Label] = {label: frozenset({value}) for label, value in event.resource.items()}
    related = [{label: frozenset({value}) for label, value in each.items()} | free for each in event.related]
    from_flow = [{**ROLES[role], ROLE: frozenset({role})} for role in ROLES]
    return Candidate({**values, **free}, [*related, *from_flow])


def check_specification(
    file: AutomationFile,
    place: Location,
    specification: Mapping[str, Any],
    resources: Sequence[Mapping[str, Label]],
    nothing: str,
) -> Iterator[Problem]:
    """A specification that no resource can match: the labels that none has, or else the values that none can have."""
    if any(can_match(specification, resource) for resource in resources):
        return
    known = {label for resource in resources for label in resource}
    unknown = [label for label in specification if label not in known]
    for label in unknown:
        message = f"{place_name(place)}: {nothing} has the label {label}: {expected(known, label)}"
        yield file.warning((*place, label), message)
    if unknown:
        return
    impossible = [
        label
        for label in specification
        if not any(can_match({label: specification[label]}, resource) for resource in resources)
    ]
    for label in impossible or list(specification)[-1:]:
        together = "" if impossible else " together with the other labels"
        message = f"{place_name(place)}: {nothing} can have {label}: {specification[label]!r}{together}; never fires"
        yield file.warning((*place, label), message + possible_values(label, resources))


def place_name(place: Location) -> str:
    """`match` or `match_related`."""
    return str(next(part for part in reversed(place) if isinstance(part, str)))


def possible_values(label: str, resources: Sequence[Mapping[str, Label]]) -> str:
    """What the label can be, as far as it is known."""
    found = {resource[label] for resource in resources if resource.get(label) is not None}
    values = sorted(
        text for each in found for text in (each if isinstance(each, frozenset) else [f"{each}<id>"]) if text
    )
    return f" (it can be {', '.join(values[:12])})" if values else ""


def can_match(specification: Mapping[str, Any], resource: Mapping[str, Label]) -> bool:
    """Whether a resource can have all labels with values that match."""
    for label, given in specification.items():
        patterns = given if isinstance(given, list) else [given]
        if label not in resource or not any(is_possible(str(each), resource[label]) for each in patterns):
            return False
    return True


def check_for_each(
    file: AutomationFile, place: Location, label: str, candidates: Sequence[Candidate], what: str
) -> Iterator[Problem]:
    """A label that separates events into groups, and that none has: all of them are then one group."""
    role, key = role_and_label(label)
    if role is None:
        known = {name for candidate in candidates for name in candidate.resource}
    else:
        related = [each for candidate in candidates for each in candidate.related if is_possible(role, each[ROLE])]
        known = {name for each in related for name in each}
        if not related:
            roles = {name for each in candidates for one in each.related for name in one[ROLE] or ()}
            message = f"for_each: nothing related to {what} has the role {role}: {expected(roles, role)}"
            yield file.warning(place, f"{message}; all events are then one group")
            return
    if key not in known:
        message = f"for_each: no {what} has the label {label}: {expected(known, key)}; all events are then one group"
        yield file.warning(place, message)


def role_and_label(label: str) -> tuple[str | None, str]:
    """`related:flow:prefect.resource.id` is of the flow; another label is of the event's own resource."""
    if label.startswith("related:") and label.count(":") >= 2:
        _, role, key = label.split(":", 2)
        return role, key
    return None, label
