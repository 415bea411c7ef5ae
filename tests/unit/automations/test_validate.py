"""What is wrong with an automation is said without a server, with file and line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from automations.__main__ import app, main
from automations.files import NAMED
from flows import events
from flows.landing import Manifest
from flows.settings import PROJECT

SAMPLES = PROJECT / "automations" / "samples"
GOOD = """\
name: start_it
trigger:
  type: event
  posture: Reactive
  expect: [extract.finished]
  match: {prefect.resource.id: "*", handoff: event}
  threshold: 1
  within: 0
actions:
  - type: run-deployment
    source: selected
    deployment: transform/warehouse
    parameters:
      source: "{{ event.payload.source }}"
"""


def validate(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """The exit code and what was said of one file, or several."""
    files = []
    for number, content in enumerate([text, *more]):
        files.append(tmp_path / f"{'abcdef'[number]}.yaml")
        files[-1].write_text(content)
    code = main(["validate", *map(str, files), "--project", str(PROJECT)])
    output = capsys.readouterr()
    return code, output.err + output.out


def test_the_shipped_automations_are_valid_without_a_server_and_without_a_warning() -> None:
    environment = {"PATH": "/usr/bin:/bin", "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "automations", "validate"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "6 automations, 0 errors, 0 warnings\n"


def test_a_good_file_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(GOOD, tmp_path, capsys) == (0, "1 automations, 0 errors, 0 warnings\n")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("name: start_it", "name: [start", 2, "not YAML"),
        (GOOD, "", 1, "expected a mapping with name, trigger and actions, found nothing"),
        (GOOD, "- a\n- b\n", 1, "found a list"),
        (GOOD, "name: x\n", 1, "trigger: is missing"),
        ("name: start_it", "name: start_it\nname: again", 2, "name: is there twice"),
        (
            '"{{ event.payload.source }}"',
            "{{ event.payload.source }}",
            14,
            "a template that begins a value needs quotes",
        ),
        ("  within: 0", "  withn: 0", 8, "withn: is not a key here: got 'withn'; did you mean 'within'?"),
        ("posture: Reactive", "posture: Reactiv", 4, "posture: Input should be"),
        ("type: event", "type: evnt", 3, "type: got 'evnt'; did you mean 'event'?"),
        ("within: 0", "within: soon", 8, "within: Input should be a valid timedelta"),
        ("type: run-deployment", "type: run-deploymnt", 10, "did you mean 'run-deployment'?"),
        ("transform/warehouse", "a/transform/warehouse", 12, "deployment: expected flow/deployment, got 'a/transform/"),
        ("transform/warehouse", "transform/warehose", 12, "did you mean 'transform/warehouse'?"),
        ("transform/warehouse", "orchestrate/warehouse", 12, "there is transform/warehouse"),
        ("transform/warehouse", "warehouse", 12, "deployment: expected flow/deployment, got 'warehouse'"),
        (
            "      source:",
            "      sorce:",
            14,
            "sorce: is not a parameter of transform: got 'sorce'; did you mean 'source'?",
        ),
        ('"{{ event.payload.source }}"', "17", 14, "transform takes no such value: 17 is not"),
        (
            'source: "{{ event.payload.source }}"',
            "full_refresh: maybe",
            14,
            "transform takes no such value: 'maybe' is not",
        ),
        (
            'source: "{{ event.payload.source }}"',
            'full_refresh: "{{ event.payload.rows }}"',
            14,
            "transform takes no such value: 194 is not of type 'boolean'",
        ),
        ("event.payload.source }}", "event.payload.source }", 13, "Invalid jinja: unexpected '}'"),
        ("event.payload.source }}", "event.payload.sorce }}", 14, "has no attribute 'sorce'"),
        (
            'source: "{{ event.payload.source }}"',
            'full_refresh: "x {{ event.id }}"',
            14,
            "text around a template is a text; the flow wants boolean",
        ),
        ("{{ event.payload.source }}", "x.{{ event.payload.source }}", 14, "would leave nothing, silently"),
        ("source: selected\n    deployment: transform/warehouse", "source: inferred", 11, "run the upstream again"),
        (
            "expect: [extract.finished]",
            "expect: [extract.finshed]",
            5,
            "warning: expect: 'extract.finshed' is no event",
        ),
        ("handoff: event}", "handof: event}", 6, "match: no sample of 'extract.finished' has handof"),
        ("within: 0", "within: 60", 8, "warning: within: above 0 with threshold 1 a reactive trigger drops"),
        (
            "[extract.finished]",
            "[transform.finished]",
            10,
            "a loop: a run of transform/warehouse sends 'transform.finished'",
        ),
        ("[extract.finished]", "[prefect.flow-run.Completed]", 10, "a loop: a run of transform/warehouse sends"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(
    old: str, new: str, line: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if "[prefect.flow-run" in new or "[transform.fin" in new:
        text = text.replace('match: {prefect.resource.id: "*", handoff: event}', 'match: {prefect.resource.id: "*"}')
        text = text.replace('source: "{{ event.payload.source }}"', "command: build")
    code, said = validate(text, tmp_path, capsys)
    assert any(f"a.yaml:{line}: " in told and message in told for told in said.splitlines()), said
    assert code == (0 if "warning: " in message else 1)


PAIR = """\
name: a
trigger:
  type: sequence
  within: 60
  triggers:
    - type: event
      posture: Reactive
      expect: [extract.finished]
      match: {handoff: event}
      threshold: 1
      within: 0
    - type: compound
      require: any
      within: 10
      triggers:
        - type: event
          posture: Reactive
          expect: [transform.finished]
          threshold: 1
          within: 0
actions:
  - {type: pause-work-queue, work_queue: baton/warehouse}
  - {type: pause-work-pool, work_pool: baton}
  - {type: pause-automation, automation: transform_when_extract_finishes}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("match: {handoff: event}", "match: {handof: event}", 9, "did you mean 'handoff'?"),
        ("          within: 0", "          within: 5", 20, "warning: within: above 0 with threshold 1"),
        ("[transform.finished]", "[transform.finshed]", 18, "warning: expect: 'transform.finshed' is no event"),
        ("          posture: Reactive", "          posture: Reactiv", 17, "posture: Input should be"),
        ("    - type: compound", "    - oops\n    - type: compound", 12, "trigger: expected a mapping with type, got"),
        ("baton/warehouse", "warehouse", 22, "expected pool/queue, got 'warehouse' (there is baton/warehouse)"),
        ("baton/warehouse", "baton/warehose", 22, "did you mean 'baton/warehouse'?"),
        ("work_pool: baton}", "work_pool: batn}", 23, "did you mean 'baton'?"),
        ("when_extract_finishes", "when_extract_finshes", 24, "automation: is described by no file"),
    ],
)
def test_what_is_wrong_in_a_nested_trigger_or_another_name_is_said_at_its_own_line(
    old: str, new: str, line: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate(PAIR, tmp_path, capsys) == (0, "1 automations, 0 errors, 0 warnings\n")
    assert old in PAIR
    code, said = validate(PAIR.replace(old, new, 1), tmp_path, capsys)
    assert any(f"a.yaml:{line}: " in told and message in told for told in said.splitlines()), said
    assert code == (0 if "warning: " in message else 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: &x [*x]\n", "a part of it contains itself"),
        (GOOD[: GOOD.index("actions:")] + "actions: 5\n", "actions: Input should be a valid list; got 5"),
        (GOOD[: GOOD.index("actions:")] + "actions: [do-nothing]\n", "expected a mapping with type, got 'do-nothing'"),
        (GOOD[: GOOD.index("actions:")] + "actions:\n", "actions: is missing"),
        ("name: x\ntrigger: soon\nactions: []\n", "trigger: expected a mapping with type, got 'soon'"),
        (GOOD.replace("start_it", '""'), "name: is missing"),
        (
            GOOD.replace("    deployment: transform/warehouse\n", ""),
            "deployment (flow/deployment, or deployment_id) is",
        ),
        (GOOD.replace("transform/warehouse", "warehouse"), "got 'warehouse' (there is transform/warehouse)"),
        (GOOD.replace('}}"', '}} {{ event.id | default(1) }}"'), "would leave nothing, silently"),
        (GOOD.replace("Reactive", "Proactive").replace("within: 0", "within: 60"), "fires without an event"),
        (
            GOOD.replace("[extract.finished]", "[prefect.automation.action.failed]")
            .replace(", handoff: event", "")
            .replace('source: "{{ event.payload.source }}"', "command: build"),
            "a loop: this action, should it fail, sends 'prefect.automation.action.failed'",
        ),
        (
            "name: x\ntrigger: {type: event, posture: Reactive, expect: [prefect.flow-run.Cancelled], threshold: 1, "
            "within: 0}\nactions: [{type: change-flow-run-state, state: CANCELLED, name: Cancelled}]\n",
            "a loop: this action causes 'prefect.flow-run.Cancelled'",
        ),
    ],
)
def test_each_fault_is_one_message(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = validate(text, tmp_path, capsys)
    assert code == 1
    (error,) = [line for line in said.splitlines() if "error: " in line]
    assert message in error


def test_a_bare_name_of_a_deployment_that_two_flows_have_is_answered_with_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.py").write_text(
        "from prefect import flow\n\n@flow\ndef load(source: str): ...\n\n@flow\ndef clean(source: str): ...\n"
    )
    entries = [{"name": "nightly", "entrypoint": f"jobs.py:{name}"} for name in ("load", "clean")]
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": entries}))
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("transform/warehouse", "nightly"))
    assert main(["validate", str(file), "--project", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "a.yaml:12: error: deployment: expected flow/deployment, got 'nightly'" in said
    assert "load/nightly" in said and "clean/nightly" in said


def test_a_deployment_whose_code_lies_elsewhere_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for entrypoint in ("gone.py:load", "no_such_package.flows.load"):
        entries = [{"name": "nightly", "entrypoint": entrypoint}]
        (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": entries}))
        file = tmp_path / "a.yaml"
        file.write_text(GOOD.replace("transform/warehouse", "load/nightly"))
        assert main(["validate", str(file), "--project", str(tmp_path)]) == 0
        assert f"12: warning: deployment: its flow and parameters were not checked: its entrypoint {entrypoint!r}" in (
            capsys.readouterr().err
        )


@pytest.mark.parametrize("text", ["[", "deployments:\n", "- x\n", "deployments: [{entrypoint: a.py:b}]\n"])
def test_a_prefect_yaml_that_is_none_is_one_message_with_its_line_also_for_machines(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prefect.yaml").write_text(text)
    assert main(["validate", "--project", str(tmp_path), "--json"]) == 1
    assert f"{tmp_path / 'prefect.yaml'}:1: " in json.loads(capsys.readouterr().out)["error"]


def test_it_works_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["validate"]) == 0


@pytest.mark.parametrize("text", ["[]", "5", "{}", '{"event": null}', '{"event": {"event": ["a"]}}', "x"])
def test_a_file_without_an_event_is_one_message(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "event.json"
    file.write_text(text)
    assert main(["test", str(file), "--json"]) == 1
    assert str(file) in json.loads(capsys.readouterr().out)["error"]


def test_every_sample_can_be_tried(capsys: pytest.CaptureFixture[str]) -> None:
    for sample in sorted(SAMPLES.glob("*.json")):
        assert main(["test", str(sample), "--project", str(PROJECT)]) == 0
    said = capsys.readouterr().out
    assert "prefect.flow-run.heartbeat of" in said
    assert "crash_runs_that_stop_beating: stops the clock" in said


def test_an_event_without_what_the_template_names_shows_that_the_action_would_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads((SAMPLES / "extract.finished.json").read_text())["event"]
    del data["payload"]["batch_id"]
    (tmp_path / "event.json").write_text(json.dumps(data))
    assert main(["test", str(tmp_path / "event.json"), "--json"]) == 0
    found = {each["automation"]: each for each in json.loads(capsys.readouterr().out)}
    (action,) = found["transform_when_extract_finishes"]["actions"]
    assert action["fails"]
    assert "parameters" not in action


def documented() -> str:
    return (PROJECT / "automations" / "README.md").read_text()


def test_every_command_option_and_file_is_documented_and_nothing_else() -> None:
    text = documented()
    commands = {name for name in app if not name.startswith("-")}
    table = text.split("## The command")[1].split("The options")[0]
    assert set(re.findall(r"^\| `(\w+)[^`|]*` \|", table, re.MULTILINE)) == commands
    options = {
        option
        for command in commands
        for argument in app[command].assemble_argument_collection()
        for option in argument.names
        if option.startswith("--")
    } - {"--event"}
    theirs = {"--id", "--all"}  # Options of `prefect` itself.
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - theirs == options
    shipped = {file.stem for file in (PROJECT / "automations").glob("*.yaml")}
    assert shipped == set(re.findall(r"`(\w+_\w+_\w+)\.yaml`", text))


def test_every_name_that_stands_for_an_id_is_documented() -> None:
    for key, named in NAMED.items():
        assert f"| `{key}` | `{named.form}` |" in documented()


def test_a_name_is_one_automation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = validate(GOOD, tmp_path, capsys, GOOD.replace("transform/warehouse", "orchestrate/dummyjson"))
    assert code == 1
    assert "b.yaml:1: error: name: 'start_it' is also the name in a.yaml" in said


def test_two_automations_that_start_the_same_deployment_for_one_event_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = GOOD.replace("start_it", "start_it_too")
    code, said = validate(GOOD, tmp_path, capsys, other)
    assert code == 1
    assert "starts transform/warehouse for 'extract.finished' too; disable one of the two" in said
    assert validate(GOOD, tmp_path, capsys, other + "enabled: false\n")[0] == 0


def test_a_notification_that_names_what_no_run_has_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PROJECT / "automations" / "notify_when_a_run_fails.yaml").read_text()
    code, said = validate(text.replace('flow_run.state.name }}"', 'flow_run.state.nam }}"'), tmp_path, capsys)
    assert code == 1
    assert "has no attribute 'nam'" in said


def test_without_prefect_yaml_it_says_where_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--project", str(tmp_path)]) == 1
    assert "prefect.yaml: not there; run this where your prefect.yaml is, or give --project" in capsys.readouterr().err


def test_problems_are_also_there_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("within: 0", "withn: 0"))
    assert main(["validate", str(file), "--project", str(PROJECT), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["file"], problem["line"], problem["severity"]) == (str(file), 8, "error")


def test_an_event_shows_what_it_would_start_and_with_what(capsys: pytest.CaptureFixture[str]) -> None:
    event = str(SAMPLES / "extract.finished.json")
    assert main(["test", event, "--project", str(PROJECT), "--json"]) == 0
    found = {each["automation"]: each for each in json.loads(capsys.readouterr().out)}
    fired = found["transform_when_extract_finishes"]
    assert fired["outcome"] == "fires"
    assert fired["actions"][0]["parameters"] == {
        "source": "dummyjson.products",
        "batch_id": "20261124T000000Z-0193579f0000",
        "event_id": "5b7e9a52-6c1f-5d0c-8a3e-2f4b6c8d0e1f",
    }
    assert found["orchestrate_when_extract_is_overdue"]["outcome"].startswith("starts the clock")
    assert found["transform_when_all_extracts_finish"]["outcome"].startswith("nothing, it is disabled")
    assert found["notify_when_a_run_fails"]["outcome"] == "nothing"


def test_another_hand_off_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads((SAMPLES / "extract.finished.json").read_text())["event"]
    data["resource"]["handoff"] = "caller"
    (tmp_path / "event.json").write_text(json.dumps(data))
    assert main(["test", str(tmp_path / "event.json"), "--project", str(PROJECT), "--json"]) == 0
    fired = [each for each in json.loads(capsys.readouterr().out) if each["outcome"] == "fires"]
    assert fired == []


def test_the_sample_of_our_event_is_what_our_flows_send() -> None:
    sample = json.loads((SAMPLES / "extract.finished.json").read_text())["event"]
    manifest = Manifest.model_validate(sample["payload"])
    event = events.extract_finished(manifest, "event").model_dump(mode="json")
    assert event["payload"] == sample["payload"]
    assert event["resource"] == sample["resource"]
    assert event["related"] == sample["related"]


def test_the_folder_can_be_lifted_into_another_project(tmp_path: Path) -> None:
    """Another project, with one flow and this folder copied as it is."""
    import shutil

    shutil.copytree(PROJECT / "automations", tmp_path / "automations", ignore=shutil.ignore_patterns("*.yaml"))
    (tmp_path / "jobs.py").write_text("from prefect import flow\n\n@flow\ndef load(table: str, days: int = 1): ...\n")
    deployment = {"name": "nightly", "entrypoint": "jobs.py:load", "work_pool": {"name": "p"}}
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"name": "other", "deployments": [deployment]}))
    text = GOOD.replace("transform/warehouse", "load/nightly").replace('source: "{{', 'table: "{{')
    (tmp_path / "automations" / "one.yaml").write_text(text)
    command = [sys.executable, "-m", "automations", "validate"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout) == (0, "1 automations, 0 errors, 0 warnings\n"), done.stderr
