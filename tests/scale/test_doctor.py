"""`baton doctor` on the scale profile: its own lines, each by breaking that thing."""

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from stack import cli
from stack.doctor import CHECKS
from stack.doctor.server import inconsistent
from stack.doctor.target import find
from stack.local import env_files, processes, scale, up
from stack.local.profiles import Stack
from tests.scale.conftest import execute
from tests.scale.test_profile import start
from tests.support.doctor import changed, examined, faults, shell, the_fault


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres: str, redis_url: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("doctor")
    try:
        yield start(folder)
    finally:
        cli.clean(profile="scale", folder=folder)


def kill(stack: Stack, name: str) -> None:
    os.killpg(processes.running(stack.folder)[name], signal.SIGKILL)
    processes.wait_until(lambda: name not in processes.running(stack.folder), f"{name} to end", 10)


def test_a_new_stack_is_healthy_and_every_check_has_a_finding(stack: Stack) -> None:
    findings = examined(stack)
    assert faults(findings) == []
    assert [finding for finding in findings if finding.level == "skipped"] == []
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}
    messages = "\n".join(finding.message for finding in findings)
    for api in stack.apis:
        assert f"{api} requires credentials and accepts ours" in messages
        assert f"{api}: broker, cache, ordering, leases and docket are all in Redis" in messages
    assert "a services process runs" in messages
    assert "s3://baton/landing can be read and written" in messages
    assert "the lake s3://baton/lake can be opened" in messages
    for name in ("Postgres", "Redis"):
        assert f"{name} answers" in messages
        assert f"{name} and this machine agree" in messages


def test_the_command_finds_out_the_profile_by_itself(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    with shell():
        code = cli.doctor(as_json=True, folder=stack.folder)
    output = capsys.readouterr().out
    assert code == 0, output
    assert "are all in Redis" in output
    assert stack.environment["PREFECT_API_AUTH_STRING"].partition(":")[2] not in output


def test_a_services_process_that_was_killed_is_missed(stack: Stack) -> None:
    kill(stack, "services")
    found: dict[str, str] = {}

    def noticed() -> bool:
        found.update({fault.message: fault.check for fault in faults(examined(stack, {"scale": True}))})
        return "services" in found.values()

    processes.wait_until(noticed, "the doctor to miss the services", 40, every=1)
    scale.start_services(stack)
    assert found["no services process sent a heartbeat for 10 s: no automation fires"] == "services"
    assert any(message.startswith("services has ended") for message in found)


def test_one_of_the_api_servers_that_was_killed_is_named(stack: Stack) -> None:
    kill(stack, "server-2")
    findings = examined(stack)
    scale.start_api_server(stack, 2)
    found = [fault.message for fault in faults(findings) if fault.check == "other APIs"]
    assert [message.partition(" ")[0] for message in found] == [stack.apis[1]]
    assert "cannot be reached" in found[0]
    # The other server is examined nevertheless, and is healthy.
    examined_there = ("auth", "settings", "deployments")
    assert {finding.check for finding in findings if finding.level == "ok"} >= {"auth", "settings"}
    assert [fault for fault in faults(findings) if fault.check in examined_there] == []


def test_a_wrong_auth_string_is_an_error_at_each_server(stack: Stack) -> None:
    found = faults(examined(stack, PREFECT_API_AUTH_STRING="baton:wrong-guess"))
    assert [fault.check for fault in found if fault.check == "auth"] == ["auth", "auth"]
    assert "wrong-guess" not in repr(found)


def test_a_queue_that_makes_sources_wait_for_each_other_is_a_warning(stack: Stack) -> None:
    with up.client(stack) as api:
        queue = api.read_work_queue_by_name("warehouse", up.POOL)
        api.update_work_queue(queue.id, concurrency_limit=1)
        try:
            fault = the_fault(examined(stack))
        finally:
            api.update_work_queue(queue.id, concurrency_limit=4)
    assert (fault.check, fault.level) == ("work queues", "warning")
    assert "side by side" in fault.message


def test_a_catalog_that_is_not_there_is_named_without_its_password(stack: Stack) -> None:
    url = f"postgresql://root:canary-of-the-lake@127.0.0.1:{processes.free_port()}/nothing"
    findings = examined(stack, BATON_LAKE_CATALOG=url)
    assert {fault.check for fault in faults(findings)} == {"databases", "warehouse"}
    assert "canary-of-the-lake" not in repr(findings)


def test_a_redis_that_is_not_there_is_named_without_its_password(stack: Stack) -> None:
    with shell():
        environments = {name: dict(values) for name, values in find(stack.folder, scale=True).environments.items()}
    url = f"redis://:canary-of-redis@127.0.0.1:{processes.free_port()}/0"
    for name in ("server-1", "server-2"):
        environments[name]["PREFECT_REDIS_MESSAGING_URL"] = url
    findings = examined(stack, {"environments": environments})
    assert {fault.check for fault in faults(findings)} == {"databases", "one stack"}
    assert [finding.level for finding in findings if finding.check == "services"] == ["skipped"]
    assert "canary-of-redis" not in repr(findings)


def test_a_source_lock_that_two_sessions_get_is_named(stack: Stack) -> None:
    catalog, _ = stack.settings.lake
    database = catalog.rpartition("/")[2]
    # This Postgres gives every lock to every session, as one behind a pooler that shares connections.
    function = "create function broken.pg_try_advisory_lock(bigint) returns boolean language sql as 'select true'"
    try:
        execute("create schema broken", catalog)
        execute(function, catalog)
        execute(f'alter database "{database}" set search_path = broken, pg_catalog, public', catalog)
        fault = the_fault(examined(stack))
    finally:
        execute(f'alter database "{database}" reset search_path', catalog)
        execute("drop schema if exists broken cascade", catalog)
    assert (fault.check, fault.level) == ("source locks", "error")
    assert "gives one lock to two sessions" in fault.message
    assert "session mode" in fault.fix


def test_a_bucket_that_is_not_there_is_named(stack: Stack) -> None:
    fault = the_fault(examined(stack, BATON_LANDING_ROOT="s3://missing/landing"))
    assert fault.check == "landing"
    assert "s3://missing/landing" in fault.message
    assert "BATON_LANDING_ROOT" in fault.fix


def test_a_place_for_the_lakes_data_that_cannot_be_written_is_named(stack: Stack) -> None:
    findings = examined(stack, BATON_LAKE_DATA="s3://missing/lake")
    fault = the_fault(findings)
    assert fault.check == "lake data"
    assert "BATON_LAKE_DATA" in fault.fix
    assert {finding.check for finding in findings if finding.level == "skipped"} == {"warehouse", "ledger", "failures"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://:canary@127.0.0.1/other"),
        ("PREFECT_REDIS_MESSAGING_URL", "redis://:canary@127.0.0.1/9"),
        ("PREFECT_SERVER_API_AUTH_STRING", "baton:canary-of-another"),
    ],
)
def test_a_server_that_belongs_to_another_stack_is_named(stack: Stack, name: str, value: str) -> None:
    server_2 = env_files.read(stack.folder / "server.env") | {name: value, "PREFECT_API_URL": stack.apis[1]}
    with shell():
        others = find(stack.folder, scale=True).environments
    fault = the_fault(examined(stack, {"environments": {**others, "server-2": server_2}}))
    assert (fault.check, fault.level) == ("one stack", "error")
    assert f"server-2 has another {name} than server-1" in fault.message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("events__messaging_broker", "prefect.server.utilities.messaging.memory", "reach no other process"),
        ("events__messaging_cache", "prefect.server.utilities.messaging.memory", "counts twice"),
        ("events__causal_ordering", "prefect.server.events.ordering.memory", "held back for 15 minutes"),
        ("concurrency__lease_storage", "prefect.server.concurrency.lease_storage.memory", "a restart loses them"),
        ("docket__url", "memory://", "repeats the work of the others"),
    ],
)
def test_each_trap_is_named_in_the_settings_of_a_real_server_of_this_profile(
    stack: Stack, path: str, value: str, words: str
) -> None:
    user, _, password = stack.environment["PREFECT_API_AUTH_STRING"].partition(":")
    settings = httpx.get(f"{stack.apis[1]}/admin/settings", auth=(user, password)).json()["server"]
    environment = env_files.read(stack.folder / "server.env")
    assert list(inconsistent(settings, environment, True)) == []
    (fault,) = inconsistent(changed(settings, **{path: value}), environment, True)
    assert fault.level == "error"
    assert words in fault.message


def test_an_object_store_that_is_not_there_is_named(stack: Stack) -> None:
    processes.stop(stack.folder, "object-store")
    found = faults(examined(stack))
    assert [fault.check for fault in found] == ["landing", "lake data"], found
    assert all("Could not connect to the endpoint URL" in fault.message for fault in found)


def test_without_workers_and_engine_the_doctor_still_knows_the_stack(stack: Stack) -> None:
    for name in ("prefork-engine", "worker-1", "worker-2", "worker-3", "worker-4"):
        kill(stack, name)
    findings = examined(stack, {"scale": True})
    levels = {finding.check: finding.level for finding in findings}
    assert (levels["configuration"], levels["API"], levels["auth"], levels["databases"]) == ("ok",) * 4
    ended = {finding.message.split()[0] for finding in findings if finding.check == "processes"}
    assert ended == {"prefork-engine", "worker-1", "worker-2", "worker-3", "worker-4"}
