"""Plan, apply, prune and destroy on a real server; and each shipped automation fires there."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed
from prefect.workers.process import ProcessWorker

from automations.__main__ import main
from flows import events
from flows.landing import Manifest
from flows.settings import PROJECT
from stack.processes import free_port, prefect_server, wait_until
from tests.conftest import SERVER

SECONDS = 120.0
SHIPPED = sorted(path.stem for path in (PROJECT / "automations").glob("*.yaml"))


@dataclass
class Here:
    """A Prefect server with this project's deployments, and files to apply."""

    url: str
    folder: Path
    capsys: pytest.CaptureFixture[str]
    sent: int = field(default=0)

    @property
    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(self.url)

    def file(self, name: str, **changes: Any) -> Path:
        """A shipped automation, as it is but for these changes (`trigger__within=10`)."""
        data = yaml.safe_load((PROJECT / "automations" / f"{name}.yaml").read_text())
        for path, value in changes.items():
            *way, key = path.split("__")
            inner = data
            for step in way:
                inner = inner[step]
            inner[key] = value
        made = self.folder / f"{name}.yaml"
        made.write_text(yaml.safe_dump(data))
        return made

    def run(self, command: str, *arguments: object, project: Path = PROJECT) -> tuple[int, str]:
        """The exit code and the output of a command."""
        self.capsys.readouterr()
        code = main([command, *map(str, arguments), "--project", str(project)])
        output = self.capsys.readouterr()
        return code, output.out + output.err

    def plan(self, *files: Path, prune: bool = False) -> tuple[int, dict[str, dict[str, Any]]]:
        """The exit code and the changes by automation."""
        code, output = self.run("plan", *files, "--json", *(["--prune"] if prune else []))
        return code, {change["automation"]: change for change in json.loads(output)["changes"]}

    def automations(self) -> dict[str, dict[str, Any]]:
        """Every automation on the server by name; a name that is there twice fails the test."""
        with self.client as client:
            found = client.request("POST", "/automations/filter", json={"limit": 200}).json()
        assert len({each["name"] for each in found}) == len(found)
        return {each["name"]: each for each in found}

    def edit(self, name: str, **changes: Any) -> None:
        """What the UI does: the whole automation, changed."""
        raw = self.automations()[name]
        body = {key: value for key, value in raw.items() if key not in ("id", "created", "updated")}
        with self.client as client:
            client.request("PUT", "/automations/{id}", path_params={"id": raw["id"]}, json=body | changes)  # type: ignore[arg-type]

    def extract_finished(self, source: str, handoff: events.Handoff = "event") -> Manifest:
        """Sends the event of a batch that nobody has landed."""
        manifest = Manifest(
            source=source,
            batch_id=f"20260101T{self.sent:06d}Z-{uuid4().hex[:12]}",
            rows=1,
            bytes=1,
            sha256="0" * 64,
            total=1,
            extracted_at=datetime.now(UTC),
            flow_run_id=uuid4(),
        )
        self.sent += 1
        events.send([events.extract_finished(manifest, handoff)])
        return manifest

    def runs(self, flow: str) -> list[FlowRun]:
        """The runs of a flow that an automation has started."""
        with self.client as client:
            found = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
        return [run for run in found if run.created_by and run.created_by.type == "AUTOMATION"]


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own, because its automations must not fire for other tests."""
    with prefect_server(tmp_path_factory.mktemp("server"), SERVER, free_port()) as url:
        with SyncPrefectClient(url) as client:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name="baton", type="process", base_job_template=template))
        deploy(url)
        yield url


def deploy(url: str) -> None:
    """`prefect deploy --all`, as a user types it."""
    command = [sys.executable, "-m", "prefect", "deploy", "--all"]
    subprocess.run(command, cwd=PROJECT, env=os.environ | {"PREFECT_API_URL": url}, check=True, capture_output=True)


@contextmanager
def without_deployment(here: Here, name: str) -> Iterator[None]:
    """The deployment is gone for as long as the block runs, and is then made anew, with another id."""
    with here.client as client:
        was = client.request("GET", f"/deployments/name/{name}").json()  # type: ignore[arg-type]
        client.delete_deployment(UUID(was["id"]))
    try:
        yield
    finally:
        kept = ("name", "flow_id", "work_pool_name", "work_queue_name", "entrypoint", "path", "parameters")
        body = {key: was[key] for key in (*kept, "parameter_openapi_schema")}
        with here.client as client:
            client.request("POST", "/deployments/", json=body)


@pytest.fixture
def here(server_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    with temporary_settings({PREFECT_API_URL: server_url}):
        made = Here(server_url, tmp_path, capsys)
        yield made
        assert made.run("destroy")[0] == 0


def until(condition: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(condition()), what, SECONDS)


def test_apply_makes_them_and_a_second_apply_changes_nothing(here: Here) -> None:
    files = [here.file(name) for name in SHIPPED if not name.startswith("notify")]
    assert here.plan(*files)[0] == 2
    assert here.run("apply", *files)[0] == 0
    made = here.automations()
    code, changes = here.plan(*files)
    assert code == 0
    assert {change["change"] for change in changes.values()} == {"unchanged"}
    assert here.run("apply", *files)[0] == 0
    assert {name: raw["updated"] for name, raw in here.automations().items()} == {
        name: raw["updated"] for name, raw in made.items()
    }


def test_a_change_in_the_ui_is_seen_field_by_field_and_mended_in_place(here: Here) -> None:
    file = here.file("orchestrate_when_extract_is_overdue")
    here.run("apply", file)
    before = here.automations()["orchestrate_when_extract_is_overdue"]
    here.edit("orchestrate_when_extract_is_overdue", trigger=before["trigger"] | {"within": 60.0})
    code, changes = here.plan(file)
    assert code == 2
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
    kept, gone = here.file("transform_when_extract_finishes"), here.file("crash_runs_that_stop_beating")
    here.run("apply", kept, gone)
    assert here.run("apply", kept)[0] == 0
    assert set(here.automations()) == {"somebody's own", kept.stem, gone.stem}
    assert here.plan(kept)[0] == 0, "without --prune a file that is gone is no change"
    assert here.plan(kept, prune=True)[1][gone.stem]["change"] == "delete"
    assert "deleted    crash_runs_that_stop_beating" in here.run("apply", kept, "--prune")[1]
    assert set(here.automations()) == {"somebody's own", kept.stem}
    assert here.run("destroy")[0] == 0
    assert {name: raw["id"] for name, raw in here.automations().items()} == {"somebody's own": foreign_id}
    with here.client as client:
        client.delete_automation(UUID(foreign_id))


def test_an_automation_of_the_same_name_that_is_not_ours_stops_apply_before_any_change(here: Here) -> None:
    files = [here.file("transform_when_extract_finishes"), here.file("crash_runs_that_stop_beating")]
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
    assert "the server has no 'orchestrate/dummyjson'; `prefect deploy --all` first" in said
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
    command = [sys.executable, "-m", "automations", "apply", *map(str, files)]
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
    told = written(here, "told", {"type": "send-notification", "block": block, "subject": "a", "body": "b"})
    naming = written(here, "a-naming", {"type": "pause-automation", "automation": "told"})
    code, said = here.run("apply", naming, told)
    assert code == 0
    assert "skipped    a-naming: it names told, which is skipped" in said
    assert here.automations() == {}


def test_a_second_one_of_a_name_is_removed_and_the_older_stays(here: Here) -> None:
    file = here.file("transform_when_extract_finishes")
    here.run("apply", file)
    first = here.automations()[file.stem]
    copy = {key: value for key, value in first.items() if key not in ("id", "created", "updated")}
    with here.client as client:
        client.request("POST", "/automations/", json=copy)
    assert here.run("plan", file)[0] == 2
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
    here.run("apply", here.file("crash_runs_that_stop_beating", trigger__within=10))
    (tmp_path / "job.py").write_text(
        "import time\nfrom prefect import flow\nfrom prefect.runtime import flow_run\n"
        "@flow(name='transform')\ndef job():\n    print(flow_run.id, flush=True)\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n    job()\n"
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
            run = client.create_flow_run_from_deployment(deployment.id, name="the-run-that-failed")
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


class listening:
    """An HTTP server on loopback that answers every request alike, and keeps what was posted to it."""

    def __init__(self, status: int, version: str = "3.8.8") -> None:
        received: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if length:
                    received.append(json.loads(self.rfile.read(length)))
                body = json.dumps(version).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> tuple[str, list[dict[str, Any]]]:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}", self.received

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class webhook:
    """The notification block that the shipped automations name, for as long as the block runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        body = {"subject": "{{subject}}", "body": "{{body}}"}
        block = CustomWebhookNotificationBlock(name="baton", url=self.url, method="POST", json_data=body)
        block.save("baton-alerts", overwrite=True)

    def __exit__(self, *_: object) -> None:
        CustomWebhookNotificationBlock.delete("baton-alerts")
