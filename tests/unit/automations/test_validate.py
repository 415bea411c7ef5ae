"""What is wrong with an automation is said without a server, with file and line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from automations.prefect_automations.cli import app, main
from automations.prefect_automations.files import NAMED, read
from automations.prefect_automations.loading import load
from automations.prefect_automations.output import coloured, plan_summary
from automations.prefect_automations.plan import Change
from flows.landing.batch import Manifest
from flows.server import events
from flows.settings import PROJECT
from tests.unit.automations.support import GOOD, SAMPLES, Small, automation, event, run_deployment


def validate(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """The exit code and what was said of one file, or several."""
    files = []
    for number, content in enumerate([text, *more]):
        files.append(tmp_path / f"{'abcdef'[number]}.yaml")
        files[-1].write_text(content)
    if not (tmp_path / "samples").exists():
        (tmp_path / "samples").symlink_to(SAMPLES)
    code = main(["validate", *map(str, files), "--project", str(PROJECT), "--dir", str(tmp_path)])
    output = capsys.readouterr()
    return code, output.err + output.out


def test_the_shipped_automations_are_valid_without_a_server_and_without_a_warning() -> None:
    environment = {"PATH": "/usr/bin:/bin", "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "automations.prefect_automations", "validate"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("7 automations, 0 errors, 0 warnings\n", "")


def test_a_good_file_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(GOOD, tmp_path, capsys) == (0, "1 automation, 0 errors, 0 warnings\n")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("name: start_it", "name: [start", 2, "not YAML"),
        (GOOD, "", 1, "expected a mapping with name, trigger and actions, found nothing"),
        (GOOD, "- a\n- b\n", 1, "found a list"),
        (GOOD, "name: x\n", 1, "trigger: is missing"),
        ("name: start_it", "name: start_it\nname: again", 2, "name: is there twice"),
        (
            '"{{ event.resource.id }}"',
            "{{ event.resource.id }}",
            14,
            "a template that begins a value needs quotes",
        ),
        ("  within: 0", "  withn: 0", 8, "withn: is not a key here: got 'withn'; did you mean 'within'?"),
        ("posture: Reactive", "posture: Reactiv", 4, "posture: Input should be"),
        ("type: event", "type: evnt", 3, "type: got 'evnt'; did you mean 'event'?"),
        ("within: 0", "within: soon", 8, "within: Input should be a valid timedelta"),
        ("type: run-deployment", "type: run-deploymnt", 10, "did you mean 'run-deployment'?"),
        ("transform/warehouse", "a/transform/warehouse", 12, "deployment: expected flow/deployment, got 'a/transform/"),
        (
            "transform/warehouse",
            "transform/warehose",
            12,
            "warning: deployment: is not in prefect.yaml: got 'transform/warehose'; did you mean 'transform/warehouse'",
        ),
        ("transform/warehouse", "orchestrate/warehouse", 12, "warning: deployment: is not in prefect.yaml"),
        ("transform/warehouse", "warehouse", 12, "deployment: expected flow/deployment, got 'warehouse'"),
        (
            "      source:",
            "      sorce:",
            14,
            "sorce: is not a parameter of transform: got 'sorce'; did you mean 'source'?",
        ),
        ('"{{ event.resource.id }}"', "17", 14, "transform takes no such value: 17 is not"),
        (
            'source: "{{ event.resource.id }}"',
            "full_refresh: maybe",
            14,
            "transform takes no such value: 'maybe' is not",
        ),
        (
            'source: "{{ event.resource.id }}"',
            'full_refresh: "{{ event.payload.rows }}"',
            14,
            "transform takes no such value: 194 is not of type 'boolean'",
        ),
        ("event.resource.id }}", "event.payload.source }", 13, "Invalid jinja: unexpected '}'"),
        ("event.resource.id }}", "event.payload.sorce }}", 14, "has no attribute 'sorce'"),
        (
            'source: "{{ event.resource.id }}"',
            'full_refresh: "x {{ event.id }}"',
            14,
            "text around a template is a text; the flow wants boolean",
        ),
        ("{{ event.resource.id }}", "x.{{ event.payload.source }}", 14, "warning: source: text around a template"),
        (
            "source: selected\n    deployment: transform/warehouse",
            "source: inferred",
            11,
            "warning: source: inferred is the deployment",
        ),
        (
            "expect: [extract.finished]",
            "expect: [extract.finshed]",
            5,
            "warning: expect: 'extract.finshed' is no event",
        ),
        ("handoff: event}", "handof: event}", 6, "warning: match: no extract.finished has the label handof"),
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
        text = text.replace('source: "{{ event.resource.id }}"', "command: build")
    code, said = validate(text, tmp_path, capsys)
    assert any(f"a.yaml:{line}: " in each and message in each for each in said.splitlines()), said
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
  - {type: pause-automation, automation: start_it}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            "match: {handoff: event}",
            "match: {handof: event}",
            9,
            "warning: match: no extract.finished has the label handof",
        ),
        ("          within: 0", "          within: 5", 20, "warning: within: above 0 with threshold 1"),
        ("[transform.finished]", "[transform.finshed]", 18, "warning: expect: 'transform.finshed' is no event"),
        ("          posture: Reactive", "          posture: Reactiv", 17, "posture: Input should be"),
        ("    - type: compound", "    - oops\n    - type: compound", 12, "trigger: expected a mapping with type, got"),
        ("baton/warehouse", "warehouse", 22, "expected pool/queue, got 'warehouse' (there is baton/warehouse)"),
        ("baton/warehouse", "baton/warehose", 22, "warning: work_queue: is not in prefect.yaml: got 'baton/warehose'"),
        ("work_pool: baton}", "work_pool: batn}", 23, "warning: work_pool: is not in prefect.yaml: got 'batn'"),
        ("automation: start_it", "automation: strt_it", 24, "warning: automation: is described by no file"),
    ],
)
def test_what_is_wrong_in_a_nested_trigger_or_another_name_is_said_at_its_own_line(
    old: str, new: str, line: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate(PAIR, tmp_path, capsys, GOOD) == (0, "2 automations, 0 errors, 0 warnings\n")
    assert old in PAIR
    code, said = validate(PAIR.replace(old, new, 1), tmp_path, capsys, GOOD)
    assert any(f"a.yaml:{line}: " in each and message in each for each in said.splitlines()), said
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
        (
            GOOD.replace("[extract.finished]", "[prefect.automation.action.failed]")
            .replace(", handoff: event", "")
            .replace('source: "{{ event.resource.id }}"', "command: build"),
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
def test_a_prefect_yaml_that_is_none_is_one_message_with_its_eachalso_for_machines(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prefect.yaml").write_text(text)
    assert main(["validate", "--project", str(tmp_path), "--json"]) == 1
    assert f"{tmp_path / 'prefect.yaml'}:1: " in json.loads(capsys.readouterr().out)["error"]


def test_the_current_folder_is_the_project(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write("one", automation())
    monkeypatch.chdir(small.folder)
    assert main(["validate"]) == 0
    assert small.capsys.readouterr().out == "1 automation, 0 errors, 0 warnings\n"


def test_it_reads_the_automations_of_the_project_that_is_given_and_no_others(small: Small) -> None:
    small.write("one", automation())
    assert small.run("validate") == (0, "1 automation, 0 errors, 0 warnings\n")
    elsewhere = small.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "two.yaml").write_text("name: two\n")
    code, printed = small.run("validate", "--dir", elsewhere)
    assert (code, "two.yaml:1: error: trigger: is missing" in printed) == (1, True)


@pytest.mark.parametrize("text", ["[]", "5", "{}", '{"event": null}', '{"event": {"event": ["a"]}}', "x"])
def test_a_file_without_an_event_is_one_message(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "event.json"
    file.write_text(text)
    assert main(["test", str(file), "--json"]) == 1
    assert str(file) in json.loads(capsys.readouterr().out)["error"]


def test_every_sample_is_what_it_expects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--project", str(PROJECT)]) == 0
    said = capsys.readouterr().out
    assert "prefect.flow-run.heartbeat of" in said
    assert "crash_runs_without_heartbeat: stops the clock" in said
    expectations, failures = re.findall(r"(\d+) expectations, (\d+) failures", said)[0]
    assert int(expectations) > 10
    assert failures == "0"


def test_an_event_without_what_the_template_names_shows_that_the_action_would_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads((SAMPLES / "extract.finished.json").read_text())["event"]
    del data["payload"]["batch_id"]
    (tmp_path / "event.json").write_text(json.dumps(data))
    assert main(["test", str(tmp_path / "event.json"), "--project", str(PROJECT), "--json"]) == 1
    found = {each["automation"]: each for each in json.loads(capsys.readouterr().out)}
    (action,) = found["transform_when_extract_finishes"]["actions"]
    assert action["fails"]
    assert "parameters" not in action
    assert found["transform_when_extract_finishes"]["failures"] == [f"run-deployment: {action['fails']}"]


AUTOMATIONS = PROJECT / "automations"


def documented() -> str:
    return (AUTOMATIONS / "prefect_automations" / "README.md").read_text()


def test_every_command_and_option_is_documented_and_nothing_else() -> None:
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
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - {"--version", "--help"} == options


def test_every_shipped_automation_is_documented_and_nothing_else() -> None:
    shipped = {file.stem for file in AUTOMATIONS.glob("*.yaml")}
    assert shipped == set(re.findall(r"`(\w+_\w+_\w+)\.yaml`", (AUTOMATIONS / "README.md").read_text()))


def test_every_name_that_stands_for_an_id_is_documented() -> None:
    for key, named in NAMED.items():
        assert f"| `{key}` | `{named.form}` |" in documented()


def test_a_name_is_one_automation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = validate(GOOD, tmp_path, capsys, GOOD.replace("transform/warehouse", "orchestrate/dummyjson"))
    assert code == 1
    assert "b.yaml:1: error: name: 'start_it' is also the name in a.yaml" in said


def test_without_a_folder_of_automations_it_says_where_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--project", str(tmp_path)]) == 1
    expected = (
        "automations: no folder of automations here; `init` makes one, or say where it is with --project or --dir"
    )
    assert expected in capsys.readouterr().err


def test_problems_are_also_there_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("within: 0", "withn: 0"))
    assert main(["validate", str(file), "--project", str(PROJECT), "--json"]) == 1
    (problem,) = [p for p in json.loads(capsys.readouterr().out)["problems"] if p["severity"] == "error"]
    assert (problem["file"], problem["line"]) == (str(file), 8)


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
    assert found["orchestrate_when_extract_is_overdue"]["outcome"] == "starts the clock"
    assert found["transform_when_all_extracts_finish"]["detail"].startswith("nothing, it is disabled")
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


def test_an_error_of_form_hides_no_other(small: Small) -> None:
    data = automation(trigger__withn=5, actions=[{"deployment": "load/nightly"}, *run_deployment(tabel="x")])
    data["trigger"]["match_related"] = {"prefect.resource.role": "flow", "prefect.resource.name": "upstream"}
    small.write("one", data)
    code, problems = small.validate()
    assert code == 1
    assert len(problems) == 3
    for message in ("withn: is not a key here", "type: is missing", "tabel: is not a parameter of load"):
        assert any(message in problem for problem in problems), message


def test_an_action_without_a_type_is_one_message(small: Small) -> None:
    file = small.write("one", automation(actions=[{"deployment": "load/nightly"}]))
    code, (problem,) = small.validate()
    assert code == 1
    assert problem.startswith(f"{file}:10: error: type: is missing; expected one of call-webhook")


def test_what_only_a_server_has_is_a_warning(small: Small) -> None:
    actions = [
        {"type": "pause-work-queue", "work_queue": "baton/default"},
        {"type": "pause-deployment", "deployment": "hello/served"},
        {"type": "pause-automation", "automation": "made in the UI"},
    ]
    small.write("one", automation(actions=actions))
    code, problems = small.validate()
    assert code == 0
    assert [": warning: " in problem for problem in problems] == [True] * 3


def test_a_project_without_prefect_yaml_has_its_folders_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "automations").mkdir()
    (tmp_path / "automations" / "one.yaml").write_text(yaml.safe_dump(automation()))
    assert main(["validate", "--project", str(tmp_path)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_what_prefect_cloud_alone_has_is_taken_with_a_warning(small: Small) -> None:
    metric = {"name": "successes", "threshold": 0.9, "operator": "<", "range": 3600, "firing_for": 300}
    trigger = {"type": "metric", "posture": "Metric", "metric": metric}
    small.write("one", automation(trigger=trigger, actions=[{"type": "declare-incident"}]))
    code, problems = small.validate()
    assert code == 0
    assert len(problems) == 2
    assert all("Prefect Cloud's; a server of your own refuses it" in problem for problem in problems)
    small.write("one", automation(trigger=trigger | {"metric": metric | {"operator": "~"}}))
    assert small.validate()[0] == 1


def test_two_files_of_one_name_cannot_be_told_apart_on_a_server(small: Small) -> None:
    one = small.write("one", automation())
    other = small.folder / "one.yaml"
    other.write_text(yaml.safe_dump(automation("two")))
    code, (problem,) = small.validate(one, other)
    assert code == 1
    assert "has the same file name, by which both are known" in problem


def test_former_names_and_adopts_are_checked(small: Small) -> None:
    small.write("one", automation(former_names="old", adopts="x"))
    code, problems = small.validate()
    assert code == 1
    assert any("former_names: expected a list of names, got 'old'" in problem for problem in problems)
    assert any("adopts: expected an automation's id, got 'x'" in problem for problem in problems)


@pytest.mark.parametrize("arguments", [["validat"], ["validate", "--projct", "x"], ["plan", "--json=maybe"]])
def test_a_command_line_that_is_not_right_has_an_exit_code_of_its_own(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_version_and_help_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.match(r"\d+\.\d+\.\d+$", capsys.readouterr().out.strip())
    assert main(["--help"]) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "a.json:1: error: not JSON"),
        ("a.json", "[]", "a.json:1: error: expected an event, found list"),
        ("a.json", {"event": {"event": "x"}}, "a.json:1: error: is no event of Prefect's: occurred: Field required"),
        ("a.yaml", "event: [", "a.yaml:1: error: not YAML"),
        ("a.json", {"event": event(), "sent_by": "load"}, "sent_by: expected a list of flows, got 'load'"),
        ("a.json", {"event": event(), "expect": ["one"]}, "expect: expected a mapping"),
        ("a.json", {"event": event(), "expect": {"one": "explodes"}}, "expect, one: expected one of fires, counts"),
    ],
)
def test_a_sample_that_is_none_is_one_message(name: str, content: object, message: str, small: Small) -> None:
    small.sample(name, content)
    small.write("one", automation())
    code, (problem,) = small.validate()
    assert code == 1
    assert message in problem


def test_a_plain_event_is_a_sample(small: Small) -> None:
    small.sample("landed.json", event())
    small.write(
        "one", automation(trigger__expect=["data.landed"], actions=run_deployment(table="{{ event.resource.id }}"))
    )
    assert small.validate() == (0, [])


def test_samples_are_unit_tests_of_automations(small: Small) -> None:
    actions = run_deployment(table="{{ event.resource.id }}", days="{{ event.payload.rows }}")
    small.write("one", automation(trigger__expect=["data.landed"], actions=actions))
    fires = {"outcome": "fires", "parameters": {"table": "shop.orders", "days": 100}}
    small.sample("landed.json", {"event": event(), "expect": {"one": fires}})
    assert small.run("test")[0] == 0
    for expect, message in (
        ({"one": "nothing"}, "expected: nothing; got: fires"),
        ({"one": {"parameters": {"table": "x"}}}, "expected a run with {'table': 'x'}; got {'table': 'shop.orders'"),
        ({"on": "fires"}, "no automation is called 'on'"),
    ):
        small.sample("landed.json", {"event": event(), "expect": expect})
        code, printed = small.run("test")
        assert (code, message in printed) == (1, True), printed


def test_test_holds_parameters_against_the_flow(small: Small) -> None:
    actions = run_deployment(table="{{ event.payload.table }}", days="{{ event.payload.rows }}")
    file = small.write("one", automation(trigger__expect=["data.landed"], actions=actions))
    sample = small.sample("landed.json", event())
    assert small.run("test", sample)[0] == 0
    other = small.folder / "other.json"
    other.write_text(json.dumps(event(payload={"rows": "many", "table": "orders"})))
    code, printed = small.run("test", other, file)
    assert code == 1
    assert "run-deployment: days: 'many' is not of type 'integer'" in printed


def test_variables_of_the_environment_are_put_in_and_a_missing_one_is_an_error(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = yaml.safe_dump(automation(description="of ${TEAM}, not of $${TEAM}")).replace(
        "within: 0", "within: ${SECONDS}"
    )
    file = small.write("one", text)
    code, (first, second) = small.validate()
    assert code == 1
    assert "${TEAM}: the environment variable TEAM is not set" in first
    assert second.startswith(f"{file}:")
    assert "${SECONDS}: the environment variable SECONDS is not set" in second
    monkeypatch.setenv("TEAM", "data")
    monkeypatch.setenv("SECONDS", "ten")
    assert "within: Input should be a valid timedelta" in small.validate()[1][0]
    assert "'ten'" not in small.validate()[1][0]
    monkeypatch.setenv("SECONDS", "0")
    assert small.validate() == (0, [])


def test_the_environments_values_are_read_as_the_file_writes_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: 'x ${N}'\nenabled: ${B}\ntags:\n- '${N}'\n- $${N}\nwithin: ${N}\n")
    (found,) = read([tmp_path / "a.yaml"], {"N": "5", "B": "false"}).automations
    assert found.data == {"name": "x 5", "enabled": False, "tags": ["5", "${N}"], "within": 5}
    assert found.shown["name"] == "x ${N}"


def test_a_part_that_yaml_names_twice_is_two_parts(small: Small) -> None:
    text = yaml.safe_dump(automation(actions=[{"type": "pause-work-pool", "work_pool": "p"}]), sort_keys=False)
    small.write("one", text.replace("actions:\n", "actions: &same\n") + "actions_on_resolve: *same\n")
    assert small.validate() == (0, [])


def test_checking_a_file_does_not_change_it(small: Small) -> None:
    """The server's validators put a timedelta in place of seconds, into what they are given."""
    child = {"type": "event", "posture": "Proactive", "expect": ["prefect.flow-run.*"], "threshold": 1, "within": 60}
    file = small.write("one", automation(trigger={"type": "compound", "require": 1, "within": 5, "triggers": [child]}))
    (found,), _, problems = load([file], small.folder)
    assert problems == []
    assert found.data["trigger"]["triggers"][0]["within"] == 60


def test_a_terminal_has_colours_and_a_pipe_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured("create", "create") == "create"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert coloured("create", "create") == "\033[32mcreate\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("create", "create") == "create"


def test_a_plan_ends_with_a_line_that_counts() -> None:
    changes = [Change("a", "create"), Change("b", "create"), Change("c", "delete"), Change("d", "skip")]
    assert plan_summary(changes) == "Plan: 2 to create, 0 to update, 1 to delete; 1 skipped."


def test_names_of_another_form_are_answered_with_the_form_also_where_a_server_decides(small: Small) -> None:
    file = small.write("one", automation(actions=[{"type": "pause-work-queue", "work_queue": "default"}]))
    _, _, (problem,) = load([file], small.folder)
    assert (problem.severity, problem.message) == (
        "error",
        "work_queue: expected pool/queue, got 'default' (there is p/default)",
    )
