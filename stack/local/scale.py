"""The profile for several machines: its processes, its databases, its settings.

Two API servers without background services and one services process. The stack has its own databases in an existing
Postgres and Redis, and an existing object store or one that it starts. Half of the workers use each server, so no load
balancer is needed.
"""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from flows.settings import PROJECT
from stack.local import env_files, processes, stores
from stack.local.object_store import start_object_store
from stack.local.processes import StackError, answers, free_port
from stack.local.profiles import Profile, Say, Stack

HERE = PROJECT / "stack" / "deploy"
DEFAULTS = {
    "BATON_POSTGRES_URL": "postgresql://root@127.0.0.1:5432/postgres",
    "BATON_REDIS_URL": "redis://127.0.0.1:6379/0",
}
"""Postgres and Redis, with a user who may create databases; for this module only, never for a flow."""
OBJECT_STORE = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


def start(folder: Path, environment: Mapping[str, str], port: int, say: Say) -> Stack:
    """Makes or finds the databases, migrates, and starts the servers and the services process.

    Leaves two files in the folder, readable by their owner only: `stack.env` is the environment of workers and tools,
    `server.env` that of the servers, with the addresses of the databases.
    """
    kept = env_files.read(folder / "server.env")
    postgres, redis = (environment.get(name) or kept.get(name) or default for name, default in DEFAULTS.items())
    owner = stores.stack_id(folder)
    databases = database_names(owner)
    stores.make_databases(postgres, databases)
    say(f"Postgres        {stores.without_password(postgres)}: {', '.join(databases)}")
    redis = stores.claim_redis(redis, owner)
    say(f"Redis           {stores.without_password(redis)}")

    ports = (port, free_port())
    apis = tuple(f"http://127.0.0.1:{port}/api" for port in ports)
    values = {
        "PREFECT_API_URL": apis[0],
        "PREFECT_API_AUTH_STRING": kept.get("PREFECT_SERVER_API_AUTH_STRING") or f"baton:{secrets.token_urlsafe(24)}",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": stores.for_prefect(stores.with_path(postgres, databases[0])),
        "PREFECT_REDIS_MESSAGING_URL": redis,
        "BATON_LAKE_CATALOG": stores.with_path(postgres, databases[1]),
        "BATON_EXPORTS": environment.get("BATON_EXPORTS") or str(folder / "exports"),
        **object_store(folder, environment),
    }
    Path(values["BATON_EXPORTS"]).mkdir(parents=True, exist_ok=True)
    say(f"object store    {values['BATON_LANDING_ROOT']} and {values['BATON_LAKE_DATA']}")
    for_servers = env_files.read_template(HERE / "server.env", values)
    sample = {name: environment[name] for name in (env_files.SAMPLE_SECRET,) if name in environment}
    for_clients = env_files.read_template(HERE / "client.env", values) | sample
    env_files.write(folder / "server.env", {"BATON_POSTGRES_URL": postgres, "BATON_REDIS_URL": redis, **for_servers})
    env_files.write(folder / "stack.env", for_clients)
    inherited = {name: value for name, value in environment.items() if name not in DEFAULTS}
    stack = Stack(folder, SCALE, apis, {**inherited, **for_clients})

    processes.run(server_environment(stack), "prefect", "server", "database", "upgrade", "-y")
    for number, api in enumerate(apis, 1):
        start_api_server(stack, number)
        say(f"Prefect server  {api.removesuffix('/api')}")
    start_services(stack)
    say("services        Prefect's triggers, actions, scheduler and others")
    return stack


def start_api_server(stack: Stack, number: int) -> None:
    """Starts one of the API servers, without background services."""
    api = stack.apis[number - 1]
    port = api.rpartition(":")[2].removesuffix("/api")
    options = ["--no-services", "--host", "127.0.0.1", "--port", port]
    command = [sys.executable, "-m", "prefect", "server", "start", *options]
    environment = {**server_environment(stack), "PREFECT_API_URL": api}
    processes.start(f"server-{number}", command, stack.folder, environment, ready=lambda: answers(f"{api}/health"))


def start_services(stack: Stack) -> None:
    """Starts the services process and waits for its first heartbeat; a killed one stays listed for a while."""
    environment = server_environment(stack)
    redis = environment["PREFECT_REDIS_MESSAGING_URL"]
    known = stores.services_processes(redis)
    command = [sys.executable, "-m", "prefect", "server", "services", "start"]

    def has_heartbeat() -> bool:
        return bool(stores.services_processes(redis) - known)

    processes.start("services", command, stack.folder, environment, ready=has_heartbeat)


def server_environment(stack: Stack) -> dict[str, str]:
    """The environment of the servers and the services process, without the variables of landing and lake."""
    neutral = {name: value for name, value in stack.environment.items() if not name.startswith(("BATON_", "AWS_"))}
    own = {n: v for n, v in env_files.read(stack.folder / "server.env").items() if n not in DEFAULTS}
    return {**neutral, **own}


def object_store(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of landing and lake: those given, or of an object store that is started here."""
    if not environment.get("BATON_LANDING_ROOT"):
        return {
            "BATON_LANDING_ROOT": "s3://baton/landing",
            "BATON_LAKE_DATA": "s3://baton/lake",
            # The store that is started here is on loopback and checks no credentials.
            **dict(
                zip(OBJECT_STORE, (start_object_store(folder, environment), "baton", "baton", "us-east-1"), strict=True)
            ),
        }
    if not environment.get("BATON_LAKE_DATA"):
        raise StackError("BATON_LANDING_ROOT is set, so BATON_LAKE_DATA must say where the lake's data go")
    return {name: environment.get(name, "") for name in ("BATON_LANDING_ROOT", "BATON_LAKE_DATA", *OBJECT_STORE)}


def remove(folder: Path) -> list[str]:
    """Drops the stack's databases and empties its Redis database; an object store that was given keeps its content."""
    kept = env_files.read(folder / "server.env")
    postgres, redis = (os.environ.get(name) or kept.get(name) or default for name, default in DEFAULTS.items())
    owner = stores.stack_id(folder)
    return stores.drop_databases(postgres, database_names(owner)) + stores.release_redis(redis, owner)


def database_names(owner: str) -> tuple[str, str]:
    """Prefect's database and the lake's catalog."""
    return f"baton_{owner}_prefect", f"baton_{owner}_lake"


# Two workers a server, and as many transforms as workers: the lake's sources can be built side by side.
SCALE = Profile(workers=4, transforms=4, start=start, remove=remove)
