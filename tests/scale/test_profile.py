"""The scale profile on real processes: addresses, credentials, environments, and what stays behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, Resource

from stack import cli, demo
from stack.doctor.target import environment_of
from stack.local import env_files, processes, stores, up
from stack.local.profiles import Stack
from tests.scale.test_stores import databases_of

PROCESSES = {"server-1", "server-2", "services", "worker-1", "worker-2", "worker-3", "worker-4", "sample-api"}


def start(folder: Path) -> Stack:
    port = processes.free_port()
    return up.start_stack(folder, profile="scale", api=None, port=port, schedules=False, say=print)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres: str, redis_url: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("scale")
    try:
        yield start(folder)
    finally:
        cli.clean(profile="scale", folder=folder)


def addresses_listened_on(pid: int) -> set[str]:
    """The local addresses, as the kernel writes them, of the sockets that a process listens on."""
    open_files = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local_address, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in open_files:
                found.add(local_address.split(":")[0])
    return found


def auth_of(stack: Stack) -> tuple[str, str]:
    user, _, password = stack.environment["PREFECT_API_AUTH_STRING"].partition(":")
    return user, password


def test_it_has_two_servers_one_services_process_and_four_workers(stack: Stack) -> None:
    assert processes.running(stack.folder).keys() >= PROCESSES
    with up.client(stack) as api:
        workers = api.read_workers_for_work_pool(up.POOL)
        queues = {queue.name: queue.concurrency_limit for queue in api.read_work_queues(work_pool_name=up.POOL)}
    assert {worker.name for worker in workers} == {f"worker-{number}" for number in (1, 2, 3, 4)}
    assert (queues["extract"], queues["warehouse"]) == (None, 4)


def test_the_services_process_is_known_by_its_heartbeat(stack: Stack) -> None:
    redis_url = env_files.read(stack.folder / "server.env")["PREFECT_REDIS_MESSAGING_URL"]
    pid = processes.running(stack.folder)["services"]
    assert {name.rpartition("#")[2] for name in stores.services_processes(redis_url)} == {str(pid)}


def test_the_workers_are_spread_over_the_servers(stack: Stack) -> None:
    pids = processes.running(stack.folder)
    servers = [environment_of(pids[f"worker-{number}"])["PREFECT_API_URL"] for number in (1, 2, 3, 4)]
    first, second = stack.apis
    assert servers == [first, first, second, second]


def test_no_request_is_accepted_without_the_auth_string(stack: Stack) -> None:
    user, password = auth_of(stack)
    for api in stack.apis:
        statuses = [
            httpx.post(f"{api}/flows/filter", json={}, auth=auth).status_code
            for auth in (None, (user, "wrong"), (user, password))
        ]
        assert statuses == [401, 401, 200]


def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    listening = {name: addresses_listened_on(pid) for name, pid in processes.running(stack.folder).items()}
    assert all(listening[name] for name in ("server-1", "server-2", "sample-api"))
    loopback = {"0100007F", "00000000000000000000000001000000"}
    assert {name: addresses - loopback for name, addresses in listening.items() if addresses - loopback} == {}


def test_the_servers_keep_nothing_in_memory(stack: Stack) -> None:
    for api in stack.apis:
        server = httpx.get(f"{api}/admin/settings", auth=auth_of(stack)).json()["server"]
        assert server["events"]["messaging_broker"] == "prefect_redis.messaging"
        assert server["events"]["messaging_cache"] == "prefect_redis.messaging"
        assert server["events"]["causal_ordering"] == "prefect_redis.ordering"
        assert server["concurrency"]["lease_storage"] == "prefect_redis.lease_storage"
        assert server["docket"]["url"].startswith("redis://")
        assert server["database"]["migrate_on_start"] is False


def test_servers_and_flows_have_no_variables_of_each_other(stack: Stack) -> None:
    pids = processes.running(stack.folder)
    for name in ("server-1", "server-2", "services"):
        assert [key for key in environment_of(pids[name]) if key.startswith(("BATON_", "AWS_"))] == []
    for name in ("worker-1", "worker-4", "prefork-engine"):
        environment = environment_of(pids[name])
        assert environment["BATON_TARGET"] == "lake"
        assert [
            key for key in environment if key.startswith(("PREFECT_SERVER_DATABASE", "PREFECT_SERVER_API_AUTH"))
        ] == []
        assert environment.keys().isdisjoint({"BATON_POSTGRES_URL", "BATON_REDIS_URL", "PREFECT_REDIS_MESSAGING_URL"})


def test_the_auth_string_is_in_no_log_and_in_no_command_line(stack: Stack) -> None:
    _, secret = auth_of(stack)
    logs = {log: log.read_text(errors="replace") for log in stack.folder.glob("*.log")}
    assert len(logs) >= len(PROCESSES)
    assert [log for log, text in logs.items() if secret in text] == []
    for name, pid in processes.running(stack.folder).items():
        assert secret not in Path(f"/proc/{pid}/cmdline").read_text(), name


@pytest.mark.parametrize("number", [1, 2])
def test_an_event_at_either_server_starts_one_transform(stack: Stack, number: int) -> None:
    known = {run.id for run in demo.runs_of(stack, "transform")}
    event = Event(
        event="extract.finished",
        resource=Resource({"prefect.resource.id": "dummyjson.products", "handoff": "event"}),
        payload={"source": "dummyjson.products", "batch_id": "20261124T120000Z-000000000001"},
    )
    body = [event.model_dump(mode="json")]
    with httpx.Client(base_url=stack.apis[number - 1], auth=auth_of(stack)) as server:
        # Sent to both servers, it is still one event.
        assert server.post("/events", json=body).status_code == 204
        other = stack.apis[number % 2]
        assert httpx.post(f"{other}/events", json=body, auth=auth_of(stack)).status_code == 204

    def started() -> list[FlowRun]:
        return [run for run in demo.runs_of(stack, "transform") if run.id not in known]

    processes.wait_until(
        lambda: bool(started()) and all(run.state and run.state.is_final() for run in started()),
        "a transform to end",
        60,
    )
    (run,) = started()
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    assert run.parameters["event_id"] == str(event.id)


def test_a_restarted_stack_keeps_what_it_had_and_a_cleaned_one_has_nothing(
    stack: Stack, postgres: str, redis_url: str
) -> None:
    folder, owner = stack.folder, stores.stack_id(stack.folder)
    with up.client(stack) as api:
        before = {deployment.id for deployment in api.read_deployments()}
    kept = env_files.read(folder / "server.env")
    cli.down(folder=folder)
    assert processes.running(folder) == {}
    assert len(databases_of(postgres, f"baton_{owner}_%")) == 2

    again = start(folder)
    with up.client(again) as api:
        assert {deployment.id for deployment in api.read_deployments()} == before
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "BATON_REDIS_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        assert env_files.read(folder / "server.env")[name] == kept[name]

    # `make clean` finds out the profile by itself.
    cli.clean(folder=folder)
    assert databases_of(postgres, f"baton_{owner}_%") == set()
    with redis.Redis.from_url(kept["BATON_REDIS_URL"]) as database:
        assert database.dbsize() == 0
    assert not folder.exists()
