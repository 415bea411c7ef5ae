"""What is wrong with an automation is said without a server, with file and line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from automations.__main__ import main
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
