"""The events that Prefect itself sends: names, labels, related resources, payloads.

As its documentation lists them (Events, under API reference), with the states of `prefect.states`. A name that is not
here is no error: a state may have a name of one's own, and a newer Prefect new events.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from .prefect_server import ReceivedEvent, matches

STATES = {
    "Scheduled": "SCHEDULED",
    "Late": "SCHEDULED",
    "Resuming": "SCHEDULED",
    "AwaitingRetry": "SCHEDULED",
    "AwaitingConcurrencySlot": "SCHEDULED",
    "Pending": "PENDING",
    "NotReady": "PENDING",
    "Submitting": "PENDING",
    "InfrastructurePending": "PENDING",
    "Running": "RUNNING",
    "Retrying": "RUNNING",
    "Completed": "COMPLETED",
    "Cached": "COMPLETED",
    "RolledBack": "COMPLETED",
    "Failed": "FAILED",
    "TimedOut": "FAILED",
    "Crashed": "CRASHED",
    "Cancelling": "CANCELLING",
    "Cancelled": "CANCELLED",
    "Paused": "PAUSED",
    "Suspended": "PAUSED",
}
"""Name -> type of the states that Prefect sets."""

ID = UUID("0193579f-0000-7000-8000-000000000001")
ANY = None
"""A label that can have any value."""
Label = frozenset[str] | str | None
"""What a label can be: one of some values, an id after a prefix that ends in a dot, or ANY."""

UNKNOWN_TEXT = "\ue000{}\ue001"
"""Around a text of which only the server knows the value."""

ROLES: dict[str, dict[str, Label]] = {
    "flow": {"prefect.resource.id": "prefect.flow.", "prefect.resource.name": ANY},
    "flow-run": {
        "prefect.resource.id": "prefect.flow-run.",
        "prefect.resource.name": ANY,
        "prefect.infrastructure.identifier": ANY,
        "prefect.infrastructure.status-code": ANY,
    },
    "task-run": {"prefect.resource.id": "prefect.task-run.", "prefect.resource.name": ANY},
    "deployment": {"prefect.resource.id": "prefect.deployment.", "prefect.resource.name": ANY},
    "work-queue": {"prefect.resource.id": "prefect.work-queue.", "prefect.resource.name": ANY},
    "work-pool": {
        "prefect.resource.id": "prefect.work-pool.",
        "prefect.resource.name": ANY,
        "prefect.work-pool.type": ANY,
    },
    "worker": {"prefect.resource.id": ANY, "prefect.resource.name": ANY, "prefect.worker-type": ANY},
    "tag": {"prefect.resource.id": "prefect.tag."},
    "creator": {"prefect.resource.id": ANY, "prefect.resource.name": ANY},
    "triggering-event": {"prefect.resource.id": "prefect.event."},
    "automation-triggered-event": {"prefect.resource.id": "prefect.event."},
    "target": {"prefect.resource.id": ANY, "prefect.resource.name": ANY},
    "block": {"prefect.resource.id": "prefect.block-document.", "prefect.resource.name": ANY},
    "block-type": {"prefect.resource.id": "prefect.block-type."},
    "storage": {"prefect.resource.id": "prefect.block-document."},
    "infrastructure": {"prefect.resource.id": "prefect.block-document."},
    "concurrency-limit": {"prefect.resource.id": "prefect.concurrency-limit.", "prefect.resource.name": ANY},
    "asset": {"prefect.resource.id": ANY},
    "asset-materialized-by": {"prefect.resource.id": ANY},
    "latest": {"prefect.resource.id": "prefect.artifact."},
}
"""Related resources by their role."""
OF_A_RUN = ("flow", "deployment", "work-queue", "work-pool", "task-run", "flow-run", "tag", "creator")


@dataclass(frozen=True)
class Kind:
    """One event, or several that have the same labels."""

    names: tuple[str, ...]
    resource: Mapping[str, Label]
    roles: tuple[str, ...] = ()
    payload: Mapping[str, object] | None = None
    """None where Prefect sends no payload, or one that is not known here."""
    rest: bool = field(default=False)
    """Whether the payload may have more."""


def resource(kind: str, **labels: Label) -> dict[str, Label]:
    """Id and name, and the labels besides; `_` in a keyword becomes `-`, after `prefect.`."""
    more = {f"prefect.{name.replace('_', '-')}": value for name, value in labels.items()}
    return {"prefect.resource.id": f"prefect.{kind}.", "prefect.resource.name": ANY, **more}


def states(kind: str) -> tuple[str, ...]:
    """The events of a run's states."""
    return tuple(f"prefect.{kind}.{name}" for name in STATES)


def of_state(kind: str, **labels: Label) -> dict[str, Label]:
    """The labels of a state's event."""
    return resource(
        kind,
        run_count=ANY,
        state_message=ANY,
        state_name=ANY,
        state_timestamp=ANY,
        state_type=frozenset(STATES.values()),
        **labels,
    )


def named(prefix: str, *names: str) -> tuple[str, ...]:
    """`prefect.<prefix>.<name>` each."""
    return tuple(f"prefect.{prefix}.{name}" for name in names)


def text(name: str) -> str:
    """A text of which only the server knows the value."""
    return UNKNOWN_TEXT.format(name)


STATE_PAYLOAD: dict[str, object] = {
    "intended": {"from": "RUNNING", "to": "COMPLETED"},
    "initial_state": {"type": "RUNNING", "name": "Running", "message": text("message")},
    "validated_state": {"type": "COMPLETED", "name": "Completed", "message": text("message")},
}
UPDATES: dict[str, object] = {"updated_fields": [text("field")], "updates": {}}
ACTION: dict[str, object] = {
    "action_index": 0,
    "action_type": "run-deployment",
    "invocation": str(ID),
    "status_code": 201,
    "reason": text("reason"),
}
POSTURES = frozenset({"Reactive", "Proactive", "Metric"})
TRIGGER_TYPES = frozenset({"event", "compound", "sequence", "metric"})
OF_DEPLOYMENT = ("flow", "work-queue", "work-pool", "storage", "infrastructure", "concurrency-limit")
WORKER: dict[str, Label] = {
    "prefect.resource.id": "prefect.worker.",
    "prefect.resource.name": ANY,
    "prefect.version": ANY,
    "prefect.worker-type": ANY,
}

KINDS = (
    Kind(states("flow-run"), of_state("flow-run"), OF_A_RUN, STATE_PAYLOAD),
    Kind(named("flow-run", "heartbeat"), resource("flow-run", version=ANY), ("flow", "deployment", "tag")),
    Kind(
        named("flow-run", "pull-step.executed", "pull-step.failed"),
        {"prefect.resource.id": "prefect.flow-run."},
        ("deployment",),
    ),
    # With the server's orchestration, task runs have what flow runs have; by themselves they have tags only.
    Kind(states("task-run"), of_state("task-run", orchestration=ANY), OF_A_RUN, STATE_PAYLOAD, rest=True),
    Kind(named("deployment", "created", "deleted", "ready", "not-ready"), resource("deployment"), OF_DEPLOYMENT),
    Kind(named("deployment", "updated"), resource("deployment"), OF_DEPLOYMENT, UPDATES),
    Kind(
        named("work-pool", "created", "deleted", "ready", "not-ready", "paused"),
        resource("work-pool", **{"work-pool.type": ANY}),
    ),
    Kind(named("work-pool", "updated"), resource("work-pool", **{"work-pool.type": ANY}), (), UPDATES),
    Kind(
        named("work-queue", "created", "deleted", "ready", "not-ready", "paused"),
        resource("work-queue"),
        ("work-pool",),
    ),
    Kind(named("work-queue", "updated"), resource("work-queue"), ("work-pool",), UPDATES),
    Kind(named("worker", "started", "stopped"), WORKER, ("work-pool",)),
    Kind(
        named("worker", "submitted-flow-run", "executed-flow-run"),
        WORKER,
        ("flow-run", "flow", "deployment", "work-pool", "work-queue", "tag"),
    ),
    Kind(
        named("runner", "cancelled-flow-run"),
        resource("runner", version=ANY),
        ("deployment", "flow", "flow-run", "tag"),
    ),
    Kind(named("automation", "created", "updated", "deleted"), resource("automation"), (), {}, rest=True),
    Kind(
        named("automation", "triggered", "resolved"),
        resource("automation", posture=POSTURES),
        ("triggering-event",),
        {"triggering_labels": {}, "triggering_event": {}},
        rest=True,
    ),
    Kind(
        named("automation", "action.triggered", "action.executed", "action.failed"),
        resource("automation", posture=POSTURES, trigger_type=TRIGGER_TYPES),
        ("triggering-event", "automation-triggered-event", "target", "flow-run", "block", "block-type"),
        ACTION,
        rest=True,
    ),
    Kind(
        named("concurrency-limit", "acquired", "released", "v1.acquired", "v1.released"),
        {**resource("concurrency-limit"), "slots-acquired": ANY, "limit": ANY, "task_run_id": ANY},
        ("concurrency-limit", "flow-run", "task-run", "flow", "deployment", "work-queue", "work-pool", "tag"),
    ),
    Kind(
        named("artifact", "created", "updated"),
        resource("artifact"),
        OF_A_RUN,
        {"key": text("key"), "type": text("type"), "description": text("description")},
        rest=True,
    ),
    Kind(
        named("artifact-collection", "created", "updated", "deleted"),
        resource("artifact-collection"),
        ("latest", "flow-run", "task-run"),
        {"key": text("key"), "type": text("type"), "data": text("data"), "description": text("description")},
    ),
    Kind(
        named("asset", "referenced", "materialization.succeeded", "materialization.failed"),
        {
            "prefect.resource.id": ANY,
            "prefect.resource.name": ANY,
            "prefect.asset.description": ANY,
            "prefect.asset.url": ANY,
            "prefect.asset.owners": ANY,
        },
        ("asset", "asset-materialized-by", *OF_A_RUN),
        {},
        rest=True,
    ),
    Kind(named("workspace", "transfer.started", "transfer.completed"), resource("workspace.transfer"), (), {}, True),
    Kind(named("log", "write"), {"prefect.resource.id": ANY, "prefect.resource.name": ANY}, OF_A_RUN, {}, rest=True),
    Kind(
        named("variable", "created", "updated", "deleted"),
        resource("variable"),
        (),
        {},
        rest=True,
    ),
)

OTHERS = ("prefect.block.", "prefect.docker.", "prefect.kubernetes.", "prefect.ecs.", "prefect.dbt.")
"""What integrations and blocks send; not listed here, so nothing is said of them."""


def is_listed(pattern: str) -> bool:
    """Whether the name, or some name that its `*` matches, should be among the events here."""
    return pattern.startswith("prefect.") and not pattern.startswith(OTHERS)


def kinds_of(pattern: str) -> list[Kind]:
    """The kinds of event that a name, or its `*`, matches."""
    return [kind for kind in KINDS if any(matches(pattern, name) for name in kind.names)]


def all_names() -> list[str]:
    """Every event that is listed."""
    return [name for kind in KINDS for name in kind.names]


@cache
def example_events(pattern: str) -> list[ReceivedEvent]:
    """One event for each name that a pattern matches, to render templates against."""
    return [example(kind, name) for kind in kinds_of(pattern) for name in kind.names if matches(pattern, name)]


def example(kind: Kind, name: str) -> ReceivedEvent:
    """An event of that name with every label and related resource that it can have."""
    state = name.rpartition(".")[2]
    fixed = {"prefect.state-name": state, "prefect.state-type": STATES.get(state, "COMPLETED")}
    fixed["prefect.state-timestamp"] = "2026-01-01T00:00:00Z"
    related = [labels(ROLES[role], {"prefect.resource.role": role}) for role in kind.roles]
    return ReceivedEvent.model_validate(
        {
            "id": str(ID),
            "occurred": "2026-01-01T00:00:00Z",
            "event": name,
            "resource": labels(kind.resource, fixed),
            "related": related,
            "payload": dict(kind.payload or {}),
        }
    )


def labels(of: Mapping[str, Label], fixed: Mapping[str, str]) -> dict[str, str]:
    """Values for labels: those that are fixed, one that is possible, or a text that only the server knows."""
    made = {}
    for label, value in of.items():
        if label in fixed:
            made[label] = fixed[label]
        elif isinstance(value, str):
            made[label] = f"{value}{ID}"
        else:
            made[label] = min(value) if value else text(label)
    return made | {label: value for label, value in fixed.items() if label in of or label == "prefect.resource.role"}


def is_possible(pattern: str, label: Label) -> bool:
    """Whether a label can have a value that the pattern matches."""
    if pattern.startswith("!") or label is ANY:
        return True
    if isinstance(label, frozenset):
        return any(matches(pattern, value) for value in label)
    return pattern.startswith(label) or matches(pattern, f"{label}{ID}") or _names_some_id(pattern, label)


def _names_some_id(pattern: str, prefix: str) -> bool:
    """Whether a pattern with wildcards before its end, `*.0193*`, could match an id after the prefix."""
    literal = re.split(r"[*?\[]", pattern)[0]
    return literal != pattern and prefix.startswith(literal)
