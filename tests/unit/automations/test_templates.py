"""Templates are rendered by the server's own code; what only a server knows is a warning, and no database is made."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from automations.prefect_automations.templates import has_placeholder
from flows.settings import PROJECT
from tests.unit.automations.support import Small, automation, event, run_deployment

AFTER = {"prefect.resource.role": "flow", "prefect.resource.name": "upstream"}


def of_run(*actions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """After a run of another flow."""
    return automation(trigger__match_related=AFTER, actions=list(actions), **changes)


def notify(body: str) -> dict[str, Any]:
    return {"type": "send-notification", "block": "slack-webhook/x", "subject": "s", "body": body}


@pytest.mark.parametrize(
    "template",
    [
        "{{ flow_run.name }}",
        "{{ deployment.name }}",
        "{{ deployment.version }} {{ deployment.tags }}",
        "{{ flow_run.created.isoformat() }}",
        "{{ flow_run.state.timestamp }} {{ flow_run.flow_id }} {{ flow_run.id }} {{ flow_run.tags }}",
        "{{ flow_run.expected_start_time | humanize_naturaltime }}",
        "{{ flow_run | ui_url }}",
        "{{ work_pool.name }} {{ work_queue.last_polled }}",
        "{{ automation.name }} {{ automation.description }} {{ firing.triggered }} {{ events | length }}",
        "{% for label, value in event.resource %}{{ label }}: {{ value }}{% endfor %}",
        "{% for related in event.related %}{{ related.role }}{% for l, v in related %}{{ v }}{% endfor %}{% endfor %}",
        "{% if summary_of_the_logs %}{{ summary_of_the_logs }}{% endif %}",
        "{{ event.payload.validated_state.name }}",
        "{{ flow_run.run_count + 1 }} {{ flow_run.total_run_time.total_seconds() }}",
    ],
)
def test_what_the_server_knows_is_taken_without_a_word(template: str, small: Small) -> None:
    small.write("one", of_run(notify(template)))
    assert small.validate() == (0, [])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ flow_run.parameters.x }}", "only the server knows flow_run.parameters.x; not checked"),
        ("{{ flow_run.parameters['x'].y.upper() }}", "only the server knows flow_run.parameters.x"),
        ("{{ variables.x }}", "only the server knows variables.x; not checked"),
    ],
)
def test_what_only_the_server_knows_is_a_warning(template: str, message: str, small: Small) -> None:
    small.write("one", of_run(notify(template)))
    code, (problem,) = small.validate()
    assert code == 0
    assert ": warning: " in problem
    assert message in problem


def test_a_parameter_of_which_only_the_server_knows_the_value_is_a_warning(small: Small) -> None:
    variable = {"__prefect_kind": "workspace_variable", "variable_name": "table"}
    small.write("one", of_run(*run_deployment(table=variable, days="{{ flow_run.parameters.days }}")))
    code, problems = small.validate()
    assert code == 0
    assert all(": warning: " in problem for problem in problems)
    assert any("days: only the server knows whether load takes <flow_run.parameters.days>" in each for each in problems)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"table": "{{ flow_run.run_count }}"}, "table: load takes no such value: 1 is not of type 'string'"),
        ({"table": "x", "days": "{{ flow_run.name }}"}, "only the server knows whether load takes"),
        ({"table": "x", "days": "{{ flow_run.run_count }}"}, None),
        ({"table": "x", "full": "{{ flow_run.auto_scheduled }}"}, None),
        ({"table": "{{ flow_run.name }}", "mode": "{{ deployment.name }}"}, None),
    ],
)
def test_a_stand_in_has_the_type_of_the_servers_value(given: dict[str, Any], message: str | None, small: Small) -> None:
    small.write("one", of_run(*run_deployment(**given)))
    problems = small.validate()[1]
    if message is None:
        assert problems == []
    else:
        (problem,) = problems
        assert message in problem


def test_what_no_run_has_fails_a_parameter_and_is_nothing_in_a_text(small: Small) -> None:
    small.write("one", of_run(*run_deployment(table="{{ flow_run.nam }}")))
    code, (problem,) = small.validate()
    assert code == 1
    assert "has no attribute 'nam'" in problem
    small.write("one", of_run(notify("{{ flow_run.nam }}")))
    code, (problem,) = small.validate()
    assert code == 0
    assert "has no attribute 'nam'" in problem


def test_an_event_without_such_a_resource_is_a_warning(small: Small) -> None:
    small.sample("landed.json", event())
    small.write("one", automation(trigger__expect=["data.landed"], actions=[notify("{{ flow.name }}")]))
    code, (problem,) = small.validate()
    assert code == 0
    assert "the event has no flow among its resources" in problem


def test_actions_on_trigger_and_on_resolve_are_checked_as_actions_are(small: Small) -> None:
    small.sample("landed.json", event())
    text = automation(
        trigger__expect=["data.landed"],
        actions_on_trigger=run_deployment(table="{{ event.payload.tabel }}"),
        actions_on_resolve=run_deployment(table="{{ event.resource.id }}", dys=1),
    )
    file = small.write("one", text)
    code, problems = small.validate()
    assert code == 1
    assert any("has no attribute 'tabel'" in problem for problem in problems)
    assert any("dys: is not a parameter of load: got 'dys'; did you mean 'days'?" in problem for problem in problems)
    small.write("one", text | {"actions_on_trigger": run_deployment(table="x"), "actions_on_resolve": []})
    code, printed = small.run("test", small.automations / "samples" / "landed.json", file)
    assert (code, "one: fires" in printed) == (0, True)


@pytest.mark.parametrize(
    ("template", "is_open"),
    [
        ("{{ event.payload.table }}", True),
        ("{{ event.payload['table'] }}", True),
        ("{{ event.payload }}", True),
        ("{{ events[0].payload.table }}", True),
        ("{{ firing.triggering_event.payload.table }}", True),
        (
            {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": "{{event.payload|tojson}}"}},
            True,
        ),
        ("{{ event.payload.table | string }}", False),
        ("{{ event.payload.table.strip() }}", False),
        ("{{ event.resource.id }}", False),
        ("x {{ event.payload.table | default('') }}", False),
        ({"__prefect_kind": "jinja", "template": "{{ event.payload.table }}"}, False),
    ],
)
def test_a_payload_that_the_server_would_render_once_more_is_a_warning(
    template: Any, is_open: bool, small: Small
) -> None:
    small.sample("landed.json", event())
    small.write("one", automation(trigger__expect=["data.landed"], actions=run_deployment(table=template)))
    problems = [each for each in small.validate()[1] if "__prefect_kind" in each]
    assert len(problems) == (1 if is_open else 0)


def test_a_placeholder_is_found_wherever_it_is() -> None:
    assert has_placeholder({"a": [{"b": {"__prefect_kind": "jinja"}}]})
    assert not has_placeholder({"a": [{"b": "__prefect_kind"}]})


def test_the_shipped_automations_are_closed_against_it() -> None:
    """`validate` has no warning of any kind for them; here is that it would have one without the closing."""
    text = (PROJECT / "automations" / "transform_when_extract_finishes.yaml").read_text()
    assert '"{{ event.payload.batch_id.strip() }}"' in text


def test_validate_makes_no_database(small: Small, tmp_path: Path) -> None:
    home = tmp_path / "home"
    small.write(
        "one", of_run(notify("{{ flow_run.name }} {{ variables.x }}"), *run_deployment(table="{{ flow.name }}"))
    )
    command = [sys.executable, "-m", "automations.prefect_automations", "validate", "--project", str(tmp_path)]
    keep = {"PATH": os.environ["PATH"], "PREFECT_HOME": str(home)}
    done = subprocess.run(command, cwd=PROJECT, env=keep, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*.db*")) == []
