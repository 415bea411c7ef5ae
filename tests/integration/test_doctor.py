"""`python -m stack doctor` on a real stack: all is well, then one thing after the other is broken, named and mended."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import prefect
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.states import Pending

from automations.__main__ import load
from automations.plan import Server, carry_out, make_plan
from flows import ledger
from flows.landing import Batch, new_batch_id, writing
from flows.settings import PROJECT, Settings
from flows.transform import transform
from stack import __main__ as command
from stack import local, processes
from stack.doctor import CHECKS, examine, work
from stack.doctor.findings import Finding, healthy, secrets_of, without_secrets
from stack.doctor.patient import Patient, find
from stack.doctor.server import inconsistent
from tests.examined import changed, examined, faults, shell, the_fault

PASSWORD = "canary-of-the-doctor"
AUTH = f"baton:{PASSWORD}"
TRANSFORM_EVENT = "transform_when_extract_finishes"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Stack]:
    folder = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_API_AUTH_STRING", AUTH)
        patch.setenv("PREFECT_API_AUTH_STRING", AUTH)
        started = local.start_stack(folder, api=None, port=processes.free_port(), schedules=False, say=print)
    yield started
    processes.stop_all(folder)


def apply(stack: local.Stack) -> None:
    """What `python -m automations apply` does."""
    described, project, _ = load((), PROJECT)
    with local.client(stack) as api:
        server = Server(api)
        assert carry_out(server, make_plan(server, described, project.tag, prune=True), project.tag, lambda *_: None)


def test_nothing_is_wrong_with_a_new_stack_and_every_check_has_looked(
    stack: local.Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = examined(stack)
    assert faults(findings) == []
    assert [finding for finding in findings if finding.level == "skipped"] == []
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}
    with shell():
        assert command.doctor("one-machine", True, stack.folder) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert [(one["check"], one["level"]) for one in told["findings"]] == [(f.check, f.level) for f in findings]


def test_every_check_is_in_the_readme() -> None:
    section = (PROJECT / "README.md").read_text().partition("## Is it well?")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in row.split("`")[1::2]} == {check.name for check in CHECKS}


def test_it_is_for_people_too_and_exits_with_1_if_something_is_wrong(
    stack: local.Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    with local.client(stack) as api:
        api.update_work_pool(local.POOL, WorkPoolUpdate(is_paused=True))
    try:
        with shell():
            assert command.doctor("one-machine", False, stack.folder) == 1
    finally:
        with local.client(stack) as api:
            api.update_work_pool(local.POOL, WorkPoolUpdate(is_paused=False))
    output = capsys.readouterr().out
    assert "wrong    work pool      baton is paused" in output
    assert "-> prefect work-pool resume baton" in output
    assert output.rstrip().splitlines()[-1].endswith("1 wrong, 3 could not be looked at")
    assert PASSWORD not in output


def test_a_server_that_is_not_there_is_one_line_and_what_needs_it_is_skipped(stack: local.Stack) -> None:
    url = f"http://127.0.0.1:{processes.free_port()}/api"
    findings = examined(stack, {"told": {}}, PREFECT_API_URL=url)
    fault = the_fault([finding for finding in findings if finding.check == "API"])
    assert url in fault.message
    assert "make up" in fault.mend
    skipped = {finding.check for finding in findings if finding.level == "skipped"}
    assert skipped >= {"auth", "version", "clock", "settings", "work queues", "workers", "deployments", "automations"}
    assert "cannot be looked at while API is wrong" in {f.message for f in findings if f.level == "skipped"}


def test_a_url_that_is_not_the_apis_is_named(stack: local.Stack) -> None:
    url = stack.prefect_api.removesuffix("/api")
    findings = examined(stack, {"told": {}}, PREFECT_API_URL=url)
    assert "does not answer as Prefect's API does" in faults(findings)[0].message


def test_no_server_at_all_is_named() -> None:
    with shell():
        findings = examine(Patient(Path("nowhere"), False, {}, {}))
    assert "no server is named" in the_fault([f for f in findings if f.check == "configuration"]).message


@pytest.mark.parametrize("given", ["", "baton:guessed-in-vain"])
def test_wrong_credentials_are_named_and_not_shown(stack: local.Stack, given: str) -> None:
    findings = examined(stack, PREFECT_API_AUTH_STRING=given)
    fault = the_fault([finding for finding in findings if finding.check == "auth"])
    assert "does not accept " + ("the" if given else "no") + " credentials" in fault.message
    assert "guessed" not in repr(findings)


@contextmanager
def another_server(real: str, version: str, clock: timedelta) -> Iterator[str]:
    """An API that hands everything to the real one, but is of another version and has another time."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name in ("Authorization", "Content-Type")}
            answer = httpx.request(self.command, real + self.path, content=body, headers=headers)
            content = json.dumps(version).encode() if self.path == "/admin/version" else answer.content
            self.send_response_only(answer.status_code)
            self.send_header("Date", self.date_time_string((datetime.now(UTC) + clock).timestamp()))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_another_version_and_another_clock_are_named(stack: local.Stack) -> None:
    with another_server(stack.prefect_api, "3.7.1", timedelta(minutes=-3)) as url:
        workers = {name: told for name, told in examined_told(stack).items() if name == "worker"}
        version, clock = faults(examined(stack, {"told": workers}, PREFECT_API_URL=url))
    assert (version.check, version.level) == ("version", "wrong")
    assert f"Prefect 3.7.1, the client is {prefect.__version__}" in version.message
    assert (clock.check, clock.level) == ("clock", "wrong")
    assert " s behind this machine" in clock.message


def examined_told(stack: local.Stack) -> dict[str, Any]:
    with shell():
        return dict(find(stack.folder, scale=False).told)


def test_a_queue_that_lets_two_write_the_file_is_named(stack: local.Stack) -> None:
    with queue(stack, "warehouse", concurrency_limit=None):
        fault = the_fault(examined(stack))
    assert "baton/warehouse has no limit, but a DuckDB file has one writer" in fault.message
    assert fault.mend == "prefect work-queue set-concurrency-limit warehouse 1 --pool baton"


def test_a_queue_that_lets_nobody_run_is_named(stack: local.Stack) -> None:
    with queue(stack, "extract", concurrency_limit=0):
        assert "baton/extract has limit 0" in the_fault(examined(stack)).message


def test_a_paused_queue_is_named(stack: local.Stack) -> None:
    with queue(stack, "warehouse", is_paused=True):
        fault = the_fault(examined(stack))
    assert (fault.check, fault.mend) == ("work queues", "prefect work-queue resume warehouse --pool baton")


@contextmanager
def queue(stack: local.Stack, name: str, **changes: Any) -> Iterator[None]:
    """The queue with these changes, for as long as the block runs."""
    with local.client(stack) as api:
        found = api.read_work_queue_by_name(name, local.POOL)
        path = f"/work_pools/{local.POOL}/queues/{name}"
        api.request("PATCH", path, json=changes)  # type: ignore[arg-type]
        try:
            yield
        finally:
            before = {key: getattr(found, key) for key in changes}
            api.request("PATCH", path, json=before)  # type: ignore[arg-type]


def test_what_differs_from_prefect_yaml_is_named(stack: local.Stack) -> None:
    with local.client(stack) as api:
        deployment = api.read_deployment_by_name("extract/dummyjson-carts")
        other = {"source": "dummyjson.carts", "handoff": "caller"}
        api.update_deployment(deployment.id, DeploymentUpdate(parameters=other, work_queue_name="warehouse"))
        try:
            first, second = faults(examined(stack))
        finally:
            api.update_deployment(
                deployment.id, DeploymentUpdate(parameters=deployment.parameters, work_queue_name="extract")
            )
    assert "extract/dummyjson-carts: its work queue on the server: warehouse; in prefect.yaml: extract" in first.message
    assert "its parameters on the server" in second.message
    assert first.mend == second.mend == "prefect deploy --name dummyjson-carts"


def test_a_paused_deployment_is_named(stack: local.Stack) -> None:
    with local.client(stack) as api:
        deployment = api.read_deployment_by_name("transform/warehouse")
        api.update_deployment(deployment.id, DeploymentUpdate(paused=True))
        try:
            fault = the_fault(examined(stack))
        finally:
            api.update_deployment(deployment.id, DeploymentUpdate(paused=False))
    assert "transform/warehouse is paused" in fault.message


def test_an_automation_that_is_missing_and_one_that_differs_are_named(stack: local.Stack) -> None:
    with local.client(stack) as api:
        server = Server(api)
        by_name = {raw["name"]: raw for raw in server.automations()}
        server.delete(by_name["crash_runs_that_stop_beating"]["id"])
        changed = copy.deepcopy(by_name[TRANSFORM_EVENT])
        changed["trigger"]["threshold"] = 5
        server.update(changed["id"], {k: v for k, v in changed.items() if k not in ("id", "created", "updated")})
    try:
        found = {fault.message: fault.mend for fault in faults(examined(stack))}
    finally:
        apply(stack)
    assert found == {
        "crash_runs_that_stop_beating is not on the server": "python -m automations apply",
        f"{TRANSFORM_EVENT} differs on the server: trigger.threshold": "python -m automations apply",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crash_runs_that_stop_beating", "keeps its slot of the queue until reap/zombies ends it"),
        (TRANSFORM_EVENT, "are both disabled: no extract starts dbt"),
    ],
)
def test_an_automation_that_is_disabled_is_named(stack: local.Stack, name: str, said: str) -> None:
    with local.client(stack) as api:
        server = Server(api)
        (found,) = (raw for raw in server.automations() if raw["name"] == name)
        server.enable(found["id"], False)
        try:
            fault = the_fault(examined(stack))
        finally:
            server.enable(found["id"], True)
    assert said in fault.message
    assert fault.mend == f"prefect automation resume {name}"


def test_a_run_that_nothing_is_heard_of_is_named(stack: local.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "silent_seconds", lambda _: 1.0)
    with local.client(stack) as api:
        run = api.create_flow_run(transform, state=Pending(name="Submitting"))
        try:
            processes.wait_until(lambda: faults(examined(stack)), "a second to pass", 30)
            fault = the_fault(examined(stack))
        finally:
            api.delete_flow_run(run.id)
    assert f"{run.name} ({run.id}) is Submitting, and nothing was heard of it for 1 s" in fault.message
    assert "prefect deployment run reap/zombies" in fault.mend


def test_a_worker_that_beats_or_asks_too_seldom_is_named(stack: local.Stack) -> None:
    told = {**stack.environment, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180", "PREFECT_WORKER_QUERY_SECONDS": "15"}
    processes.start("worker-2", ["sleep", "60"], stack.folder, told)
    try:
        heartbeats, poll = faults(examined(stack))
    finally:
        processes.stop(stack.folder, "worker-2")
    assert (heartbeats.check, heartbeats.level) == ("heartbeats", "wrong")
    assert "worker-2 has a heartbeat every 180 s" in heartbeats.message
    assert "PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30" in heartbeats.mend
    assert (poll.check, poll.level) == ("poll interval", "warning")
    assert "worker-2 asks for work every 15 s" in poll.message


def test_a_landing_root_that_cannot_be_written_is_named(stack: local.Stack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "landing"):
        fault = the_fault(examined(stack, BATON_LANDING_ROOT=root))
        assert fault.check == "landing"
        assert str(root) in fault.message
        assert "BATON_LANDING_ROOT" in fault.mend


def test_a_probe_in_the_landing_leaves_nothing_behind(stack: local.Stack, tmp_path: Path) -> None:
    assert faults(examined(stack, BATON_LANDING_ROOT=tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_warehouse_that_is_none_is_named(stack: local.Stack, tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").write_text("No database at all. " * 1000)
    fault = the_fault(examined(stack, BATON_WAREHOUSE=tmp_path / "warehouse.duckdb"))
    assert (fault.check, fault.level) == ("warehouse", "wrong")
    assert "cannot be opened" in fault.message


def test_a_warehouse_that_somebody_holds_is_a_warning(stack: local.Stack, tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    code = f"import duckdb; c = duckdb.connect({str(file)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        findings = examined(stack, BATON_WAREHOUSE=file)
        holder.communicate("\n")
    fault = the_fault(findings)
    assert (fault.check, fault.level) == ("warehouse", "warning")
    assert [f.check for f in findings if f.level == "skipped"] == ["ledger"]


def land(root: Path, ago: timedelta) -> Batch:
    """A batch of one product that was extracted so long ago."""
    run_id, at = uuid4(), datetime.now(UTC) - ago
    batch = Batch(root, "dummyjson.products", new_batch_id(at, run_id))
    with writing(batch) as writer:
        writer.write([{"id": 1}])
        writer.publish(total=1, extracted_at=at, flow_run_id=run_id)
    return batch


def test_batches_that_nobody_processes_are_wrong_and_new_ones_are_not(stack: local.Stack, tmp_path: Path) -> None:
    data = {"BATON_LANDING_ROOT": tmp_path / "landing", "BATON_WAREHOUSE": tmp_path / "warehouse.duckdb"}
    land(tmp_path / "landing", timedelta(seconds=5))
    findings = examined(stack, **data)
    assert faults(findings) == []
    assert "0 batches processed, 1 wait for the next transform" in {finding.message for finding in findings}
    old = land(tmp_path / "landing", timedelta(hours=2))
    fault = the_fault(examined(stack, **data))
    assert (fault.check, fault.level) == ("ledger", "wrong")
    assert (
        f"1 batches have been pending for longer than the sweep's 900 s: {old.source} {old.batch_id}" in fault.message
    )


def test_batches_that_were_set_aside_or_have_left_the_landing_are_warnings(stack: local.Stack, tmp_path: Path) -> None:
    settings = Settings(landing_root=tmp_path / "landing", warehouse=tmp_path / "warehouse.duckdb")
    aside = land(tmp_path / "landing", timedelta(hours=2))
    gone = ledger.Entry("dummyjson.carts", "20260101T000000Z-0123456789ab", 1, *[None] * 8)
    with ledger.opened(settings) as connection:
        ledger.record(connection, [gone])
        ledger.set_aside(connection, {aside.key: "damaged"})
    data = {"BATON_LANDING_ROOT": settings.landing_root, "BATON_WAREHOUSE": settings.warehouse}
    lost, quarantined = faults(examined(stack, **data))
    assert (lost.level, quarantined.level) == ("warning", "warning")
    assert f"1 processed batches are not in the landing, the oldest dummyjson.carts {gone.batch_id}" in lost.message
    assert f"1 batches were set aside, the oldest {aside.source} {aside.batch_id}" in quarantined.message
    assert "python -m flows replay" in quarantined.mend


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BATON_TARGET", "lake", "expected BATON_LAKE_CATALOG"),
        ("BATON_API_URLS", "dummyjson=http://x", "api_urls"),
        ("BATON_WAREHOUSE_WAIT_SECONDS", "long", "warehouse_wait_seconds"),
    ],
)
def test_variables_that_cannot_be_understood_are_named(stack: local.Stack, name: str, value: str, said: str) -> None:
    findings = examined(stack, **{name: value})
    (fault,) = (finding for finding in findings if finding.check == "configuration")
    assert fault.level == "wrong"
    assert said in fault.message


ON_REDIS = {
    "events__messaging_broker": "prefect_redis.messaging",
    "events__messaging_cache": "prefect_redis.messaging",
    "events__causal_ordering": "prefect_redis.ordering",
    "concurrency__lease_storage": "prefect_redis.lease_storage",
    "docket__url": "redis://:canary@127.0.0.1:6379/1",
    "database__migrate_on_start": False,
}
SCALE_TOLD = {
    "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "1",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://root@127.0.0.1/prefect",
}


@pytest.fixture(scope="module")
def server_settings(stack: local.Stack) -> dict[str, Any]:
    user, _, password = AUTH.partition(":")
    answer = httpx.get(f"{stack.prefect_api}/admin/settings", auth=(user, password))
    return dict(answer.json()["server"])


@pytest.mark.parametrize(
    ("values", "told", "level", "said"),
    [
        (
            {"events__messaging_broker": "prefect.server.utilities.messaging.memory"},
            {},
            "wrong",
            "reach no other process",
        ),
        ({"events__messaging_cache": "prefect.server.utilities.messaging.memory"}, {}, "wrong", "counts twice"),
        ({"events__causal_ordering": "prefect.server.events.ordering.memory"}, {}, "wrong", "in vain for 15 minutes"),
        ({"concurrency__lease_storage": "prefect.server.concurrency.lease_storage.memory"}, {}, "wrong", "a slot that"),
        ({"docket__url": "memory://"}, {}, "wrong", "each services process does the work of all"),
        ({"database__migrate_on_start": True}, {}, "warning", "migrate at once"),
        ({"services__triggers__enabled": False}, {}, "wrong", "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED is false"),
        ({}, {"PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "5"}, "warning", "waits up to 10 s"),
        ({}, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///x"}, "wrong", "SQLite"),
    ],
)
def test_each_trap_of_several_servers_is_named(
    server_settings: dict[str, Any], values: dict[str, Any], told: dict[str, str], level: str, said: str
) -> None:
    well = changed(server_settings, **ON_REDIS)
    assert list(inconsistent(well, SCALE_TOLD, True)) == []
    (fault,) = inconsistent(changed(well, **values), SCALE_TOLD | told, True)
    assert (fault.level, fault.mend != "") == (level, True)
    assert said in fault.message


def test_half_of_a_server_in_redis_is_named_on_one_machine_too(server_settings: dict[str, Any]) -> None:
    assert list(inconsistent(server_settings, {}, False)) == []
    half = changed(server_settings, events__messaging_broker="prefect_redis.messaging")
    assert {fault.level for fault in inconsistent(half, {}, False)} == {"wrong"}


def test_a_server_without_services_and_with_its_broker_in_memory_is_named(stack: local.Stack) -> None:
    commands = {"server": ["python", "-m", "prefect", "server", "start", "--no-services"]}
    fault = the_fault(examined(stack, {"commands": commands}))
    assert "--no-services with the broker in memory: no automation fires" in fault.message


def test_a_server_that_has_nothing_yet_is_told_what_it_lacks_and_how_to_make_it(server: str) -> None:
    def faults_of() -> dict[str, str]:
        with shell(PREFECT_API_URL=server):
            return {fault.message: fault.mend for fault in faults(examine(find(Path("nowhere"), scale=False)))}

    assert faults_of()["baton is not there"] == "prefect work-pool create baton --type process"
    with SyncPrefectClient(server) as api:
        api.create_work_pool(WorkPoolCreate(name=local.POOL, type="docker"))
        try:
            other = faults_of()
            api.delete_work_pool(local.POOL)
            api.create_work_pool(WorkPoolCreate(name=local.POOL, type="process"))
            found = faults_of()
        finally:
            api.delete_work_pool(local.POOL)
    assert "baton is of type docker, expected process" in other
    assert found["baton/extract is not there"] == "prefect work-queue create extract --pool baton"
    assert found["baton/warehouse is not there"] == "prefect work-queue create warehouse --pool baton --limit 1"
    missing = "transform/warehouse: automations or flows start it, and it is not deployed"
    assert found[missing] == "prefect deploy --name warehouse"
    assert found["extract/dummyjson-users: it is not deployed"] == "prefect deploy --name dummyjson-users"
    assert any("the server has no 'transform/warehouse'" in message for message in found)


def test_processes_that_were_killed_are_named(stack: local.Stack) -> None:
    alive = processes.running(stack.folder)
    for name in ("worker", "prefork-engine"):
        os.killpg(alive[name], signal.SIGKILL)
    found: list[Finding] = []

    def noticed() -> bool:
        found[:] = faults(examined(stack, PREFECT_WORKER_QUERY_SECONDS="0.4"))
        return sum(fault.check == "workers" for fault in found) == 2

    processes.wait_until(noticed, "the doctor to miss the worker", 30, every=1)
    messages = [fault.message for fault in found]
    assert f"worker has ended; see {stack.folder / 'worker.log'}" in messages
    assert f"prefork-engine has ended; see {stack.folder / 'prefork-engine.log'}" in messages
    for name in ("extract", "warehouse"):
        assert any(f"nobody has asked baton/{name} for work for 1" in message for message in messages)
    (engine,) = (fault for fault in found if fault.check == "engine")
    assert "prefork engine does not take runs" in engine.message
    assert not healthy(found)


def test_secrets_are_known_by_their_names_and_in_urls_and_are_not_shown() -> None:
    secrets = secrets_of(
        [
            {"PREFECT_API_AUTH_STRING": "me:my-password", "AWS_SECRET_ACCESS_KEY": "aws-secret", "AWS_REGION": "eu"},
            {"BATON_LAKE_CATALOG": "postgresql://me:in-the-url@host/db", "AWS_ACCESS_KEY_ID": "known-to-all"},
        ]
    )
    assert secrets == {"me:my-password", "my-password", "aws-secret", "in-the-url"}
    finding = Finding("x", "wrong", "redis://:pw@host: my-password", "aws-secret, postgresql://u:p@h/d")
    assert without_secrets(finding, secrets) == Finding("x", "wrong", "redis://…@host: …", "…, postgresql://…@h/d")


def test_a_link_in_the_landing_is_named(stack: local.Stack, tmp_path: Path) -> None:
    (tmp_path / "landing" / "dummyjson").mkdir(parents=True)
    (tmp_path / "landing" / "dummyjson" / "products").symlink_to(tmp_path)
    findings = examined(stack, BATON_LANDING_ROOT=tmp_path / "landing")
    (fault,) = (finding for finding in findings if finding.check == "ledger")
    assert "is a link, expected a folder" in fault.message
