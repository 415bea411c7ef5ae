"""`baton doctor` on a real stack: a healthy one, and then one broken thing after the other."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import duckdb
import httpx
import prefect
import pytest
from prefect import State
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed, Pending

from automations.prefect_automations.apply import apply_plan
from automations.prefect_automations.loading import load
from automations.prefect_automations.plan import make_plan
from automations.prefect_automations.server import Server
from flows.extract import extract
from flows.landing.batch import Batch, Reading
from flows.landing.names import new_batch_id
from flows.landing.writer import FULL, open_writer
from flows.server.flow_runs import TAG
from flows.settings import PROJECT, Settings
from flows.transform import transform
from flows.warehouse import ledger
from flows.warehouse.connection import connect
from stack import cli
from stack.doctor import CHECKS, data, examine, server, work
from stack.doctor.findings import Finding, healthy, secrets_of, without_secrets
from stack.doctor.server import inconsistent
from stack.doctor.target import Target, environment_of, find
from stack.local import processes, up
from stack.local.profiles import Stack
from stack.sample_api.server import serving
from tests.support.doctor import changed, examined, faults, shell, the_fault

PASSWORD = "canary-of-the-doctor"
AUTH = f"baton:{PASSWORD}"
TRANSFORM_EVENT = "transform_when_extract_finishes"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_API_AUTH_STRING", AUTH)
        patch.setenv("PREFECT_API_AUTH_STRING", AUTH)
        # As with `make up API=...`: a live dummyjson, and `shop` from the sample API.
        with serving() as url:
            started = up.start_stack(folder, api=url, port=processes.free_port(), schedules=False, say=print)
        assert json.loads(started.environment["BATON_API_URLS"])["dummyjson"] == url
    yield started
    processes.stop_all(folder)


def apply(stack: Stack) -> None:
    """What `baton automations apply` does."""
    described, project, _ = load((), PROJECT)
    with up.client(stack) as api:
        server = Server(api)
        plan = make_plan(server, described, project.tag, prune=True)
        assert apply_plan(server, plan, project.tag, lambda *_: None).all_made


def test_a_new_stack_is_healthy_and_every_check_has_a_finding(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    findings = examined(stack)
    assert faults(findings) == []
    assert [finding for finding in findings if finding.level == "skipped"] == []
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}
    with shell():
        assert cli.doctor(as_json=True, folder=stack.folder) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["ok"] is True
    assert [(one["check"], one["level"]) for one in output["findings"]] == [(f.check, f.level) for f in findings]


def test_it_finds_the_stack_where_the_system_shows_no_environment_of_another_process(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: `stack.env` says what the processes have. Also with this stack's server chosen by a variable."""
    monkeypatch.setattr(processes, "on_linux", lambda: False)
    assert environment_of(os.getpid()) == {}
    for variables in ({}, {"PREFECT_API_URL": stack.prefect_api}):
        with shell(**variables):
            findings = examine(find(stack.folder, scale=False))
        assert faults(findings) == []
        assert {finding.check for finding in findings} == {check.name for check in CHECKS}


def test_it_prints_text_for_people_and_exits_with_1_if_there_is_an_error(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    with up.client(stack) as api:
        api.update_work_pool(up.POOL, WorkPoolUpdate(is_paused=True))
    try:
        with shell():
            assert cli.doctor(folder=stack.folder) == 1
    finally:
        with up.client(stack) as api:
            api.update_work_pool(up.POOL, WorkPoolUpdate(is_paused=False))
    output = capsys.readouterr().out
    assert "error    work pool      baton is paused" in output
    assert "-> prefect work-pool resume baton" in output
    assert output.rstrip().splitlines()[-1].endswith("1 error, 3 not checked")
    assert PASSWORD not in output


def test_a_server_that_is_not_there_is_one_line_and_what_needs_it_is_skipped(stack: Stack) -> None:
    url = f"http://127.0.0.1:{processes.free_port()}/api"
    findings = examined(stack, {"environments": {}}, PREFECT_API_URL=url)
    fault = the_fault([finding for finding in findings if finding.check == "API"])
    assert url in fault.message
    assert "make up" in fault.fix
    skipped = {finding.check for finding in findings if finding.level == "skipped"}
    assert skipped >= {"auth", "version", "clock", "settings", "work queues", "workers", "deployments", "automations"}
    assert "not checked, because API has an error" in {f.message for f in findings if f.level == "skipped"}


def test_a_url_that_is_not_the_apis_is_named(stack: Stack) -> None:
    url = stack.prefect_api.removesuffix("/api")
    findings = examined(stack, {"environments": {}}, PREFECT_API_URL=url)
    assert "does not answer as Prefect's API does" in faults(findings)[0].message


def test_no_server_at_all_is_named() -> None:
    with shell():
        findings = examine(Target(Path("nowhere"), False, {}, {}))
    assert "no server is named" in the_fault([f for f in findings if f.check == "configuration"]).message


@pytest.mark.parametrize("given", ["", "baton:guessed-in-vain"])
def test_wrong_credentials_are_named_and_not_shown(stack: Stack, given: str) -> None:
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


def test_another_version_and_another_clock_are_named(stack: Stack) -> None:
    with another_server(stack.prefect_api, "3.7.1", timedelta(minutes=-3)) as url:
        workers = {name: values for name, values in environments(stack).items() if name == "worker"}
        version, clock = faults(examined(stack, {"environments": workers}, PREFECT_API_URL=url))
    assert (version.check, version.level) == ("version", "error")
    assert f"Prefect 3.7.1, the client is {prefect.__version__}" in version.message
    assert (clock.check, clock.level) == ("clock", "error")
    assert " s behind this machine" in clock.message


def environments(stack: Stack) -> dict[str, Any]:
    with shell():
        return dict(find(stack.folder, scale=False).environments)


def test_a_queue_that_allows_two_writers_of_the_file_is_named(stack: Stack) -> None:
    with queue(stack, "warehouse", concurrency_limit=None):
        fault = the_fault(examined(stack))
    assert "baton/warehouse has no limit, but a DuckDB file has one writer" in fault.message
    assert fault.fix == "prefect work-queue set-concurrency-limit warehouse 1 --pool baton"


def test_a_queue_with_limit_0_is_named(stack: Stack) -> None:
    with queue(stack, "extract", concurrency_limit=0):
        assert "baton/extract has limit 0" in the_fault(examined(stack)).message


def test_a_paused_queue_is_named(stack: Stack) -> None:
    with queue(stack, "warehouse", is_paused=True):
        fault = the_fault(examined(stack))
    assert (fault.check, fault.fix) == ("work queues", "prefect work-queue resume warehouse --pool baton")


@contextmanager
def queue(stack: Stack, name: str, **changes: Any) -> Iterator[None]:
    """The queue with these changes, for as long as the block runs."""
    with up.client(stack) as api:
        found = api.read_work_queue_by_name(name, up.POOL)
        api.update_work_queue(found.id, **changes)
        try:
            yield
        finally:
            before = {key: getattr(found, key) for key in changes}
            api.update_work_queue(found.id, **before)


def test_what_differs_from_prefect_yaml_is_named(stack: Stack) -> None:
    with up.client(stack) as api:
        deployment = api.read_deployment_by_name("extract/dummyjson-carts")
        other = {"source": "dummyjson.carts", "handoff": "caller"}
        api.update_deployment(deployment.id, DeploymentUpdate(parameters=other, work_queue_name="warehouse", tags=[]))
        try:
            first, second, third = faults(examined(stack))
        finally:
            same = DeploymentUpdate(parameters=deployment.parameters, work_queue_name="extract", tags=deployment.tags)
            api.update_deployment(deployment.id, same)
    assert "extract/dummyjson-carts: its work queue on the server: warehouse; in prefect.yaml: extract" in first.message
    assert "its parameters on the server" in second.message
    assert "its tags on the server: []; in prefect.yaml: ['baton', 'source:" in third.message
    assert first.fix == second.fix == third.fix == "prefect deploy --name dummyjson-carts"


def test_a_deployed_source_without_its_secret_or_its_models_is_named(stack: Stack, tmp_path: Path) -> None:
    fault, again = faults(examined(stack, {"environments": {}}, SHOP_TOKEN=""))
    assert (fault.check, fault.fix) == ("sources", "set it where extracts run")
    assert fault.message == ("shop.orders: expected a secret in the environment variable SHOP_TOKEN, which is not set")
    assert again.message.startswith("shop.order_lines: ")
    found = [fault for fault in faults(examined(stack, BATON_DBT_PROJECT=tmp_path)) if fault.check == "sources"]
    assert "dummyjson.products: expected the base model base_dummyjson__products.sql in" in found[1].message
    assert found[1].fix == "`baton source new dummyjson.products` writes it"


def test_a_paused_deployment_is_named(stack: Stack) -> None:
    with up.client(stack) as api:
        deployment = api.read_deployment_by_name("transform/warehouse")
        api.update_deployment(deployment.id, DeploymentUpdate(paused=True))
        try:
            fault = the_fault(examined(stack))
        finally:
            api.update_deployment(deployment.id, DeploymentUpdate(paused=False))
    assert "transform/warehouse is paused" in fault.message


def test_a_deployment_of_an_earlier_version_is_named_and_removed_by_the_next_start(stack: Stack) -> None:
    flow, _, name = up.FORMER_DEPLOYMENTS[0].partition("/")
    with up.client(stack) as api:
        api.create_deployment(flow_id=api.create_flow_from_name(flow), name=name)
        fault = the_fault(examined(stack))
        assert fault.fix == "prefect deployment delete reap/zombies"
        up.remove_former_deployments(stack)
        with pytest.raises(ObjectNotFound):
            api.read_deployment_by_name(f"{flow}/{name}")


def test_an_automation_that_is_missing_and_one_that_differs_are_named(stack: Stack) -> None:
    with up.client(stack) as api:
        server = Server(api)
        by_name = {raw["name"]: raw for raw in server.automations()}
        server.delete(by_name["crash_runs_without_heartbeat"]["id"])
        changed = copy.deepcopy(by_name[TRANSFORM_EVENT])
        changed["trigger"]["threshold"] = 5
        server.update(changed["id"], {k: v for k, v in changed.items() if k not in ("id", "created", "updated")})
    try:
        found = {fault.message: fault.fix for fault in faults(examined(stack))}
    finally:
        apply(stack)
    assert found == {
        "crash_runs_without_heartbeat is not on the server": "baton automations apply",
        f"{TRANSFORM_EVENT} differs on the server: trigger.threshold": "baton automations apply",
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("crash_runs_without_heartbeat", "keeps its slot of the queue until crash-zombies/zombies runs"),
        (TRANSFORM_EVENT, "are both disabled: no extract starts dbt"),
    ],
)
def test_an_automation_that_is_disabled_is_named(stack: Stack, name: str, words: str) -> None:
    with up.client(stack) as api:
        server = Server(api)
        (found,) = (raw for raw in server.automations() if raw["name"] == name)
        server.enable(found["id"], False)
        try:
            fault = the_fault(examined(stack))
        finally:
            server.enable(found["id"], True)
    assert words in fault.message
    assert fault.fix == f"prefect automation resume {name}"


def test_a_run_that_sends_no_event_is_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "silent_seconds", lambda _: 1.0)
    with up.client(stack) as api:
        run = api.create_flow_run(transform, state=Pending(name="Submitting"), tags=[TAG])
        try:
            processes.wait_until(lambda: bool(faults(examined(stack))), "a second to pass", 30)
            fault = the_fault(examined(stack))
        finally:
            api.delete_flow_run(run.id)
    assert f"{run.name} ({run.id}) is Submitting and sent no event for 1 s" in fault.message
    assert "prefect deployment run crash-zombies/zombies" in fault.fix


def test_a_worker_with_too_few_heartbeats_or_polls_is_named(stack: Stack) -> None:
    environment = {
        **stack.environment,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180",
        "PREFECT_WORKER_QUERY_SECONDS": "15",
    }
    processes.start("worker-2", ["sleep", "60"], stack.folder, environment)
    try:
        heartbeats, poll = faults(examined(stack))
    finally:
        processes.stop(stack.folder, "worker-2")
    assert (heartbeats.check, heartbeats.level) == ("heartbeats", "error")
    assert "worker-2 has a heartbeat every 180 s" in heartbeats.message
    assert "PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30" in heartbeats.fix
    assert (poll.check, poll.level) == ("poll interval", "warning")
    assert "worker-2 polls every 15 s" in poll.message


def test_a_landing_root_that_cannot_be_written_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "landing"):
        fault = the_fault(examined(stack, BATON_LANDING_ROOT=root))
        assert fault.check == "landing"
        assert str(root) in fault.message
        assert "BATON_LANDING_ROOT" in fault.fix


def test_a_probe_in_the_landing_leaves_nothing_behind(stack: Stack, tmp_path: Path) -> None:
    assert faults(examined(stack, BATON_LANDING_ROOT=tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_warehouse_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").write_text("No database at all. " * 1000)
    fault = the_fault(examined(stack, BATON_WAREHOUSE=tmp_path / "warehouse.duckdb"))
    assert (fault.check, fault.level) == ("warehouse", "error")
    assert "cannot be opened" in fault.message


def test_a_warehouse_that_another_process_holds_is_a_warning(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    code = f"import duckdb; c = duckdb.connect({str(file)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        findings = examined(stack, BATON_WAREHOUSE=file)
        holder.communicate("\n")
    fault = the_fault(findings)
    assert (fault.check, fault.level) == ("warehouse", "warning")
    assert [f.check for f in findings if f.level == "skipped"] == ["ledger", "failures"]
    assert f"(process {holder.pid})" in fault.message
    assert fault.fix.endswith(f"kill {holder.pid}")


@pytest.fixture
def freeze() -> Iterator[Callable[[Path, str], int]]:
    """Starts a process that works in a warehouse as a transform does, and stops it in the middle; its id."""
    code = (
        "import duckdb, os, signal, sys; from pathlib import Path; from flows.settings import Settings\n"
        "from flows.warehouse.connection import exclusive_writer\n"
        "settings = Settings(warehouse=Path(sys.argv[1]))\n"
        "with exclusive_writer(settings):\n"
        "    connection = duckdb.connect(sys.argv[1]) if sys.argv[2] == 'open' else None\n"
        "    print('held', flush=True); os.kill(os.getpid(), signal.SIGSTOP); input()"
    )
    started: list[subprocess.Popen[str]] = []

    def start(warehouse: Path, how: str) -> int:
        command = [sys.executable, "-c", code, str(warehouse), how]
        started.append(subprocess.Popen(command, stdin=-1, stdout=-1, text=True, cwd=PROJECT))
        assert started[0].stdout is not None
        assert started[0].stdout.readline() == "held\n"
        processes.wait_until(lambda: data.is_frozen(started[0].pid), "the process to stop", 10)
        return started[0].pid

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", ["open", "closed"])
def test_a_frozen_process_that_holds_the_warehouse_is_named(
    stack: Stack, tmp_path: Path, freeze: Callable[[Path, str], int], how: str
) -> None:
    file = tmp_path / "warehouse.duckdb"
    duckdb.connect(str(file)).close()
    pid = freeze(file, how)
    (fault,) = [finding for finding in faults(examined(stack, BATON_WAREHOUSE=file)) if finding.check == "warehouse"]
    assert fault.level == "error"
    assert f"(process {pid}), which is stopped" in fault.message
    assert f"kill -CONT {pid}" in fault.fix


def test_failed_runs_and_builds_are_errors_until_a_later_run_succeeds(stack: Stack, tmp_path: Path) -> None:
    paths = {"BATON_LANDING_ROOT": tmp_path / "landing", "BATON_WAREHOUSE": tmp_path / "warehouse.duckdb"}
    batch = land(tmp_path / "landing", timedelta(seconds=5))
    with connect(Settings(landing_root=batch.root, warehouse=paths["BATON_WAREHOUSE"])) as connection:
        ledger.record_failures(connection, [batch], "a test found 3 rows")
    made = []
    with up.client(stack) as api:
        for flow, parameters in ((extract, {"source": "dummyjson.carts"}), (transform, {})):
            failed: State[None] = Failed(message=f"the {flow.name} broke")
            made.append(api.create_flow_run(flow, parameters=parameters, state=failed, tags=[TAG]))
        try:
            carts, build, last = sorted(faults(examined(stack, **paths)), key=lambda finding: finding.message)
            made.append(api.create_flow_run(transform, state=Completed(), tags=[TAG]))
            after = {finding.message for finding in faults(examined(stack, **paths))}
        finally:
            for run in made:
                api.delete_flow_run(run.id)
    assert {finding.level for finding in (carts, build, last)} == {"error"}
    assert carts.message.startswith("dummyjson.carts: its last run Failed")
    assert "the extract broke" in carts.message
    assert build.message.startswith(f"{batch.source}: 1 of 3 failed builds: a test found 3 rows")
    assert "the transform broke" in last.message
    assert "transform/warehouse tries now" in last.fix
    assert after == {carts.message, build.message}


def test_what_grows_without_end_is_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST_DATABASE", 1000)
    monkeypatch.setattr(server, "LARGEST_LOG", 1_000_000)
    monkeypatch.setattr(server, "LONGEST_RETENTION", timedelta(days=6))
    log = stack.folder / "worker-9.log"
    log.write_bytes(b"x" * 1_500_000)
    try:
        database, events, worker = faults(examined(stack))
    finally:
        log.unlink()
    assert f"{stack.folder / 'prefect' / 'prefect.db'} has 0.0 GB" in database.message
    assert "keeps events for 7 days" in events.message
    assert f"{log} has 2 MB and is not rotated" in worker.message
    assert {finding.check for finding in (database, events, worker)} == {"server limits"}


def land(root: Path, ago: timedelta, source: str = "dummyjson.products", reading: Reading = FULL) -> Batch:
    """A batch of one record that was extracted so long ago."""
    run_id, at = uuid4(), datetime.now(UTC) - ago
    batch = Batch(root, source, new_batch_id(at, run_id))
    with open_writer(batch) as writer:
        writer.write([b'{"id":1}'])
        writer.publish(total=1, extracted_at=at, flow_run_id=run_id, reading=reading)
    return batch


def test_batches_that_stay_pending_are_an_error_and_new_ones_are_not(stack: Stack, tmp_path: Path) -> None:
    data = {"BATON_LANDING_ROOT": tmp_path / "landing", "BATON_WAREHOUSE": tmp_path / "warehouse.duckdb"}
    land(tmp_path / "landing", timedelta(seconds=5))
    findings = examined(stack, **data)
    assert faults(findings) == []
    assert "0 batches processed, 1 waits for the next transform" in {finding.message for finding in findings}
    old = land(tmp_path / "landing", timedelta(hours=2))
    fault = the_fault(examined(stack, **data))
    assert (fault.check, fault.level) == ("ledger", "error")
    assert f"1 batch has been pending for longer than the sweep's 900 s: {old.source} {old.batch_id}" in fault.message


def test_batches_that_are_quarantined_or_gone_from_the_landing_are_warnings(stack: Stack, tmp_path: Path) -> None:
    settings = Settings(landing_root=tmp_path / "landing", warehouse=tmp_path / "warehouse.duckdb")
    bad = land(tmp_path / "landing", timedelta(hours=2))
    gone = ledger.Entry("dummyjson.carts", "20260101T000000Z-0123456789ab", 1, *[None] * 8)
    with connect(settings) as connection:
        ledger.record(connection, [gone])
        ledger.quarantine(connection, {bad.key: "damaged"})
    data = {"BATON_LANDING_ROOT": settings.landing_root, "BATON_WAREHOUSE": settings.warehouse}
    lost, quarantined = faults(examined(stack, **data))
    assert (lost.level, quarantined.level) == ("warning", "warning")
    assert f"1 processed batch is not in the landing, the oldest dummyjson.carts {gone.batch_id}" in lost.message
    assert f"1 batch is quarantined, the oldest {bad.source} {bad.batch_id}" in quarantined.message
    assert "baton replay" in quarantined.fix


def test_changes_that_the_marts_lack_are_named_and_how_to_read_them_again(stack: Stack, tmp_path: Path) -> None:
    settings = Settings(landing_root=tmp_path / "landing", warehouse=tmp_path / "warehouse.duckdb")
    reading = Reading(reading="changes", cursor_from="2026-01-01", cursor_to="2026-01-02T10:00:00Z")
    bad = land(tmp_path / "landing", timedelta(hours=2), "shop.orders", reading)
    with connect(settings) as connection:
        ledger.quarantine(connection, {bad.key: "damaged"})
    data = {"BATON_LANDING_ROOT": settings.landing_root, "BATON_WAREHOUSE": settings.warehouse}
    _, gap = faults(examined(stack, **data))
    assert (gap.check, gap.level) == ("ledger", "error")
    assert gap.message == (
        "shop.orders: the marts lack the changes of 1 quarantined batches: "
        f"{bad.batch_id} (from 2026-01-01 to 2026-01-02T10:00:00Z)"
    )
    assert gap.fix.endswith("prefect deployment run extract/shop-orders -p 'since=\"2026-01-01\"'")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BATON_TARGET", "lake", "expected BATON_LAKE_CATALOG"),
        ("BATON_API_URLS", "dummyjson=http://x", "BATON_API_URLS: expected JSON"),
        ("BATON_WAREHOUSE_WAIT_SECONDS", "long", "BATON_WAREHOUSE_WAIT_SECONDS: "),
    ],
)
def test_variables_that_cannot_be_read_are_named(stack: Stack, name: str, value: str, words: str) -> None:
    findings = examined(stack, **{name: value})
    (fault,) = (finding for finding in findings if finding.check == "configuration")
    assert fault.level == "error"
    assert words in fault.message


ON_REDIS = {
    "events__messaging_broker": "prefect_redis.messaging",
    "events__messaging_cache": "prefect_redis.messaging",
    "events__causal_ordering": "prefect_redis.ordering",
    "concurrency__lease_storage": "prefect_redis.lease_storage",
    "docket__url": "redis://:canary@127.0.0.1:6379/1",
    "database__migrate_on_start": False,
}
SCALE_ENVIRONMENT = {
    "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "1",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://root@127.0.0.1/prefect",
}


@pytest.fixture(scope="module")
def server_settings(stack: Stack) -> dict[str, Any]:
    user, _, password = AUTH.partition(":")
    answer = httpx.get(f"{stack.prefect_api}/admin/settings", auth=(user, password))
    return dict(answer.json()["server"])


@pytest.mark.parametrize(
    ("values", "environment", "level", "words"),
    [
        (
            {"events__messaging_broker": "prefect.server.utilities.messaging.memory"},
            {},
            "error",
            "reach no other process",
        ),
        ({"events__messaging_cache": "prefect.server.utilities.messaging.memory"}, {}, "error", "counts twice"),
        ({"events__causal_ordering": "prefect.server.events.ordering.memory"}, {}, "error", "held back for 15 minutes"),
        (
            {"concurrency__lease_storage": "prefect.server.concurrency.lease_storage.memory"},
            {},
            "error",
            "a restart loses them",
        ),
        ({"docket__url": "memory://"}, {}, "error", "repeats the work of the others"),
        ({"database__migrate_on_start": True}, {}, "warning", "migrate together"),
        ({"services__triggers__enabled": False}, {}, "error", "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED is false"),
        ({}, {"PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "5"}, "warning", "waits up to 10 s"),
        ({}, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///x"}, "error", "SQLite"),
    ],
)
def test_each_trap_of_several_servers_is_named(
    server_settings: dict[str, Any], values: dict[str, Any], environment: dict[str, str], level: str, words: str
) -> None:
    healthy_settings = changed(server_settings, **ON_REDIS)
    assert list(inconsistent(healthy_settings, SCALE_ENVIRONMENT, True)) == []
    (fault,) = inconsistent(changed(healthy_settings, **values), SCALE_ENVIRONMENT | environment, True)
    assert (fault.level, fault.fix != "") == (level, True)
    assert words in fault.message


def test_a_server_with_only_its_broker_in_redis_is_named_on_one_machine_too(server_settings: dict[str, Any]) -> None:
    assert list(inconsistent(server_settings, {}, False)) == []
    half = changed(server_settings, events__messaging_broker="prefect_redis.messaging")
    assert {fault.level for fault in inconsistent(half, {}, False)} == {"error"}


def test_a_server_without_services_and_with_its_broker_in_memory_is_named(stack: Stack) -> None:
    commands = {"server": ["python", "-m", "prefect", "server", "start", "--no-services"]}
    fault = the_fault(examined(stack, {"commands": commands}))
    assert "--no-services with the broker in memory: no automation fires" in fault.message


def test_each_thing_that_an_empty_server_lacks_is_named_with_the_command_that_makes_it(server: str) -> None:
    def faults_of() -> dict[str, str]:
        with shell(PREFECT_API_URL=server):
            return {fault.message: fault.fix for fault in faults(examine(find(Path("nowhere"), scale=False)))}

    empty = faults_of()
    assert empty.get("baton does not exist") == "prefect work-pool create baton --type process", empty
    with SyncPrefectClient(server) as api:
        api.create_work_pool(WorkPoolCreate(name=up.POOL, type="docker"))
        try:
            other = faults_of()
            api.delete_work_pool(up.POOL)
            api.create_work_pool(WorkPoolCreate(name=up.POOL, type="process"))
            found = faults_of()
        finally:
            api.delete_work_pool(up.POOL)
    assert "baton is of type docker, expected prefork or process" in other
    assert found["baton/extract does not exist"] == "prefect work-queue create extract --pool baton"
    assert found["baton/warehouse does not exist"] == "prefect work-queue create warehouse --pool baton --limit 1"
    missing = "transform/warehouse: automations or flows start it, and it is not deployed"
    assert found[missing] == "prefect deploy --name warehouse"
    assert found["extract/dummyjson-users: it is not deployed"] == "prefect deploy --name dummyjson-users"
    assert any("the server has no 'transform/warehouse'" in message for message in found)


def test_processes_that_were_killed_are_named(stack: Stack) -> None:
    alive = processes.running(stack.folder)
    os.killpg(alive["prefork-engine"], signal.SIGKILL)
    (engine,) = (fault for fault in faults(examined(stack)) if fault.check == "engine")
    assert "the prefork engine accepts no runs of worker" in engine.message
    os.killpg(alive["worker"], signal.SIGKILL)
    found: list[Finding] = []

    def noticed() -> bool:
        found[:] = faults(examined(stack, PREFECT_WORKER_QUERY_SECONDS="0.4"))
        return sum(fault.check == "workers" for fault in found) == 2

    processes.wait_until(noticed, "the doctor to miss the worker", 120, every=1)
    messages = [fault.message for fault in found]
    assert f"worker has ended; see {stack.folder / 'worker.log'}" in messages
    assert f"prefork-engine has ended; see {stack.folder / 'prefork-engine.log'}" in messages
    for name in ("extract", "warehouse"):
        assert any(f"no worker polled baton/{name} for 1" in message for message in messages)
    assert not healthy(found)


def test_secrets_are_known_by_their_names_and_in_urls_and_are_not_shown() -> None:
    secrets = secrets_of(
        [
            {"PREFECT_API_AUTH_STRING": "me:my-password", "AWS_SECRET_ACCESS_KEY": "aws-secret", "AWS_REGION": "eu"},
            {"BATON_LAKE_CATALOG": "postgresql://me:in-the-url@host/db", "AWS_ACCESS_KEY_ID": "known-to-all"},
        ]
    )
    assert secrets == {"me:my-password", "my-password", "aws-secret", "in-the-url"}
    finding = Finding("x", "error", "redis://:pw@host: my-password", "aws-secret, postgresql://u:p@h/d")
    assert without_secrets(finding, secrets) == Finding("x", "error", "redis://…@host: …", "…, postgresql://…@h/d")


def test_a_link_in_the_landing_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "landing" / "dummyjson").mkdir(parents=True)
    (tmp_path / "landing" / "dummyjson" / "products").symlink_to(tmp_path)
    findings = examined(stack, BATON_LANDING_ROOT=tmp_path / "landing")
    (fault,) = (finding for finding in findings if finding.check == "ledger")
    assert "is a link, expected a folder" in fault.message
