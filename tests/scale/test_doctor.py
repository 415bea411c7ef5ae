"""`python -m stack doctor` on the scale profile: what only several servers, a lake and an object store can have."""

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate

from stack import __main__ as command
from stack import env_files, local, processes
from stack.doctor import CHECKS, examine
from stack.doctor.findings import Finding
from stack.doctor.patient import find
from stack.doctor.server import inconsistent
from stack.profiles import Stack
from tests.integration.test_doctor import changed, faults, shell, the_fault


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres: str, redis_server: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("doctor")
    try:
        port = processes.free_port()
        yield local.start_stack(folder, profile="scale", api=None, port=port, schedules=False, say=print)
    finally:
        assert command.clean("scale", folder) == 0


def examined(stack: Stack, told: Mapping[str, Mapping[str, str]] | None = None, **variables: str) -> list[Finding]:
    """What the doctor says, with these variables changed and these processes told otherwise; and never a secret."""
    store = fsspec.get_filesystem_class("s3")
    store.clear_instance_cache()  # s3fs keeps what it has read from the environment.
    with shell():
        found = find(stack.folder, scale=True)
        os.environ.update(variables)
        findings = examine(replace(found, told={**found.told, **(told or {})}))
    store.clear_instance_cache()
    assert stack.environment["PREFECT_API_AUTH_STRING"].partition(":")[2] not in repr(findings)
    assert "canary" not in repr(findings)
    return findings


def test_nothing_is_wrong_and_every_check_has_looked_at_both_servers(stack: Stack) -> None:
    findings = examined(stack)
    assert faults(findings) == []
    assert [finding for finding in findings if finding.level == "skipped"] == []
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}
    said = {check: " ".join(f.message for f in findings if f.check == check) for check in ("settings", "auth", "clock")}
    for api in stack.apis:
        assert f"{api}: broker, cache, ordering, leases and docket are all in Redis" in said["settings"]
        assert f"{api} asks who comes, and accepts us" in said["auth"]
    assert "Postgres and this machine agree" in " ".join(f.message for f in findings)
    assert "Redis and this machine agree" in " ".join(f.message for f in findings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"active": False}, "is not active: two transforms may be at work on this source at once"),
        ({"limit": 2}, "is 2, expected 1"),
    ],
)
def test_a_turn_that_two_can_have_is_named(stack: Stack, changes: dict[str, Any], said: str) -> None:
    name = "transform:dummyjson.products"
    with local.client(stack) as api:
        api.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
        try:
            assert faults(examined(stack)) == []
            api.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(**changes))
            fault = the_fault(examined(stack))
        finally:
            api.delete_global_concurrency_limit_by_name(name)
    assert (fault.check, fault.level) == ("turns", "wrong")
    assert said in fault.message
    assert fault.mend.startswith(f"prefect gcl update {name} --")


def test_one_transform_at_a_time_for_all_sources_is_a_warning(stack: Stack) -> None:
    path = f"/work_pools/{local.POOL}/queues/warehouse"
    with local.client(stack) as api:
        api.request("PATCH", path, json={"concurrency_limit": 1})  # type: ignore[arg-type]
        try:
            fault = the_fault(examined(stack))
        finally:
            api.request("PATCH", path, json={"concurrency_limit": 4})  # type: ignore[arg-type]
    assert (fault.check, fault.level) == ("work queues", "warning")


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


def test_an_object_store_that_does_not_answer_is_two_lines(stack: Stack) -> None:
    closed = f"http://127.0.0.1:{processes.free_port()}"
    found = faults(examined(stack, AWS_ENDPOINT_URL=closed, AWS_SECRET_ACCESS_KEY="canary-of-the-store"))
    assert [fault.check for fault in found] == ["landing", "lake data"], found
    assert all(closed in fault.message for fault in found)


def test_a_catalog_that_does_not_answer_is_named_without_its_password(stack: Stack) -> None:
    url = f"postgresql://baton:canary@127.0.0.1:{processes.free_port()}/lake"
    found = faults(examined(stack, BATON_LAKE_CATALOG=url))
    assert [fault.check for fault in found] == ["databases", "warehouse"]
    assert "Postgres does not answer" in found[0].message
    assert "BATON_LAKE_CATALOG" in found[1].mend


def test_a_redis_that_does_not_answer_is_named_and_the_services_are_not_guessed_at(stack: Stack) -> None:
    server = env_files.read(stack.folder / "server.env")
    gone = server | {"PREFECT_REDIS_MESSAGING_URL": f"redis://:canary@127.0.0.1:{processes.free_port()}/1"}
    findings = examined(stack, dict.fromkeys(("server-1", "server-2", "services"), gone))
    fault = the_fault([finding for finding in findings if finding.check == "databases"])
    assert "Redis does not answer" in fault.message
    assert [finding.level for finding in findings if finding.check == "services"] == ["skipped"]


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
    fault = the_fault(examined(stack, {"server-2": told}))
    assert (fault.check, fault.level) == ("one stack", "wrong")
    assert f"server-2 has another {name} than server-1" in fault.message


def test_credentials_are_wanted_by_both_servers(stack: Stack) -> None:
    found = [f for f in examined(stack, PREFECT_API_AUTH_STRING="baton:guessed-canary") if f.check == "auth"]
    assert [fault.level for fault in found] == ["wrong", "wrong"]
    assert all("does not accept the credentials" in fault.message for fault in found)


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


def kill(stack: Stack, *names: str) -> None:
    for name in names:
        os.killpg(processes.running(stack.folder)[name], signal.SIGKILL)


def test_without_workers_and_engine_the_doctor_still_knows_the_stack(stack: Stack) -> None:
    kill(stack, "prefork-engine", *(f"worker-{number}" for number in (1, 2, 3, 4)))
    findings = examined(stack)
    levels = {finding.check: finding.level for finding in findings}
    assert (levels["configuration"], levels["API"], levels["landing"], levels["warehouse"]) == ("ok",) * 4
    ended = {finding.message.split()[0] for finding in findings if finding.check == "processes"}
    assert ended == {"prefork-engine", "worker-1", "worker-2", "worker-3", "worker-4"}


def test_services_that_were_killed_are_named(stack: Stack) -> None:
    kill(stack, "services")
    found: list[Finding] = []

    def noticed() -> bool:
        found[:] = [finding for finding in examined(stack) if finding.check == "services"]
        return found[0].level == "wrong"

    processes.wait_until(noticed, "the doctor to miss the services", 20, every=1)
    (fault,) = found
    assert fault.message == "no services process reads the events: no automation fires"
    assert fault.mend.startswith("prefect server services start")


def test_one_of_two_servers_that_was_killed_is_named(stack: Stack) -> None:
    kill(stack, "server-2")
    findings = examined(stack, PREFECT_API_URL=stack.apis[0])
    ended = [f.message for f in findings if f.check == "processes" and f.message.startswith("server-2 has ended")]
    assert ended == [f"server-2 has ended; see {Path(stack.folder, 'server-2.log')}"]
