"""`python -m stack doctor` on the scale profile: its own lines, each by breaking that thing."""

import os
import signal
from collections.abc import Iterator

import pytest
from prefect.client.schemas.actions import WorkQueueUpdate

from stack import __main__ as command
from stack import local, processes
from stack.doctor import CHECKS
from stack.doctor.patient import find
from stack.profiles import Stack
from stack.scale import profile
from tests.examined import examined, faults, shell, the_fault
from tests.scale.test_profile import start


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres: str, redis_server: str) -> Iterator[Stack]:
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
    assert "a services process reads the events" in said
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
    assert found["no services process reads the events: no automation fires"] == "services"
    assert any(message.startswith("services has ended") for message in found)


def test_one_of_the_api_servers_that_was_killed_is_named(stack: Stack) -> None:
    kill(stack, "server-2")
    found = [fault.message for fault in faults(examined(stack)) if fault.check == "API"]
    profile.start_api_server(stack, 2)
    assert [message.partition(" ")[0] for message in found] == [stack.apis[1]]
    assert "cannot be reached" in found[0]


def test_who_does_not_know_the_auth_string_is_told_so_for_each_server(stack: Stack) -> None:
    found = faults(examined(stack, PREFECT_API_AUTH_STRING="baton:wrong-guess"))
    assert [fault.check for fault in found if fault.check == "auth"] == ["auth", "auth"]
    assert "wrong-guess" not in repr(found)


def test_a_queue_that_makes_the_sources_wait_for_each_other_is_a_warning(stack: Stack) -> None:
    with local.client(stack) as api:
        queue = api.read_work_queue_by_name("warehouse", local.POOL)
        api.update_work_queue(queue.id, WorkQueueUpdate(concurrency_limit=1))
        try:
            fault = the_fault(examined(stack))
        finally:
            api.update_work_queue(queue.id, WorkQueueUpdate(concurrency_limit=queue.concurrency_limit))
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
    assert {fault.check for fault in faults(findings)} == {"databases", "services"}
    assert "canary-of-redis" not in repr(findings)


def test_an_object_store_that_is_not_there_is_named(stack: Stack) -> None:
    processes.stop(stack.folder, "object-store")
    assert "landing" in {fault.check for fault in faults(examined(stack))}
