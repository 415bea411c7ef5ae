"""Is the server there, who is let in, do its parts fit together, is it of one time with everybody else."""

import email.utils
import ipaddress
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import prefect
from packaging.version import Version

from automations.plan import OLDEST_SERVER
from stack.doctor.findings import Finding
from stack.doctor.patient import Patient, why_not

SKEW_SECONDS = 5.0
"""A tenth of what heartbeats and leases allow for."""
SILENT_SECONDS = 10.0
"""Five of the beats that a worker of Prefect's docket sends; as long as the docket itself waits for one."""
SERVICES = ("triggers", "event_persister", "scheduler")


def configuration(patient: Patient) -> Iterator[Finding]:
    """What the environment says can be understood."""
    name = "configuration"
    try:
        lake = patient.baton.on_lake and patient.baton.lake
    except ValueError as error:
        yield Finding(name, "wrong", " ".join(str(error).split()), "correct the BATON_ variables, see README.md")
        return
    if patient.api:
        yield Finding(name, "ok", f"server {patient.api}, warehouse {lake[1] if lake else patient.baton.warehouse}")
    else:
        yield Finding(name, "wrong", "no server is named", "set PREFECT_API_URL, or start one: make up")


def reachable(patient: Patient) -> Iterator[Finding]:
    """The API server that we are told of answers."""
    if said := why_not(patient, patient.api):
        yield Finding("API", "wrong", said, "start it: make up; or correct PREFECT_API_URL, which ends in /api")
    else:
        yield Finding("API", "ok", f"{patient.api} answers")


def others_reachable(patient: Patient) -> Iterator[Finding]:
    """The other API servers of the stack answer, too."""
    name, others = "other APIs", [api for api in patient.apis if api != patient.api]
    for api in others:
        if said := why_not(patient, api):
            yield Finding(name, "wrong", f"{said}; the workers that use it take no runs", "make down, then make up")
        else:
            yield Finding(name, "ok", f"{api} answers")
    if not others:
        yield Finding(name, "ok", "none that can be seen from here")


def auth(patient: Patient) -> Iterator[Finding]:
    """We are let in, and not everybody is, unless nobody else can come."""
    for api in patient.answering:
        status = patient.get("/admin/version", api).status_code
        if status in (401, 403):
            given = (
                "the credentials" if patient.prefect.api.auth_string or patient.prefect.api.key else "no credentials"
            )
            mend = "set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING (Cloud: PREFECT_API_KEY)"
            yield Finding("auth", "wrong", f"{api} does not accept {given} of this environment ({status})", mend)
        elif patient.get("/admin/version", api, identified=False).status_code != 200:
            yield Finding("auth", "ok", f"{api} asks who comes, and accepts us")
        elif patient.scale or not is_loopback(api):
            mend = "set PREFECT_SERVER_API_AUTH_STRING=user:password at the server, PREFECT_API_AUTH_STRING at clients"
            yield Finding("auth", "wrong" if patient.scale else "warning", f"{api} lets everybody in", mend)
        else:
            yield Finding("auth", "ok", f"{api} is on loopback and lets everybody in")


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def version(patient: Patient) -> Iterator[Finding]:
    """Server and client are of one version."""
    ours = Version(prefect.__version__)
    for api in patient.answering:
        answer = patient.get("/admin/version", api)
        if answer.status_code == 404:
            yield Finding("version", "ok", f"{api} does not tell its version, as Prefect Cloud, which is always new")
            continue
        theirs = Version(answer.json())
        said = f"{api} is Prefect {theirs}, the client is {ours}"
        mend = f"pip install -c constraints.txt prefect=={ours} at the server"
        if theirs == ours:
            yield Finding("version", "ok", said)
        elif theirs < OLDEST_SERVER or theirs.release[:2] < ours.release[:2]:
            yield Finding("version", "wrong", f"{said}; {OLDEST_SERVER} is the oldest that was tried", mend)
        else:
            yield Finding("version", "warning", f"{said}; only one version for both was tried", mend)


def clock(patient: Patient) -> Iterator[Finding]:
    """The servers' clocks agree with this machine's."""
    for api in patient.answering:
        before = time.time()
        date = patient.get("/health", api, identified=False).headers.get("Date")
        if date is None:
            yield Finding("clock", "warning", f"{api} does not say what time it is")
        else:
            # The header has whole seconds: it is right for as long as the second lasts.
            theirs = email.utils.parsedate_to_datetime(date).timestamp() + 0.5
            yield skew(f"the server {api}", theirs - (before + time.time()) / 2)


def skew(whose: str, seconds: float) -> Finding:
    """What to say of a clock that is so many seconds ahead of ours."""
    if abs(seconds) <= SKEW_SECONDS:
        return Finding("clock", "ok", f"{whose} and this machine agree to {max(abs(seconds), 1):.0f} s")
    ahead = "ahead of" if seconds > 0 else "behind"
    mend = "switch on time synchronisation on both machines (timedatectl set-ntp true)"
    return Finding("clock", "wrong", f"{whose} is {abs(seconds):.0f} s {ahead} this machine", mend)


def settings(patient: Patient) -> Iterator[Finding]:
    """What each server says of its own settings fits together."""
    for api in patient.answering:
        answer = patient.get("/admin/settings", api)
        if answer.status_code != 200:
            yield Finding("settings", "skipped", f"{api} does not tell its settings ({answer.status_code})")
            continue
        findings = list(inconsistent(answer.json()["server"], patient.server_told, patient.scale))
        yield from findings or [Finding("settings", "ok", f"{api}: {kept_in(answer.json()['server'])}")]


def places(server: Mapping[str, Any]) -> dict[str, str]:
    """Where a server keeps what several of them would share, by the variable that says it: `redis` or `memory`."""
    values = {
        "PREFECT_MESSAGING_BROKER": server["events"]["messaging_broker"],
        "PREFECT_MESSAGING_CACHE": server["events"]["messaging_cache"],
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": server["events"]["causal_ordering"],
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": server["concurrency"]["lease_storage"],
        "PREFECT_SERVER_DOCKET_URL": server["docket"]["url"],
    }
    return {name: "redis" if "redis" in value.partition("@")[0].lower() else "memory" for name, value in values.items()}


def kept_in(server: Mapping[str, Any]) -> str:
    """All of it is in one place."""
    (place,) = set(places(server).values())
    return f"broker, cache, ordering, leases and docket are all in {'Redis' if place == 'redis' else 'memory'}"


REDIS = {
    "PREFECT_MESSAGING_BROKER": ("prefect_redis.messaging", "events that one server takes reach no other process"),
    "PREFECT_MESSAGING_CACHE": ("prefect_redis.messaging", "an event that comes twice to two servers counts twice"),
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": (
        "prefect_redis.ordering",
        "an event that follows another waits in vain for 15 minutes",
    ),
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect_redis.lease_storage",
        "a slot that was taken at one server is unknown to the others, and lost when it starts again",
    ),
    "PREFECT_SERVER_DOCKET_URL": ("the URL of Redis", "each services process does the work of all"),
}
"""What each should be where there are several servers, and what happens if it is in memory."""


def inconsistent(server: Mapping[str, Any], told: Mapping[str, str], scale: bool) -> Iterator[Finding]:
    """What of a server's settings (`GET /admin/settings`) and environment (as far as known) does not fit together."""
    kept = places(server)
    if scale or "redis" in kept.values():
        for name, place in kept.items():
            if place == "memory":
                value, effect = REDIS[name]
                yield Finding("settings", "wrong", f"{name} is in memory: {effect}", f"{name}={value} at every server")
        if told and told.get("PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE") != "1":
            setting = "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE"
            said = f"{setting} is not 1: a lone event over the websocket waits up to 10 s for four more"
            yield Finding("settings", "warning", said, f"{setting}=1 at every server")
    if scale and told and "postgresql" not in told.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", ""):
        mend = "PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://... at every server"
        yield Finding("settings", "wrong", "several servers are on SQLite, which has one writer", mend)
    if scale and server["database"]["migrate_on_start"]:
        name = "PREFECT_API_DATABASE_MIGRATE_ON_START"
        mend = f"{name}=false, and run `prefect server database upgrade -y` once before the servers start"
        yield Finding("settings", "warning", f"{name} is on: servers that start at once migrate at once", mend)
    for service in SERVICES:
        if not server["services"][service]["enabled"]:
            name = f"PREFECT_SERVER_SERVICES_{service.upper()}_ENABLED"
            yield Finding("settings", "wrong", f"{name} is false: no automation or schedule works", f"unset {name}")


SHARED = (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_SERVER_DOCKET_URL",
    "PREFECT_SERVER_API_AUTH_STRING",
)
"""What makes several processes one server; no server tells it."""


def told_the_same(patient: Patient) -> Iterator[Finding]:
    """The servers and the services process that run here are one: same database, same Redis, same credentials."""
    name = "one stack"
    told = {n: each for n, each in patient.told.items() if n.startswith(("server", "services"))}
    (first, reference), *others = [*told.items()] or [("", {})]
    well = True
    for other, variables in others:
        for variable in SHARED:
            if variables.get(variable) != reference.get(variable):
                well = False
                said = f"{other} has another {variable} than {first}: what one does, the other does not see"
                yield Finding(name, "wrong", said, "one env file for all (stack/scale/server.env), then start it again")
    if well:
        seen = f"{', '.join(told)}: told the same" if others else "one server, as far as can be seen from here"
        yield Finding(name, "ok", seen)


def services(patient: Patient) -> Iterator[Finding]:
    """Somebody runs the triggers, the scheduler and the rest, where the API servers don't."""
    bare = [name for name, words in patient.commands.items() if "--no-services" in words]
    if not (bare or patient.scale):
        yield Finding("services", "ok", "API servers run their own, as far as can be seen from here")
        return
    server = patient.get("/admin/settings").raise_for_status().json()["server"]
    if "redis" not in places(server)["PREFECT_MESSAGING_BROKER"]:
        said = f"{', '.join(bare) or 'API servers'} run --no-services with the broker in memory: no automation fires"
        yield Finding("services", "wrong", said, "start it without --no-services, or put the broker into Redis")
        return
    url = patient.server_told.get("PREFECT_SERVER_DOCKET_URL", "")
    if not url.startswith("redis"):
        yield Finding("services", "skipped", "the docket is not in Redis, as far as can be seen from here")
    elif at_work(url):
        yield Finding("services", "ok", "a services process is at work")
    else:
        said = f"no services process has been at work for {SILENT_SECONDS:.0f} s: no automation fires"
        yield Finding("services", "wrong", said, "prefect server services start, with the servers' settings")


def at_work(docket_url: str) -> bool:
    """Whether a services process has beaten lately; its docket is named `prefect`, whatever the settings say.

    The consumers of the events would be the nearer thing to ask. But before version 7.2 Redis says only when each was
    last given one, so a quiet stack would look like a dead one.
    """
    from redis import Redis  # Of the scale profile's packages.

    with Redis.from_url(docket_url, socket_timeout=5) as database:
        beats = database.zrange("prefect:workers", 0, -1, withscores=True)
    return any(time.time() - beat < SILENT_SECONDS for _, beat in beats)
