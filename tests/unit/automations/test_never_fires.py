"""What the server takes and what then never fires, or not as its author means it: a warning with file and line."""

from typing import Any

import pytest
import yaml

from tests.unit.automations.support import Small, automation, event, run_deployment

OTHERS = {"trigger__match_related": {"prefect.resource.role": "flow", "prefect.resource.name": "upstream"}}
"""Not the runs of the deployment that is started, which would be a loop."""


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize(
    ("changes", "at", "message"),
    [
        ({"trigger__expect": ["prefect.flow-run.Faild"]}, "expect:", "did you mean 'prefect.flow-run.Failed'?"),
        (
            {"trigger__after": ["prefect.flowrun.*"], "trigger__within": 9},
            "after:",
            "Prefect sends no 'prefect.flowrun.*'",
        ),
        ({"trigger__match": {"prefect.resource.id": "prefect.flow-run"}}, "prefect.resource.id", "never fires"),
        ({"trigger__match": {"prefect.resource.id": "prefect.flow.*"}}, "prefect.resource.id", "prefect.flow-run.<id>"),
        ({"trigger__match": {"prefect.state-type": "FAILED"}}, "prefect.state-type", "it can be COMPLETED"),
        ({"trigger__match": {"prefect.resource.id": []}}, "prefect.resource.id", "never fires"),
        ({"trigger__match": {"prefect.resource.nam": "x"}}, "prefect.resource.nam", "'prefect.resource.name'?"),
        (
            {"trigger__match_related": {"prefect.resource.role": "flw", "prefect.resource.name": "x"}},
            "prefect.resource.role",
            "match_related: nothing related to prefect.flow-run.Completed can have prefect.resource.role: 'flw'",
        ),
        (
            {"trigger__match_related": {"prefect.resource.role": "flow", "prefect.tag": "x"}},
            "prefect.tag",
            "match_related: nothing related to prefect.flow-run.Completed has the label prefect.tag",
        ),
        (
            {"trigger__match_related": {"prefect.resource.role": "flow", "prefect.resource.id": "prefect.tag.x"}},
            "prefect.resource.id",
            "together with the other labels",
        ),
        (
            {"trigger__match_related": [{"prefect.resource.role": "tag", "prefect.resource.name": "x"}]},
            "prefect.resource.name",
            "together with the other labels",
        ),
        ({"trigger__for_each": ["prefect.resource.idd"]}, "for_each", "did you mean 'prefect.resource.id'?"),
        ({"trigger__for_each": ["related:flw:prefect.resource.id"]}, "for_each", "did you mean 'flow'?"),
        ({"trigger__for_each": ["related:flow:prefect.resource.nme"]}, "for_each", "'prefect.resource.name'?"),
        ({"trigger__threshold": 0}, "threshold: 0", "threshold: 0 is below 1"),
        ({"trigger__within": 60}, "within", "drops every further event"),
        ({"actions": []}, "actions", "actions: none, so this does nothing"),
        ({"name": "   "}, "name:", "name: is blank"),
        (
            {"trigger": {"type": "sequence", "within": 5, "triggers": []}},
            "triggers",
            "triggers: none, so this never fires",
        ),
        (
            {"actions": [{"type": "change-flow-run-state", "state": "FAILED", "message": "{{ flow.name }}"}]},
            "message:",
            "message: Prefect renders no template here",
        ),
        (
            {"actions": [{"type": "do-nothing"}], "description": "for {{ flow.name }}"},
            None,
            "",
        ),
        (
            {
                **OTHERS,
                "actions": [{**run_deployment(table="x")[0], "job_variables": {"env": {"A": "{{ event.id }}"}}}],
            },
            "A:",
            "job_variables.env.A: Prefect renders no template here",
        ),
        (
            {
                **OTHERS,
                "actions": [{**run_deployment(table="x")[0], "job_variables": {"A": "{{ prefect.variables.x }}"}}],
            },
            None,
            "",
        ),
        ({"actions": [{"type": "call-webhook", "block": "slack-webhook/x"}]}, "block:", "needs a webhook/..."),
        (
            {"actions": [{"type": "send-notification", "block": "webhook/x", "body": "b"}]},
            "block:",
            "send-notification needs a block that notifies, got 'webhook'",
        ),
        (
            {"actions": run_deployment(table=[["{{ event.id }}"]])},
            "{{ event.id }}",
            "parameters.table.0.0: Prefect renders no template here",
        ),
    ],
)
def test_each_is_a_warning_at_its_line(changes: dict[str, Any], at: str | None, message: str, small: Small) -> None:
    text = yaml.safe_dump(automation(**changes), sort_keys=False)
    file = small.write("one", text)
    code, problems = small.validate()
    warnings = [problem for problem in problems if ": warning: " in problem]
    if at is None:
        assert (code, problems) == (0, [])
        return
    (warning,) = warnings
    assert warning.startswith(f"{file}:{line_of(text, at)}: warning: "), warning
    assert message in warning
    # The schema of `table` refuses a list, which is an error of its own.
    assert code == (1 if "table.0.0" in message else 0)


def test_a_name_with_a_star_and_a_state_of_ones_own_are_taken(small: Small) -> None:
    small.write("one", automation(trigger__expect=["prefect.flow-run.*"]))
    small.write("two", automation("two", trigger__expect=["prefect.flow-run.SourcesLocked"]))
    assert len(small.validate()[1]) == 1
    small.sample("own.json", event("prefect.flow-run.SourcesLocked"))
    assert small.validate() == (0, [])


def test_what_integrations_send_is_not_doubted(small: Small) -> None:
    small.write("one", automation(trigger__expect=["prefect.block.remote-file-system.write_path.called"]))
    small.write("two", automation("two", trigger__expect=["prefect.kubernetes.pod.evicted"]))
    small.write("three", automation("three", trigger__expect=["prefect-cloud.user.logged-in"]))
    assert small.validate() == (0, [])


def test_labels_of_an_event_of_ones_own_are_those_of_its_sample(small: Small) -> None:
    small.sample("landed.json", event())
    small.write("one", automation(trigger__expect=["data.landed"], trigger__match={"kind": "ful"}))
    small.write("two", automation("two", trigger__expect=["data.landed"], trigger__match={"knd": "full"}))
    small.write("three", automation("three", trigger__expect=["data.landed"], trigger__for_each=["knd"]))
    small.write("four", automation("four", trigger__expect=["data.landd"]))
    (four, one, three, two) = small.validate()[1]
    assert "no data.landed can have kind: 'ful'; never fires (it can be full)" in one
    assert "no data.landed has the label knd: got 'knd'; did you mean 'kind'?" in two
    assert "for_each: no data.landed has the label knd" in three
    assert "'data.landd' is no event of samples/: got 'data.landd'; did you mean 'data.landed'?" in four


def test_a_resource_of_an_event_of_ones_own_may_be_another_than_the_samples(small: Small) -> None:
    small.sample("landed.json", event())
    match = {"prefect.resource.id": "shop.returns", "kind": ["full", "delta"]}
    related = {"prefect.resource.role": "flow", "prefect.resource.name": "load"}
    small.write(
        "one", automation(trigger__expect=["data.landed"], trigger__match=match, trigger__match_related=related)
    )
    assert small.validate() == (0, [])


STARTS = automation("first", trigger__expect=["data.landed"], actions=run_deployment(table="x"))


def test_two_that_start_one_deployment_for_one_event_are_a_warning_also_against_files_that_were_not_given(
    small: Small,
) -> None:
    small.sample("landed.json", event())
    first = small.write("first", STARTS)
    second = small.write("second", STARTS | {"name": "second"})
    expected = "deployment: 'first' (first.yaml) starts load/nightly for 'data.landed' too; disable one of the two"
    assert expected in small.validate()[1][0]
    assert expected in small.validate(second)[1][0]
    assert "deployment: 'second' (second.yaml)" in small.validate(first)[1][0]
    assert small.validate()[0] == 0
    small.write("second", STARTS | {"name": "second", "enabled": False})
    assert small.validate() == (0, [])


def test_two_that_start_one_deployment_after_one_flow_are_a_warning(small: Small) -> None:
    after = {"prefect.resource.role": "flow", "prefect.resource.name": "upstream"}
    one = automation("one", trigger__match_related=after, actions=run_deployment(table="x"))
    small.write("one", one)
    small.write("two", one | {"name": "two"})
    (problem,) = small.validate()[1]
    assert "'one' (one.yaml) starts load/nightly for 'prefect.flow-run.Completed' too" in problem
    other = automation(
        "two", trigger__match_related=after | {"prefect.resource.name": "another"}, actions=one["actions"]
    )
    small.write("two", other)
    assert small.validate() == (0, [])


def test_a_run_that_has_the_tag_that_its_own_automation_matches_is_a_loop(small: Small) -> None:
    tag = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.small"}
    action = {"type": "run-deployment", "deployment": "clean/weekly"}
    small.write("one", automation(trigger__match_related=tag, actions=[action]))
    code, (problem,) = small.validate()
    assert code == 1
    assert "a loop: a run of clean/weekly sends 'prefect.flow-run.Completed'" in problem
    small.write("one", automation(trigger__match_related=tag, actions=run_deployment(table="x")))
    assert small.validate() == (0, [])
