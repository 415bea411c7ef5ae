"""`python -m stack doctor` on the scale profile: its own lines, each by breaking that thing."""

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from stack import __main__ as command
from stack import env_files, local, processes
from stack.doctor import CHECKS
from stack.doctor.patient import find
from stack.doctor.server import inconsistent
from stack.profiles import Stack
from stack.scale import profile
from tests.examined import changed, examined, faults, shell, the_fault
from tests.scale.conftest import execute
from tests.scale.test_profile import start


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres: str, redis_url: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("doctor")
    try:
        yield start(folder)
    finally:
        assert command.clean("scale", folder) == 0


def kill(stack: Stack, name: str) -> None:
    os.killpg(processes.running(stack.folder)[name], signal.SIGKILL)
    processes.wait_until(lambda: name not in processes.running(stack.folder), f"{name} to end", 10)


def test_nothing_is_wrong_with_a_new_stack_and_every_check_has_looked(stack: Stack) -> None:
    findings = examined(stack)
    assert faults(findings) == []
    assert [finding for finding in findings if finding.level == "skipped"] == []
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}
    said = "\n".join(finding.message for finding in findings)
    for api in stack.apis:
        assert f"{api} asks who comes, and accepts us" in said
        assert f"{api}: broker, cache, ordering, leases and docket are all in Redis" in said
    assert "a services process is at work" in said
    assert "s3://baton/landing can be read and written" in said
    assert "the lake s3://baton/lake can be opened" in said
    for name in ("Postgres", "Redis"):
        assert f"{name} answers" in said
        assert f"{name} and this machine agree" in said


def test_the_command_needs_not_be_told_which_profile_it_is(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    with shell():
        code = command.doctor("one-machine", True, stack.folder)
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
    profile.start_services(stack)
    assert found["no services process has been at work for 10 s: no automation fires"] == "services"
    assert any(message.startswith("services has ended") for message in found)


def test_one_of_the_api_servers_that_was_killed_is_named(stack: Stack) -> None:
    kill(stack, "server-2")
    findings = examined(stack)
    profile.start_api_server(stack, 2)
    found = [fault.message for fault in faults(findings) if fault.check == "other APIs"]
    assert [message.partition(" ")[0] for message in found] == [stack.apis[1]]
    assert "cannot be reached" in found[0]
    # The server that is left is examined all the same, and nothing is wrong with it.
    examined_there = ("auth", "settings", "deployments")
    assert {finding.check for finding in findings if finding.level == "ok"} >= {"auth", "settings"}
    assert [fault for fault in faults(findings) if fault.check in examined_there] == []


def test_who_does_not_know_the_auth_string_is_told_so_for_each_server(stack: Stack) -> None:
    found = faults(examined(stack, PREFECT_API_AUTH_STRING="baton:wrong-guess"))
    assert [fault.check for fault in found if fault.check == "auth"] == ["auth", "auth"]
    assert "wrong-guess" not in repr(found)


def test_a_queue_that_makes_the_sources_wait_for_each_other_is_a_warning(stack: Stack) -> None:
    with local.client(stack) as api:
        path = f"/work_pools/{local.POOL}/queues/warehouse"
        api.request("PATCH", path, json={"concurrency_limit": 1})  # type: ignore[arg-type]
        try:
            fault = the_fault(examined(stack))
        finally:
            api.request("PATCH", path, json={"concurrency_limit": 4})  # type: ignore[arg-type]
    assert (fault.check, fault.level) == ("work queues", "warning")
    assert "side by side" in fault.message


def test_a_catalog_that_is_not_there_is_named_without_its_password(stack: Stack) -> None:
    url = f"postgresql://root:canary-of-the-lake@127.0.0.1:{processes.free_port()}/nothing"
    findings = examined(stack, BATON_LAKE_CATALOG=url)
    assert {fault.check for fault in faults(findings)} == {"databases", "warehouse"}
    assert "canary-of-the-lake" not in repr(findings)


def test_a_redis_that_is_not_there_is_named_without_its_password(stack: Stack) -> None:
    with shell():
        told = {name: dict(variables) for name, variables in find(stack.folder, scale=True).told.items()}
    url = f"redis://:canary-of-redis@127.0.0.1:{processes.free_port()}/0"
    for name in ("server-1", "server-2"):
        told[name]["PREFECT_REDIS_MESSAGING_URL"] = url
    findings = examined(stack, {"told": told})
    assert {fault.check for fault in faults(findings)} == {"databases", "one stack"}
    assert [finding.level for finding in findings if finding.check == "services"] == ["skipped"]
    assert "canary-of-redis" not in repr(findings)


def test_a_turn_that_two_can_have_is_named(stack: Stack) -> None:
    catalog, _ = stack.settings.lake
    database = catalog.rpartition("/")[2]
    # A Postgres that says yes to everybody, as one behind a pooler does that gives two sessions one connection.
    function = "create function broken.pg_try_advisory_lock(bigint) returns boolean language sql as 'select true'"
    try:
        execute("create schema broken", catalog)
        execute(function, catalog)
        execute(f'alter database "{database}" set search_path = broken, pg_catalog, public', catalog)
        fault = the_fault(examined(stack))
    finally:
        execute(f'alter database "{database}" reset search_path', catalog)
        execute("drop schema if exists broken cascade", catalog)
    assert (fault.check, fault.level) == ("turns", "wrong")
    assert "gives one lock to two sessions" in fault.message
    assert "session mode" in fault.mend


def test_a_bucket_that_is_not_there_is_named(stack: Stack) -> None:
    fault = the_fault(examined(stack, BATON_LANDING_ROOT="s3://nobodys/landing"))
    assert fault.check == "landing"
    assert "s3://nobodys/landing" in fault.message
    assert "BATON_LANDING_ROOT" in fault.mend


def test_a_place_for_the_lakes_files_that_cannot_be_written_is_named(stack: Stack) -> None:
    findings = examined(stack, BATON_LAKE_DATA="s3://nobodys/lake")
    fault = the_fault(findings)
    assert fault.check == "lake data"
    assert "BATON_LAKE_DATA" in fault.mend
    assert {finding.check for finding in findings if finding.level == "skipped"} == {"warehouse", "ledger"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://:canary@127.0.0.1/other"),
        ("PREFECT_REDIS_MESSAGING_URL", "redis://:canary@127.0.0.1/9"),
        ("PREFECT_SERVER_API_AUTH_STRING", "baton:canary-of-another"),
    ],
)
def test_a_server_that_belongs_to_another_stack_is_named(stack: Stack, name: str, value: str) -> None:
    told = env_files.read(stack.folder / "server.env") | {name: value, "PREFECT_API_URL": stack.apis[1]}
    with shell():
        others = find(stack.folder, scale=True).told
    fault = the_fault(examined(stack, {"told": {**others, "server-2": told}}))
    assert (fault.check, fault.level) == ("one stack", "wrong")
    assert f"server-2 has another {name} than server-1" in fault.message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("events__messaging_broker", "prefect.server.utilities.messaging.memory", "reach no other process"),
        ("events__messaging_cache", "prefect.server.utilities.messaging.memory", "counts twice"),
        ("events__causal_ordering", "prefect.server.events.ordering.memory", "in vain for 15 minutes"),
        ("concurrency__lease_storage", "prefect.server.concurrency.lease_storage.memory", "unknown to the others"),
        ("docket__url", "memory://", "each services process does the work of all"),
    ],
)
def test_each_trap_is_named_in_what_a_real_server_of_this_profile_says(
    stack: Stack, path: str, value: str, said: str
) -> None:
    user, _, password = stack.environment["PREFECT_API_AUTH_STRING"].partition(":")
    settings = httpx.get(f"{stack.apis[1]}/admin/settings", auth=(user, password)).json()["server"]
    told = env_files.read(stack.folder / "server.env")
    assert list(inconsistent(settings, told, True)) == []
    (fault,) = inconsistent(changed(settings, **{path: value}), told, True)
    assert fault.level == "wrong"
    assert said in fault.message


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
