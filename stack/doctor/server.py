"""Checks of the API servers: reachable, protected, one version, one clock, settings that fit together."""

import email.utils
import ipaddress
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import prefect
from packaging.version import Version
from pydantic import TypeAdapter

from automations.prefect_automations.server import OLDEST_SERVER
from stack.doctor.findings import Finding
from stack.doctor.target import Target, why_unreachable

SKEW_SECONDS = 5.0
"""A tenth of what heartbeats and leases tolerate."""
SILENT_SECONDS = 10.0
"""A docket worker sends a heartbeat every two seconds, and the docket takes it for dead after five are missing."""
SERVICES = ("triggers", "event_persister", "scheduler")


def configuration(target: Target) -> Iterator[Finding]:
    """The variables can be read, and one of them names a server."""
    name = "configuration"
    try:
        lake = target.baton.on_lake and target.baton.lake
    except ValueError as error:
        fix = "correct the BATON_ variables, see docs/configuration.md"
        yield Finding(name, "error", " ".join(str(error).split()), fix)
        return
    if target.api:
        yield Finding(name, "ok", f"server {target.api}, warehouse {lake[1] if lake else target.baton.warehouse}")
    else:
        yield Finding(name, "error", "no server is named", "set PREFECT_API_URL, or start one: make up")


def reachable(target: Target) -> Iterator[Finding]:
    """The API server of PREFECT_API_URL answers."""
    if reason := why_unreachable(target, target.api):
        yield Finding("API", "error", reason, "start it: make up; or correct PREFECT_API_URL, which ends in /api")
    else:
        yield Finding("API", "ok", f"{target.api} answers")


def others_reachable(target: Target) -> Iterator[Finding]:
    """The stack's other API servers answer."""
    name, others = "other APIs", [api for api in target.apis if api != target.api]
    for api in others:
        if reason := why_unreachable(target, api):
            yield Finding(name, "error", f"{reason}; its workers start no runs", "make down, then make up")
        else:
            yield Finding(name, "ok", f"{api} answers")
    if not others:
        yield Finding(name, "ok", "none known on this machine")


def auth(target: Target) -> Iterator[Finding]:
    """Every server accepts our credentials and refuses clients without any, unless it listens on loopback only."""
    for api in target.answering:
        status = target.get("/admin/version", api).status_code
        if status in (401, 403):
            given = "the credentials" if target.prefect.api.auth_string or target.prefect.api.key else "no credentials"
            fix = "set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING (Cloud: PREFECT_API_KEY)"
            yield Finding("auth", "error", f"{api} does not accept {given} of this environment ({status})", fix)
        elif target.get("/admin/version", api, identified=False).status_code != 200:
            yield Finding("auth", "ok", f"{api} requires credentials and accepts ours")
        elif target.scale or not is_loopback(api):
            fix = "set PREFECT_SERVER_API_AUTH_STRING=user:password at the server, PREFECT_API_AUTH_STRING at clients"
            yield Finding("auth", "error" if target.scale else "warning", f"{api} requires no credentials", fix)
        else:
            yield Finding("auth", "ok", f"{api} requires no credentials, and listens on loopback only")


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def version(target: Target) -> Iterator[Finding]:
    """Servers and client have the same version."""
    ours = Version(prefect.__version__)
    for api in target.answering:
        answer = target.get("/admin/version", api)
        if answer.status_code == 404:
            yield Finding("version", "ok", f"{api} has no version to compare, as Prefect Cloud")
            continue
        theirs = Version(answer.json())
        versions = f"{api} is Prefect {theirs}, the client is {ours}"
        fix = f"pip install -c constraints.txt prefect=={ours} at the server"
        if theirs == ours:
            yield Finding("version", "ok", versions)
        elif theirs < OLDEST_SERVER or theirs.release[:2] < ours.release[:2]:
            yield Finding("version", "error", f"{versions}; {OLDEST_SERVER} is the oldest tested", fix)
        else:
            yield Finding("version", "warning", f"{versions}; only equal versions are tested", fix)


def clock(target: Target) -> Iterator[Finding]:
    """The servers' clocks agree with this machine's."""
    for api in target.answering:
        before = time.time()
        date = target.get("/health", api, identified=False).headers.get("Date")
        if date is None:
            yield Finding("clock", "warning", f"{api} sends no Date header")
        else:
            # The header has whole seconds; half of one is the best guess.
            theirs = email.utils.parsedate_to_datetime(date).timestamp() + 0.5
            yield skew(f"the server {api}", theirs - (before + time.time()) / 2)


def skew(whose: str, seconds: float) -> Finding:
    """The finding for a clock that is so many seconds ahead of this machine's."""
    if abs(seconds) <= SKEW_SECONDS:
        return Finding("clock", "ok", f"{whose} and this machine agree within {max(abs(seconds), 1):.0f} s")
    ahead = "ahead of" if seconds > 0 else "behind"
    fix = "switch on time synchronisation on both machines (timedatectl set-ntp true)"
    return Finding("clock", "error", f"{whose} is {abs(seconds):.0f} s {ahead} this machine", fix)


def settings(target: Target) -> Iterator[Finding]:
    """The settings of each server fit together."""
    for api in target.answering:
        answer = target.get("/admin/settings", api)
        if answer.status_code != 200:
            yield Finding("settings", "skipped", f"{api} does not show its settings ({answer.status_code})")
            continue
        findings = list(inconsistent(answer.json()["server"], target.server_environment, target.scale))
        yield from findings or [Finding("settings", "ok", f"{api}: {kept_in(answer.json()['server'])}")]


def places(server: Mapping[str, Any]) -> dict[str, str]:
    """Variable -> `redis` or `memory`: where a server keeps what several servers have to share."""
    values = {
        "PREFECT_MESSAGING_BROKER": server["events"]["messaging_broker"],
        "PREFECT_MESSAGING_CACHE": server["events"]["messaging_cache"],
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": server["events"]["causal_ordering"],
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": server["concurrency"]["lease_storage"],
        "PREFECT_SERVER_DOCKET_URL": server["docket"]["url"],
    }
    return {name: "redis" if "redis" in value.partition("@")[0].lower() else "memory" for name, value in values.items()}


def kept_in(server: Mapping[str, Any]) -> str:
    """The one place where a server keeps all of it."""
    (place,) = set(places(server).values())
    return f"broker, cache, ordering, leases and docket are all in {'Redis' if place == 'redis' else 'memory'}"


REDIS = {
    "PREFECT_MESSAGING_BROKER": ("prefect_redis.messaging", "events that one server receives reach no other process"),
    "PREFECT_MESSAGING_CACHE": ("prefect_redis.messaging", "an event sent to two servers counts twice"),
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": (
        "prefect_redis.ordering",
        "an event that follows another is held back for 15 minutes",
    ),
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect_redis.lease_storage",
        "the other servers do not know the slots taken at one, and a restart loses them",
    ),
    "PREFECT_SERVER_DOCKET_URL": ("the URL of Redis", "every services process repeats the work of the others"),
}
"""Variable -> its value where several servers run, and what happens if it is in memory."""


def inconsistent(server: Mapping[str, Any], environment: Mapping[str, str], scale: bool) -> Iterator[Finding]:
    """Each conflict in a server's settings (`GET /admin/settings`) and environment (empty if unknown)."""
    kept = places(server)
    if scale or "redis" in kept.values():
        for name, place in kept.items():
            if place == "memory":
                value, effect = REDIS[name]
                yield Finding("settings", "error", f"{name} is in memory: {effect}", f"{name}={value} at every server")
        if environment and environment.get("PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE") != "1":
            setting = "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE"
            effect = "a single event over the websocket waits up to 10 s for four more"
            yield Finding("settings", "warning", f"{setting} is not 1: {effect}", f"{setting}=1 at every server")
    database = environment.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", "")
    if scale and environment and "postgresql" not in database:
        fix = "PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://... at every server"
        yield Finding("settings", "error", "several servers use SQLite, which has one writer", fix)
    if scale and server["database"]["migrate_on_start"]:
        name = "PREFECT_API_DATABASE_MIGRATE_ON_START"
        fix = f"{name}=false, and run `prefect server database upgrade -y` once before the servers start"
        yield Finding("settings", "warning", f"{name} is on: servers that start together migrate together", fix)
    for service in SERVICES:
        if not server["services"][service]["enabled"]:
            name = f"PREFECT_SERVER_SERVICES_{service.upper()}_ENABLED"
            yield Finding("settings", "error", f"{name} is false: no automation or schedule works", f"unset {name}")


LARGEST_DATABASE = 2_000_000_000
"""Bytes of a SQLite database, from which on the server's own queries take a second and more."""
LARGEST_LOG = 100_000_000
"""Bytes; `make up` rotates a log long before."""
LONGEST_RETENTION = timedelta(days=30)
"""Of events, most of which are heartbeats. Prefect keeps them for seven days."""


def limits(target: Target) -> Iterator[Finding]:
    """The server's database, its events and the stack's logs do not grow without end."""
    findings = [*database_size(target), *event_retention(target), *log_sizes(target.folder)]
    yield from findings or [Finding("server limits", "ok", "database, retention of events and logs are small")]


def database_size(target: Target) -> Iterator[Finding]:
    """A warning for a SQLite database, on this machine, that has grown large."""
    environment = target.server_environment
    if "PREFECT_HOME" not in environment or environment.get("PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        return
    database = Path(environment["PREFECT_HOME"], "prefect.db")
    size = database.stat().st_size if database.exists() else 0
    if size > LARGEST_DATABASE:
        message = f"{database} has {size / 1e9:.1f} GB, and SQLite has one writer: the server becomes slow"
        fix = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs at the server removes old runs, too"
        yield Finding("server limits", "warning", message, f"{fix}; or use Postgres, docs/scale.md")


def event_retention(target: Target) -> Iterator[Finding]:
    """A warning for each server that keeps events, and so heartbeats, for very long."""
    for api in target.answering:
        answer = target.get("/admin/settings", api)
        if answer.status_code != 200:
            continue
        kept = TypeAdapter(timedelta).validate_python(answer.json()["server"]["events"]["retention_period"])
        if kept > LONGEST_RETENTION:
            name = "PREFECT_SERVER_EVENTS_RETENTION_PERIOD"
            message = f"{api} keeps events for {kept.days} days, and each running flow sends one every 30 s"
            yield Finding("server limits", "warning", message, f"{name}=7d at the server")


def log_sizes(folder: Path) -> Iterator[Finding]:
    """A warning for each log that nobody rotates."""
    for log in sorted(folder.glob("*.log")):
        size = log.stat().st_size
        if size > LARGEST_LOG:
            message = f"{log} has {size / 1e6:.0f} MB and is not rotated"
            yield Finding("server limits", "warning", message, "make down, then make up, which starts the rotation")


SHARED = (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_SERVER_DOCKET_URL",
    "PREFECT_SERVER_API_AUTH_STRING",
)
"""The variables that several processes share to be one server; no API shows them."""


def same_environment(target: Target) -> Iterator[Finding]:
    """The servers and services processes on this machine share one database, one Redis and one auth string."""
    name = "one stack"
    found = {n: values for n, values in target.environments.items() if n.startswith(("server", "services"))}
    if len(found) < 2:
        yield Finding(name, "ok", "one server, as far as this machine shows")
        return
    (first, reference), *others = found.items()
    differing = [(o, v) for o, values in others for v in SHARED if values.get(v) != reference.get(v)]
    for other, variable in differing:
        message = f"{other} has another {variable} than {first}: they do not see each other's work"
        yield Finding(name, "error", message, "use one env file (stack/deploy/server.env) for all, then restart them")
    if not differing:
        yield Finding(name, "ok", f"{', '.join(found)} have the same settings")


def services(target: Target) -> Iterator[Finding]:
    """Triggers, scheduler and the other services run, in the API servers or in a process of their own."""
    name = "services"
    bare = [process for process, words in target.commands.items() if "--no-services" in words]
    if not (bare or target.scale):
        yield Finding(name, "ok", "the API servers run them, as far as this machine shows")
        return
    server = target.get("/admin/settings").raise_for_status().json()["server"]
    if "redis" not in places(server)["PREFECT_MESSAGING_BROKER"]:
        message = f"{', '.join(bare) or 'API servers'} run --no-services with the broker in memory: no automation fires"
        yield Finding(name, "error", message, "start it without --no-services, or put the broker into Redis")
        return
    url = target.server_environment.get("PREFECT_SERVER_DOCKET_URL", "")
    if not url.startswith("redis"):
        yield Finding(name, "skipped", "not checked: the docket is not in Redis, as far as this machine shows")
    elif has_heartbeat(url):
        yield Finding(name, "ok", "a services process runs")
    else:
        message = f"no services process sent a heartbeat for {SILENT_SECONDS:.0f} s: no automation fires"
        yield Finding(name, "error", message, "prefect server services start, with the servers' settings")


def has_heartbeat(docket_url: str) -> bool:
    """Whether a services process sent a heartbeat lately. Its docket is named `prefect`, whatever the settings say.

    The consumers of the event stream do not show it: before version 7.2, Redis knows only when each last got an event.
    """
    from redis import Redis  # Of the scale profile's packages.

    with Redis.from_url(docket_url, socket_timeout=5) as database:
        heartbeats = database.zrange("prefect:workers", 0, -1, withscores=True)
    return any(time.time() - at < SILENT_SECONDS for _, at in heartbeats)
