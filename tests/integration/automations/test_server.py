"""Plan, apply, prune and destroy on a real server; and each shipped automation fires there."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed

from flows.server import events
from flows.settings import PROJECT
from stack.local.processes import free_port
from tests.integration.automations.support import SHIPPED, Here, deploy, listening, until, webhook, without_deployment


def test_apply_makes_them_and_a_second_apply_changes_nothing(here: Here) -> None:
    files = [here.file(name) for name in SHIPPED if not name.startswith("notify")]
    assert here.plan(*files)[0] == 3
    assert here.run("apply", *files)[0] == 0
    made = here.automations()
    code, changes = here.plan(*files)
    assert code == 0
    assert {change["change"] for change in changes.values()} == {"unchanged"}
    assert here.run("apply", *files)[0] == 0
    assert {name: raw["updated"] for name, raw in here.automations().items()} == {
        name: raw["updated"] for name, raw in made.items()
    }


def test_a_change_in_the_ui_is_seen_field_by_field_and_corrected_in_place(here: Here) -> None:
    file = here.file("orchestrate_when_extract_is_overdue")
    here.run("apply", file)
    before = here.automations()["orchestrate_when_extract_is_overdue"]
    here.edit("orchestrate_when_extract_is_overdue", trigger=before["trigger"] | {"within": 60.0})
    code, changes = here.plan(file)
    assert code == 3
    (change,) = changes.values()
    assert change["fields"] == [{"path": "trigger.within", "old": 60.0, "new": 93600.0}]
    assert "trigger.within: 60.0 -> 93600.0" in here.run("plan", file)[1]
    assert here.run("apply", file)[0] == 0
    after = here.automations()["orchestrate_when_extract_is_overdue"]
    assert after["id"] == before["id"]
    assert after["trigger"]["within"] == 93600.0
    assert here.plan(file)[0] == 0


def test_a_pause_in_the_ui_stays_unless_the_file_says_otherwise(here: Here) -> None:
    file = here.file("transform_when_extract_finishes")
    here.run("apply", file)
    name = "transform_when_extract_finishes"
    with here.client as client:
        client.pause_automation(UUID(here.automations()[name]["id"]))
    assert here.plan(file)[0] == 0
    file = here.file(name, description="another one")
    assert here.run("apply", file)[0] == 0
    assert here.automations()[name]["enabled"] is False
    before = here.automations()[name]
    assert here.run("apply", here.file(name, description="another one", enabled=True))[0] == 0
    after = here.automations()[name]
    assert after["enabled"] is True
    assert (after["id"], after["trigger"]["id"]) == (before["id"], before["trigger"]["id"]), "it goes on counting"
    with here.client as client:
        client.pause_automation(UUID(after["id"]))
    file = here.file(name, enabled=True)
    (change,) = here.plan(file)[1].values()
    assert [found["path"] for found in change["fields"]] == ["description", "enabled"]
    here.run("apply", file)
    assert here.automations()[name]["enabled"] is True


def test_prune_and_destroy_delete_what_is_ours_and_never_what_is_not(here: Here) -> None:
    with here.client as client:
        foreign = {
            "name": "somebody's own",
            "trigger": {"type": "event", "posture": "Reactive", "expect": ["x"], "threshold": 1, "within": 0},
            "actions": [{"type": "do-nothing"}],
        }
        foreign_id = client.request("POST", "/automations/", json=foreign).json()["id"]
    kept, gone = here.file("transform_when_extract_finishes"), here.file("crash_runs_without_heartbeat")
    here.run("apply", kept, gone)
    assert here.run("apply", kept)[0] == 0
    assert set(here.automations()) == {"somebody's own", kept.stem, gone.stem}
    assert here.plan(kept)[0] == 0, "without --prune a file that is gone is no change"
    assert here.plan(kept, prune=True)[1][gone.stem]["change"] == "delete"
    assert "deleted    crash_runs_without_heartbeat" in here.run("apply", kept, "--prune", "--yes")[1]
    assert set(here.automations()) == {"somebody's own", kept.stem}
    assert here.run("destroy", "--yes")[0] == 0
    assert {name: raw["id"] for name, raw in here.automations().items()} == {"somebody's own": foreign_id}
    with here.client as client:
        client.delete_automation(UUID(foreign_id))


def test_an_automation_of_the_same_name_that_is_not_ours_stops_apply_before_any_change(here: Here) -> None:
    files = [here.file("transform_when_extract_finishes"), here.file("crash_runs_without_heartbeat")]
    trigger = {"type": "event", "posture": "Reactive", "expect": ["x"], "threshold": 1, "within": 0}
    theirs = {"name": files[0].stem, "trigger": trigger, "actions": [{"type": "do-nothing"}]}
    with here.client as client:
        theirs_id = client.request("POST", "/automations/", json=theirs).json()["id"]
    code, said = here.run("apply", *files)
    assert code == 1
    assert "that this project did not make" in said
    assert "nothing was changed" in said
    assert set(here.automations()) == {files[0].stem}
    with here.client as client:
        client.delete_automation(UUID(theirs_id))


def test_a_deployment_that_is_not_on_the_server_stops_apply_before_any_change(here: Here) -> None:
    files = [here.file(name) for name in SHIPPED]
    with without_deployment(here, "orchestrate/dummyjson"):
        code, said = here.run("apply", *files)
    assert code == 1
    assert "the server has no 'orchestrate/dummyjson'; deploy it first" in said
    assert here.automations() == {}


def test_a_deployment_that_was_made_anew_is_found_by_its_name(here: Here) -> None:
    file = here.file("transform_when_extract_finishes")
    here.run("apply", file)
    before = here.automations()[file.stem]
    deploy(here.url)
    assert here.plan(file)[0] == 0, "deploying again keeps the deployment's id"
    with here.client as client:
        old = client.read_deployment_by_name("transform/warehouse").id
        client.delete_deployment(old)
    deploy(here.url)
    (change,) = here.plan(file)[1].values()
    assert change["fields"] == [{"path": "actions[0].deployment", "old": str(old), "new": "transform/warehouse"}]
    assert here.run("apply", file)[0] == 0
    assert here.automations()[file.stem]["id"] == before["id"]
    manifest = here.extract_finished("dummyjson.products")
    until(lambda: [r for r in here.runs("transform") if r.parameters["batch_id"] == manifest.batch_id], "a run")


def test_two_who_apply_at_once_make_one(here: Here) -> None:
    files = [here.file(name) for name in SHIPPED if not name.startswith("notify")]
    command = [sys.executable, "-m", "automations.prefect_automations", "apply", *map(str, files)]
    environment = os.environ | {"PREFECT_API_URL": here.url}

    def one(_: int) -> int:
        return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True).returncode

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [0, 0, 0]
    assert set(here.automations()) == {file.stem for file in files}
    assert here.plan(*files)[0] == 0


QUIET = {
    "trigger": {
        "type": "event",
        "posture": "Reactive",
        "expect": ["extract.finished"],
        "match": {"prefect.resource.id": "nobody.sends"},
        "threshold": 1,
        "within": 0,
    }
}


def written(here: Here, name: str, *actions: dict[str, Any]) -> Path:
    """A file with an automation that never fires."""
    file = here.folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"name": name, **QUIET, "actions": list(actions)}))
    return file


def test_automations_may_name_each_other_in_any_order_and_come_from_one_file_at_a_time(here: Here) -> None:
    one = written(here, "one", {"type": "pause-automation", "automation": "two"})
    two = written(
        here,
        "two",
        {"type": "resume-automation", "automation": "one"},
        {"type": "resume-automation", "automation": "two"},
        {"type": "pause-work-pool", "work_pool": "baton"},
        {"type": "pause-deployment", "deployment": "transform/warehouse"},
    )
    assert here.run("apply", one)[0] == 1
    assert here.automations() == {}, "the other one is missing"
    assert here.run("apply", one, two)[0] == 0
    made = here.automations()
    assert made["one"]["actions"][0]["automation_id"] == made["two"]["id"]
    assert [action.get("automation_id") for action in made["two"]["actions"][:2]] == [
        made["one"]["id"],
        made["two"]["id"],
    ]
    assert here.plan(two, one)[0] == 0
    code, changes = here.plan(one)
    assert (code, changes["two"]["change"]) == (0, "keep"), "the server has the other one"


def test_an_automation_that_names_a_skipped_one_is_skipped_too(here: Here) -> None:
    block = "slack-webhook/not-there"
    notifying = written(here, "notifying", {"type": "send-notification", "block": block, "subject": "a", "body": "b"})
    naming = written(here, "a-naming", {"type": "pause-automation", "automation": "notifying"})
    code, said = here.run("apply", naming, notifying)
    assert code == 0
    assert "skipped    a-naming: it names notifying, which is skipped" in said
    assert here.automations() == {}


def test_a_second_one_of_a_name_is_removed_and_the_older_stays(here: Here) -> None:
    file = here.file("transform_when_extract_finishes")
    here.run("apply", file)
    first = here.automations()[file.stem]
    copy = {key: value for key, value in first.items() if key not in ("id", "created", "updated")}
    with here.client as client:
        client.request("POST", "/automations/", json=copy)
    assert here.run("plan", file, "--detailed-exitcode")[0] == 3
    assert f"deleted    {file.stem}: a second one of this name" in here.run("apply", file)[1]
    assert here.automations()[file.stem]["id"] == first["id"]


def test_of_several_changes_the_report_says_which_one_the_server_refused(here: Here) -> None:
    refused = written(
        here,
        "b-refused",
        {
            "type": "run-deployment",
            "source": "selected",
            "deployment": "extract/dummyjson-products",
            "job_variables": {"env": "not a mapping"},
        },
    )
    files = [written(here, "a-made", {"type": "do-nothing"}), refused, written(here, "c-made", {"type": "do-nothing"})]
    code, said = here.run("apply", *files)
    assert code == 1
    assert "created    a-made" in said
    assert "created    c-made" in said
    assert "failed     b-refused: could not create: 422" in said
    assert set(here.automations()) == {"a-made", "c-made"}


def test_what_is_not_prefects_api_is_one_clear_message_also_for_machines(here: Here) -> None:
    with listening(200, "<html>") as (url, _), temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        code, said = here.run("apply", "--json")
    assert code == 1
    assert json.loads(said[: said.index("}") + 1])["error"].endswith("is it the API's URL?")


def test_a_server_that_does_not_answer_is_one_clear_message(here: Here) -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        for command in ("plan", "apply", "destroy"):
            code, said = here.run(command)
            assert code == 1
            assert "cannot be reached" in said
            assert "is the server running?" in said
            assert "Traceback" not in said


@pytest.mark.parametrize(
    ("status", "version", "message"),
    [
        (401, "3.8.8", "401, no permission"),
        (403, "3.8.8", "403, no permission"),
        (200, "3.0.4", "is Prefect 3.0.4; 3.8 or later is needed"),
    ],
)
def test_a_server_that_may_not_be_used_is_one_clear_message(
    here: Here, status: int, version: str, message: str
) -> None:
    with listening(status, version) as (url, _), temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        code, said = here.run("apply")
    assert code == 1
    assert message in said
    assert "Traceback" not in said


def test_1_an_event_of_any_source_starts_one_transform_that_knows_why(here: Here) -> None:
    here.run("apply", here.file("transform_when_extract_finishes"))
    manifest = here.extract_finished("shop.orders")
    here.extract_finished("shop.orders", "caller")
    last = here.extract_finished("shop.orders")
    wanted_batches = {manifest.batch_id, last.batch_id}
    until(lambda: wanted_batches <= {r.parameters["batch_id"] for r in here.runs("transform")}, "both runs")
    ours = [run for run in here.runs("transform") if run.parameters["source"] == "shop.orders"]
    assert {run.parameters["batch_id"] for run in ours} == wanted_batches
    wanted = events.event_id(events.EXTRACT_FINISHED, "shop.orders", manifest.batch_id)
    assert str(wanted) in {run.parameters["event_id"] for run in ours}


def test_2_the_fan_in_starts_one_transform_when_all_have_come(here: Here) -> None:
    here.run("apply", here.file("transform_when_all_extracts_finish", enabled=True))
    before = len(here.runs("transform"))
    for source in ("dummyjson.products", "dummyjson.carts"):
        here.extract_finished(source)
    here.extract_finished("dummyjson.products")
    here.extract_finished("dummyjson.users", "caller")
    # The server takes events in order: once this one has had its effect, the others have had theirs.
    marker = here.file("transform_when_extract_finishes", trigger__match={"prefect.resource.id": "marker.marker"})
    assert here.run("apply", marker)[0] == 0
    until(lambda: len(here.automations()) == 2, "the marker automation")
    here.extract_finished("marker.marker")
    until(lambda: len(here.runs("transform")) == before + 1, "the marker's run")
    here.extract_finished("dummyjson.users")
    until(lambda: len(here.runs("transform")) == before + 2, "the run of all three")


def test_3_a_source_that_is_overdue_is_orchestrated(here: Here) -> None:
    here.run("apply", here.file("orchestrate_when_extract_is_overdue", trigger__within=10))
    here.extract_finished("shop.overdue")
    until(lambda: [r for r in here.runs("orchestrate") if r.parameters["sources"] == ["shop.overdue"]], "its run")


def test_4_a_run_whose_process_was_killed_is_set_crashed(here: Here, tmp_path: Path) -> None:
    here.run("apply", here.file("crash_runs_without_heartbeat", trigger__within=10))
    (tmp_path / "job.py").write_text(
        "import time\nfrom prefect import flow, tags\nfrom prefect.runtime import flow_run\n"
        "@flow(name='any')\ndef job():\n    print(flow_run.id, flush=True)\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n    with tags('baton'):\n        job()\n"
    )
    environment = os.environ | {"PREFECT_API_URL": here.url, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    command = [sys.executable, str(tmp_path / "job.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        run_id = UUID(process.stdout.readline().decode().strip())
        process.send_signal(signal.SIGKILL)

    def crashed() -> bool:
        with here.client as client:
            state = client.read_flow_run(run_id).state
        return state is not None and state.is_crashed() and "No heartbeat" in str(state.message)

    until(crashed, "the run to be set Crashed")


def test_5_a_failed_run_sends_a_notification_once_the_block_is_there(here: Here) -> None:
    file = here.file("notify_when_a_run_fails")
    code, said = here.run("apply", file, here.file("transform_when_extract_finishes"))
    assert code == 0
    assert "skipped    notify_when_a_run_fails: there is no block custom-webhook/baton-alerts; make it" in said
    assert set(here.automations()) == {"transform_when_extract_finishes"}
    with listening(200) as (url, received), webhook(url):
        assert "created    notify_when_a_run_fails" in here.run("apply", file)[1]
        with here.client as client:
            deployment = client.read_deployment_by_name("transform/warehouse")
            run = client.create_flow_run_from_deployment(deployment.id, name="the-run-that-failed", tags=["baton"])
            client.set_flow_run_state(run.id, Failed(message="dbt said no"), force=True)
        until(lambda: received, "the notification")
    (first, *_) = received
    assert first["subject"] == "transform: Failed"
    assert "the-run-that-failed ended as Failed: dbt said no" in first["body"]
    assert str(run.id) in first["body"]


def test_6_a_hand_off_that_could_not_be_made_is_seen(here: Here) -> None:
    with listening(200) as (url, received), webhook(url):
        files = [here.file("transform_when_extract_finishes"), here.file("notify_when_a_hand_off_fails")]
        assert here.run("apply", *files)[0] == 0
        with without_deployment(here, "transform/warehouse"):
            here.extract_finished("dummyjson.products")
            until(lambda: received, "the notification")
    assert received[0]["subject"] == "transform_when_extract_finishes: its action failed"
    assert "404" in received[0]["body"]
