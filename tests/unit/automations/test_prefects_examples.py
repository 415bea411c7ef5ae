"""The shapes of automation that Prefect's own documentation shows are valid, or refused for the reason given here.

Each in words of our own, by the page of docs.prefect.io/v3 that shows it; where a page shows a trigger of prefect.yaml
or a Python object, as the same trigger in a file.
"""

from typing import Any

import pytest

from tests.unit.automations.support import Small, automation, event, run_deployment

UPSTREAM = {"prefect.resource.role": "flow", "prefect.resource.name": "upstream"}
RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
BLOCK_CALLED = {
    "type": "event",
    "posture": "Reactive",
    "expect": ["prefect.block.remote-file-system.write_path.called"],
}
JINJA = {"__prefect_kind": "jinja", "template": "{{ flow_run.parameters['table'] }}"}
METRIC = {"name": "lateness", "operator": ">", "threshold": 600, "range": 3600, "firing_for": 300}


def of(*actions: dict[str, Any], **trigger: Any) -> dict[str, Any]:
    """An automation with a trigger of these keys."""
    given = {"type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.Completed"], **trigger}
    return automation(trigger=given, actions=list(actions) or [{"type": "do-nothing"}])


NOTIFICATION = {"type": "send-notification", "block": "slack-webhook/x", "subject": "s"}
SHOWN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "how-to-guides/automations/creating-automations, a run that takes too long": (
        of({"type": "cancel-flow-run"}, posture="Proactive", for_each=["prefect.resource.id"], within=300),
        [],
    ),
    "how-to-guides/automations/creating-automations, a notification without a block": (
        of({"type": "send-notification", "subject": "s", "body": "b"}, expect=["prefect.flow-run.Failed"]),
        ["error: block_document_id: Field required"],
    ),
    "how-to-guides/automations/creating-automations, an event of animals": (
        of(expect=["animal.walked"], match={"genus": "Marmota", "species": "monax"}, threshold=3),
        ["warning: expect: 'animal.walked' is no event of samples/"],
    ),
    "how-to-guides/automations/chaining-deployments-with-events": (
        of(*run_deployment(table="x"), match_related={"prefect.resource.name": "upstream"}),
        [],
    ),
    "how-to-guides/automations/passing-event-payloads-to-flows, a field": (
        of(
            *run_deployment(table={"__prefect_kind": "jinja", "template": "{{ event.payload.table }}"}),
            expect=["data.landed"],
        ),
        [],
    ),
    "how-to-guides/automations/passing-event-payloads-to-flows, the payload as it is: open to whoever sends it": (
        of(
            *run_deployment(
                table={
                    "__prefect_kind": "json",
                    "value": {"__prefect_kind": "jinja", "template": "{{ event.payload.table | tojson }}"},
                }
            ),
            expect=["data.landed"],
        ),
        ["warning: table: the server renders a payload's"],
    ),
    "how-to-guides/automations/access-parameters-in-templates": (
        of(*run_deployment(table=JINJA), match_related=UPSTREAM),
        ["warning: parameters.table.template:"],
    ),
    "how-to-guides/automations/creating-deployment-triggers, the event as it is: no text": (
        of(*run_deployment(table="{{ event }}"), expect=["data.landed"]),
        ["warning: table: the server renders", "error: table: load takes no such value"],
    ),
    "advanced/debouncing-events": (
        of(
            *run_deployment(table="x"), expect=["data.landed"], for_each=["prefect.resource.id"], within=60, threshold=1
        ),
        ["warning: within: above 0 with threshold 1"],
    ),
    "advanced/use-custom-event-grammar": (
        of(
            *run_deployment(table="{{ event.resource.id }}"),
            expect=["data.landed"],
            after=["data.announced"],
            for_each=["prefect.resource.id"],
        ),
        ["warning: after: 'data.announced' is no event of samples/"],
    ),
    "advanced/detect-zombie-flows": (
        of(
            {"type": "change-flow-run-state", "state": "CRASHED", "message": "no heartbeat"},
            posture="Proactive",
            after=["prefect.flow-run.heartbeat"],
            expect=["prefect.flow-run.*"],
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each=["prefect.resource.id"],
            within=90,
        ),
        [],
    ),
    "advanced/detect-zombie-flows, a state of one's own": (
        of(
            posture="Proactive",
            after=["prefect.flow-run.heartbeat"],
            expect=["prefect.flow-run.heartbeat", "prefect.flow-run.SuccessfullyProcessed"],
            for_each=["prefect.resource.id"],
            within=90,
        ),
        ["warning: expect: Prefect sends no 'prefect.flow-run.SuccessfullyProcessed'"],
    ),
    "concepts/event-triggers, names with a star": (
        of(match={**RUNS, "prefect.resource.name": ["cute-*", "radical-*"]}),
        [],
    ),
    "concepts/event-triggers, two related resources": (
        of(
            match=RUNS,
            match_related=[
                {"prefect.resource.name": "k8s-pool", "prefect.resource.role": "work-pool"},
                {"prefect.resource.id": "prefect.tag.examples", "prefect.resource.role": "tag"},
            ],
        ),
        [],
    ),
    "concepts/event-triggers, not of this pool": (
        of(match=RUNS, match_related={"prefect.resource.name": "!dev", "prefect.resource.role": "work-pool"}),
        [],
    ),
    "concepts/event-triggers, a run that was started and did not complete": (
        of(
            posture="Proactive",
            after=["prefect.flow-run.Running"],
            for_each=["prefect.resource.id"],
            match=RUNS,
            within=60,
        ),
        [],
    ),
    "concepts/event-triggers, all of three": (
        automation(trigger={"type": "compound", "require": "all", "within": 3600, "triggers": [BLOCK_CALLED] * 3}),
        [],
    ),
    "concepts/event-triggers, one after the other": (
        automation(
            trigger={
                "type": "sequence",
                "within": 7200,
                "triggers": [
                    {"type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.Completed"]},
                    {"type": "compound", "require": "all", "within": 3600, "triggers": [BLOCK_CALLED]},
                ],
            }
        ),
        [],
    ),
    "concepts/event-triggers, a metric: Prefect Cloud's": (
        automation(trigger={"type": "metric", "match": RUNS, "metric": METRIC}),
        ["warning: type: metric is Prefect Cloud's"],
    ),
    "concepts/event-triggers, any of them, a metric among them": (
        automation(
            trigger={
                "type": "compound",
                "require": "any",
                "within": None,
                "triggers": [
                    {"type": "event", "posture": "Reactive", "expect": ["prefect.work-pool.not-ready"]},
                    {"type": "metric", "metric": METRIC},
                ],
            }
        ),
        ["warning: type: metric is Prefect Cloud's"],
    ),
    "concepts/automations, a run": (
        of({**NOTIFICATION, "body": "{{ flow_run.name }} {{ flow_run.state.timestamp }} {{ flow_run.state.message }}"}),
        [],
    ),
    "concepts/automations, a deployment": (
        of({**NOTIFICATION, "body": "{{ flow_run.tags }} {{ deployment.version }} {{ deployment.parameters }}"}),
        [],
    ),
    "concepts/automations, a work pool that has no last_polled": (
        of({**NOTIFICATION, "body": "{{ work_pool.name }} {{ work_pool.last_polled }}"}),
        ["warning: body: "],
    ),
    "concepts/automations, every label": (
        of(
            {
                **NOTIFICATION,
                "body": "{% for label, value in event.resource %}{{ label }}: {{ value }}{% endfor %}"
                "{% for related in event.related %}{{ related.role }}{% endfor %}",
            }
        ),
        [],
    ),
    "concepts/automations, a summary that only Prefect Cloud has": (
        of({**NOTIFICATION, "body": "{%- if flow_run_log_summary %}{{ flow_run_log_summary }}{%- endif %}"}),
        [],
    ),
}


@pytest.mark.parametrize("page", SHOWN)
def test_what_prefects_documentation_shows_is_valid_or_refused_for_a_reason(page: str, small: Small) -> None:
    data, expected = SHOWN[page]
    small.sample("landed.json", event())
    small.write("one", data)
    code, problems = small.validate()
    assert len(problems) == len(expected), problems
    for message in expected:
        assert any(message in problem for problem in problems), (message, problems)
    assert code == (1 if any(message.startswith("error") for message in expected) else 0)


def test_several_automations_in_one_file_are_one_message(small: Small) -> None:
    """`prefect automation create -f` takes a list under `automations`; here it is one a file."""
    small.write("one", {"automations": [automation()]})
    code, problems = small.validate()
    assert code == 1
    assert any("automations: is not a key here; one automation a file" in problem for problem in problems)
