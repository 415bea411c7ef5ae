"""What a server shows of automations as code: identity, names, lost connections, requests, secrets, payloads."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from automations.prefect_automations.prefect_server import ACTIONS, TRIGGERS
from tests.integration.automations.support import Here, Proxy, until, webhook

NEVER = {"type": "event", "posture": "Reactive", "expect": ["nobody.sends"], "threshold": 1, "within": 0}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own, without deployments in its prefect.yaml."""
    (tmp_path / "prefect.yaml").write_text("name: tried\n")
    (tmp_path / "automations").mkdir()
    return tmp_path


@pytest.fixture
def tried(here: Here, project: Path) -> Iterator["Tried"]:
    made = Tried(here, project)
    yield made
    assert made.run("destroy", "--yes")[0] == 0
    with here.client as client:
        for raw in client.request("POST", "/automations/filter", json={}).json():
            client.delete_automation(UUID(raw["id"]))


class Tried:
    """The project on the server."""

    def __init__(self, here: Here, project: Path) -> None:
        self.here, self.project = here, project

    def run(self, command: str, *arguments: object) -> tuple[int, str]:
        return self.here.run(command, *arguments, project=self.project)

    def write(self, file_name: str, **changes: Any) -> Path:
        """A file with an automation that never fires."""
        data = {"name": file_name, "trigger": NEVER, "actions": [{"type": "do-nothing"}], **changes}
        file = self.project / "automations" / f"{file_name}.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False))
        return file

    def plan(self, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
        code, output = self.run("plan", "--json", "--detailed-exitcode", *options)
        return code, {change["automation"]: change for change in json.loads(output)["changes"]}

    def create(self, name: str, **changes: Any) -> str:
        """What somebody makes in the UI."""
        body = {"name": name, "trigger": NEVER, "actions": [{"type": "do-nothing"}], **changes}
        with self.here.client as client:
            return str(client.request("POST", "/automations/", json=body).json()["id"])


def test_one_that_was_renamed_in_the_ui_is_an_update_and_not_a_second_one(tried: Tried) -> None:
    tried.write("one")
    assert tried.run("apply")[0] == 0
    made = tried.here.automations()["one"]
    tried.here.edit("one", name="renamed by hand")
    code, changes = tried.plan()
    assert code == 3
    assert changes["one"]["change"] == "update"
    assert changes["one"]["fields"] == [{"path": "name", "old": "renamed by hand", "new": "one"}]
    assert "updated    one: was renamed by hand" in tried.run("apply")[1]
    assert {name: raw["id"] for name, raw in tried.here.automations().items()} == {"one": made["id"]}
    tried.write("one", description="another name", name="called otherwise")
    assert tried.run("apply")[0] == 0
    assert {name: raw["id"] for name, raw in tried.here.automations().items()} == {"called otherwise": made["id"]}


def test_one_of_an_earlier_version_is_known_by_its_name_or_a_former_one(tried: Tried) -> None:
    tags = ["automations-as-code:tried"]
    ids = {tried.create("old_name", tags=tags), tried.create("kept_name", tags=tags)}
    tried.write("new_name", former_names=["old_name"])
    tried.write("kept_name")
    changes = tried.plan()[1]
    assert {name: change["change"] for name, change in changes.items()} == {"new_name": "update", "kept_name": "update"}
    assert tried.run("apply")[0] == 0
    assert {raw["id"] for raw in tried.here.automations().values()} == ids
    assert set(tried.here.automations()) == {"new_name", "kept_name"}
    assert tried.plan()[0] == 0


def test_a_file_that_was_renamed_keeps_its_automation(tried: Tried) -> None:
    file = tried.write("one")
    tried.run("apply")
    made = tried.here.automations()["one"]["id"]
    file.rename(file.with_name("two.yaml"))
    assert [change["change"] for change in tried.plan()[1].values()] == ["update"]
    assert tried.run("apply")[0] == 0
    assert tried.here.automations()["one"]["id"] == made


def test_a_copy_that_was_made_in_the_ui_is_kept_and_said(tried: Tried) -> None:
    tried.write("one")
    tried.run("apply")
    raw = tried.here.automations()["one"]
    tried.create("a copy", tags=raw["tags"])
    changes = tried.plan()[1]
    assert (changes["one"]["change"], changes["a copy"]["change"]) == ("unchanged", "keep")


def test_names_that_only_the_server_has_are_taken(tried: Tried) -> None:
    actions = [
        {"type": "run-deployment", "deployment": "transform/warehouse"},
        {"type": "pause-work-queue", "work_queue": "baton/default"},
    ]
    tried.write("one", actions=actions)
    assert tried.run("validate")[0] == 0
    assert tried.run("apply")[0] == 0
    assert tried.plan()[0] == 0
    tried.write("one", actions=[{"type": "pause-work-queue", "work_queue": "baton/defalt"}])
    code, printed = tried.run("plan")
    assert code == 1
    assert "work_queue: the server has no 'baton/defalt'" in printed


def test_apply_stops_where_the_connection_is_lost_and_says_what_was_made(tried: Tried) -> None:
    for name in ("a", "b", "c", "d"):
        tried.write(name)
    with Proxy(tried.here.url) as proxy, temporary_settings({PREFECT_API_URL: proxy.url}):
        proxy.after = 2
        code, printed = tried.run("apply")
        asked = len(proxy.requests)
    assert code == 1
    assert "created    a" in printed and "created    b" in printed
    assert "failed     c: could not create: the server can no longer be reached" in printed
    assert "not tried: d; apply again" in printed
    assert "2 created" in printed and "1 failed; 1 not tried" in printed
    assert asked < 15, "no change was tried again and again"
    assert tried.run("apply")[0] == 0
    assert set(tried.here.automations()) == {"a", "b", "c", "d"}


def test_an_address_without_api_is_answered_with_the_right_one(tried: Tried) -> None:
    tried.write("one")
    with temporary_settings({PREFECT_API_URL: tried.here.url.removesuffix("/api")}):
        code, printed = tried.run("plan")
    assert code == 1
    assert f"PREFECT_API_URL={tried.here.url}" in printed
    assert "Traceback" not in printed


def test_a_changed_owner_is_seen_and_made_anew(tried: Tried) -> None:
    owner = "prefect.deployment.0193579f-0000-7000-8000-00000000000a"
    tried.write("one")
    tried.run("apply")
    before = tried.here.automations()["one"]["id"]
    tried.write("one", owner_resource=owner)
    code, changes = tried.plan()
    assert code == 3
    assert changes["one"]["fields"] == [{"path": "owner_resource", "old": None, "new": owner}]
    assert tried.run("apply")[0] == 0
    assert tried.here.automations()["one"]["id"] != before
    assert tried.plan()[0] == 0


def test_machines_are_told_the_ids_of_what_was_made(tried: Tried) -> None:
    tried.write("one")
    code, printed = tried.run("apply", "--json")
    assert code == 0
    (change,) = json.loads(printed)["changes"]
    assert change["id"] == tried.here.automations()["one"]["id"]


def test_what_only_another_server_knows_does_not_break_a_plan(tried: Tried) -> None:
    """An action of Prefect Cloud on one of ours: a server here takes none, so the answer is changed on its way."""
    tried.write("one")
    tried.run("apply")

    def with_incident(request: str, answer: Any) -> Any:
        if request.startswith("POST /api/automations/filter"):
            answer[0]["actions"] = [{"type": "declare-incident"}]
        return answer

    with Proxy(tried.here.url, with_incident) as proxy, temporary_settings({PREFECT_API_URL: proxy.url}):
        code, changes = tried.plan()
    assert code == 3
    assert {"path": "actions[0].type", "old": "declare-incident", "new": "do-nothing"} in changes["one"]["fields"]


def test_a_plan_takes_few_requests_and_a_change_two(tried: Tried) -> None:
    names = [f"n{number:03}" for number in range(200)]  # As many as one answer of the server has room for.
    deployments = ["transform/warehouse", "orchestrate/dummyjson", "extract/dummyjson-carts"]
    for number, name in enumerate(names):
        action = {"type": "run-deployment", "deployment": deployments[number % 3]}
        tried.write(name, actions=[action])

    def requests(*command: str) -> list[str]:
        with Proxy(tried.here.url) as proxy, temporary_settings({PREFECT_API_URL: proxy.url}):
            assert tried.run(*command)[0] == 0
            return proxy.requests

    everything = requests("apply")
    assert len(everything) <= 2 + 2 * len(names), everything
    assert len(requests("plan")) <= 5
    assert len(requests("apply")) <= 5
    tried.write(names[0], description="changed", actions=[{"type": "do-nothing"}])
    assert len(requests("apply")) <= 6 + 2, "what is asked before any change, with the server's version, and the change"


def test_a_value_of_the_environment_is_never_shown(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2hunter2")
    tried.write("one", description="for ${SECRET}", tags=["${SECRET}", "plain"])
    printed = tried.run("plan")[1] + tried.run("apply")[1]
    assert tried.here.automations()["one"]["description"] == "for hunter2hunter2"
    assert tried.plan()[0] == 0
    monkeypatch.setenv("SECRET", "another-secret")
    printed += tried.run("plan")[1] + tried.run("plan", "--json")[1]
    assert 'description: "(hidden)" -> "for ${SECRET}"' in printed
    assert "hunter2" not in printed and "another-secret" not in printed
    assert tried.run("apply")[0] == 0
    assert tried.here.automations()["one"]["description"] == "for another-secret"


def test_deletions_are_asked_for(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = tried.write("one"), tried.write("two")
    tried.run("apply")
    for command in (["destroy"], ["apply", one, "--prune"]):
        code, printed = tried.run(*command)
        assert (code, "nothing was changed; give --yes where nobody can be asked" in printed) == (1, True)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert tried.run("destroy")[0] == 1
    assert set(tried.here.automations()) == {"one", "two"}
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert tried.run("apply", one, "--prune")[0] == 0
    assert set(tried.here.automations()) == {"one"}


def test_what_is_on_the_server_can_be_taken_into_files_and_taken_over(tried: Tried, tmp_path: Path) -> None:
    with tried.here.client as client:
        deployment = client.read_deployment_by_name("transform/warehouse")
    actions = [
        {
            "type": "run-deployment",
            "source": "selected",
            "deployment_id": str(deployment.id),
            "parameters": {"source": "${NOT_A_VARIABLE}"},
        }
    ]
    identifier = tried.create("Somebody's own (1)", actions=actions, description="two\nlines")
    folder = tmp_path / "exported"
    code, printed = tried.run("export", "--dir", folder)
    assert code == 0, printed
    (file,) = folder.glob("*.yaml")
    assert file.name == "somebody_s_own_1.yaml"
    data = yaml.safe_load(file.read_text())
    assert data["actions"][0]["deployment"] == "transform/warehouse"
    assert data["adopts"] == identifier
    assert tried.run("export", "--dir", folder)[0] == 1, "a file is never overwritten"
    code, changes = json_plan(tried, folder)
    assert code == 3
    (change,) = changes
    assert (change["change"], [field["path"] for field in change["fields"]]) == ("update", ["tags"])
    assert tried.run("apply", "--dir", folder)[0] == 0
    assert tried.here.automations()["Somebody's own (1)"]["id"] == identifier
    assert json_plan(tried, folder)[0] == 0


def json_plan(tried: Tried, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    code, printed = tried.run("plan", "--dir", folder, "--json", "--detailed-exitcode")
    return code, json.loads(printed)["changes"]


def test_two_that_start_one_deployment_are_seen_also_on_the_server(tried: Tried) -> None:
    with tried.here.client as client:
        deployment = client.read_deployment_by_name("transform/warehouse")
    action = {"type": "run-deployment", "source": "selected", "deployment_id": str(deployment.id)}
    trigger = NEVER | {"expect": ["prefect.work-pool.ready"]}
    tried.create("made in the UI", trigger=trigger, actions=[action])
    tried.write("one", trigger=trigger, actions=[{"type": "run-deployment", "deployment": "transform/warehouse"}])
    code, printed = tried.run("plan")
    assert code == 0
    expected = "warning: deployment: 'made in the UI' (on the server) starts transform/warehouse for"
    assert expected in printed


def test_a_block_that_cannot_notify_is_seen_on_the_server(tried: Tried) -> None:
    from prefect.blocks.system import Secret

    Secret(value="x").save("no-notification", overwrite=True)  # type: ignore[arg-type]
    notification = {"type": "send-notification", "block": "secret/no-notification", "subject": "s", "body": "b"}
    tried.write("one", actions=[notification])
    assert "block: secret/no-notification sends no notifications; the action would fail" in tried.run("plan")[1]
    Secret.delete("no-notification")


def test_every_type_of_trigger_and_of_action_comes_back_as_it_was_sent(tried: Tried) -> None:
    with webhook("http://127.0.0.1:9"):
        tried.write("named")
        of_type: dict[str, dict[str, Any]] = {
            "run-deployment": {"deployment": "transform/warehouse", "parameters": {"source": "{{ event.id }}"}},
            "pause-deployment": {"deployment": "transform/warehouse"},
            "resume-deployment": {"source": "inferred"},
            "change-flow-run-state": {"state": "CRASHED", "name": "Crashed", "message": "m"},
            "pause-work-queue": {"work_queue": "baton/default"},
            "resume-work-queue": {"work_queue": "baton/default"},
            "pause-work-pool": {"work_pool": "baton"},
            "resume-work-pool": {"work_pool": "baton"},
            "pause-automation": {"automation": "named"},
            "resume-automation": {"automation": "named"},
            "send-notification": {"block": "custom-webhook/baton-alerts", "subject": "s", "body": "b"},
            "call-webhook": {"block": "custom-webhook/baton-alerts", "payload": {"a": "{{ event.id }}"}},
        }
        actions = [{"type": kind, **of_type.get(kind, {})} for kind in ACTIONS]
        triggers: dict[str, Any] = {
            "event": NEVER | {"match_related": [{"prefect.resource.role": "flow"}], "within": 60, "threshold": 2},
            "compound": {"type": "compound", "require": "any", "within": None, "triggers": [NEVER, NEVER]},
            "sequence": {"type": "sequence", "within": 60, "triggers": [NEVER, NEVER]},
        }
        assert (len(ACTIONS), set(triggers)) == (17, set(TRIGGERS))
        for kind, trigger in triggers.items():
            lists = {"actions": actions, "actions_on_trigger": actions, "actions_on_resolve": actions[:1]}
            tried.write(kind, trigger=trigger, **lists)
        assert tried.run("apply")[0] == 0
        code, changes = tried.plan()
        assert (code, {change["change"] for change in changes.values()}) == (0, {"unchanged"})


HOSTILE = {"__prefect_kind": "jinja", "template": "{{ 6 * 7 }}"}


def test_a_placeholder_in_a_payload_is_rendered_by_the_server_unless_the_template_is_closed(tried: Tried) -> None:
    templates = {"open": "{{ event.payload.x }}", "string": "{{ event.payload.x | string }}"}
    for name, template in templates.items():
        action: dict[str, object] = {"type": "run-deployment", "deployment": "transform/warehouse"}
        action |= {"parameters": {"source": template, "batch_id": name}}
        trigger = NEVER | {"expect": ["hostile.sent"]}
        tried.write(name, trigger=trigger, actions=[action])
    strip: dict[str, object] = {"type": "run-deployment", "deployment": "transform/warehouse"}
    strip |= {"parameters": {"source": "{{ event.payload.x.strip() }}", "batch_id": "strip"}}
    tried.write("strip", trigger=NEVER | {"expect": ["hostile.sent", "text.sent"]}, actions=[strip])
    assert tried.run("apply")[0] == 0

    def runs() -> dict[str, FlowRun]:
        return {run.parameters["batch_id"]: run for run in tried.here.runs("transform") if run.parameters["batch_id"]}

    tried.here.send("hostile.sent", {"x": HOSTILE})
    until(lambda: {"open", "string"} <= runs().keys(), "two runs")
    assert runs()["open"].parameters["source"] == "42", "so the server renders what a payload has"
    assert runs()["string"].parameters["source"] == str(HOSTILE)
    tried.here.send("text.sent", {"x": "a text"})
    until(lambda: "strip" in runs(), "the run of a text")
    assert runs()["strip"].parameters["source"] == "a text"
    assert [run for run in tried.here.runs("transform") if run.parameters["batch_id"] == "strip"] == [runs()["strip"]]
