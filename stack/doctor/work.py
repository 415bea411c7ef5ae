"""Checks of what does the work: processes, pool, queues, workers, deployments, automations, engine."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from automations.prefect_automations.plan import Change, Plan, make_plan
from automations.prefect_automations.problems import errors_of
from automations.prefect_automations.server import Server
from flows.orchestrate import TRANSFORM
from flows.server import flow_runs
from flows.settings import PROJECT
from flows.sources.reader.check import check_sources
from flows.warehouse import advisory_locks
from stack.doctor.findings import Finding
from stack.doctor.target import Target
from stack.engine.client import NoEngine, hand_over
from stack.engine.worker import SOCKET
from stack.local.processes import running
from stack.local.up import FORMER_DEPLOYMENTS, POOL

QUEUES = ("extract", "warehouse")
TYPES = ("prefork", "process")
"""Of the work pool: both start a process of the worker's machine for each run."""
CRASH_ZOMBIES = "crash-zombies/zombies"
CRASH = "crash_runs_without_heartbeat"
STARTS_DBT = ("transform_when_extract_finishes", "transform_when_all_extracts_finish")
SLOWEST_POLL = 1.0
"""Seconds between two polls of a worker that a hand-off should wait for at most."""


def processes(target: Target) -> Iterator[Finding]:
    """The processes that `baton up` started on this machine still run."""
    started = {note.name.removesuffix(".pid.json") for note in target.folder.glob("*.pid.json")}
    alive = running(target.folder)
    for name in sorted(started - alive.keys()):
        log = target.folder / f"{name}.log"
        yield Finding("processes", "error", f"{name} has ended; see {log}", "make down, then make up")
    if not started:
        message = f"no stack was started in {target.folder}; processes of other machines are not visible"
        yield Finding("processes", "ok", message)
    elif started <= alive.keys():
        yield Finding("processes", "ok", f"{', '.join(sorted(alive))} run on this machine")


def work_pool(target: Target) -> Iterator[Finding]:
    """The work pool exists, starts processes, and is not paused."""
    name = "work pool"
    with target.client() as client:
        try:
            pool = client.read_work_pool(POOL)
        except ObjectNotFound:
            yield Finding(name, "error", f"{POOL} does not exist", f"prefect work-pool create {POOL} --type process")
            return
    if pool.type not in TYPES:
        fix = f"prefect work-pool delete {POOL}, then prefect work-pool create {POOL} --type process"
        yield Finding(name, "error", f"{POOL} is of type {pool.type}, expected {' or '.join(TYPES)}", fix)
    if pool.is_paused:
        yield Finding(name, "error", f"{POOL} is paused: nothing runs", f"prefect work-pool resume {POOL}")
    if pool.concurrency_limit is not None and pool.concurrency_limit < len(QUEUES):
        message = f"{POOL} allows {pool.concurrency_limit} run at a time: an extract keeps the transform from starting"
        yield Finding(name, "error", message, f"prefect work-pool clear-concurrency-limit {POOL}")
    elif pool.type in TYPES and not pool.is_paused:
        yield Finding(name, "ok", f"{POOL}, of type {pool.type}")


def work_queues(target: Target) -> Iterator[Finding]:
    """The queues exist, are not paused, and have the limits that fit the warehouse."""
    with target.client() as client:
        for name in QUEUES:
            try:
                yield examine_queue(client.read_work_queue_by_name(name, POOL), target.baton.on_lake)
            except ObjectNotFound:
                option = " --limit 1" if name == "warehouse" and not target.baton.on_lake else ""
                fix = f"prefect work-queue create {name} --pool {POOL}{option}"
                yield Finding("work queues", "error", f"{POOL}/{name} does not exist", fix)


def examine_queue(queue: WorkQueue, on_lake: bool) -> Finding:
    """The finding for one queue that exists."""
    check, path, limit = "work queues", f"{POOL}/{queue.name}", queue.concurrency_limit
    limited = "no limit" if limit is None else f"limit {limit}"
    one = f"prefect work-queue set-concurrency-limit {queue.name} 1 --pool {POOL}"
    if queue.is_paused:
        fix = f"prefect work-queue resume {queue.name} --pool {POOL}"
        return Finding(check, "error", f"{path} is paused: its runs never start", fix)
    if limit == 0:
        return Finding(check, "error", f"{path} has limit 0: its runs never start", one)
    if queue.name == "warehouse" and not on_lake and limit != 1:
        return Finding(check, "error", f"{path} has {limited}, but a DuckDB file has one writer", one)
    if queue.name == "warehouse" and on_lake and limit == 1:
        fix = f"prefect work-queue clear-concurrency-limit {queue.name} --pool {POOL}"
        message = f"{path} has limit 1, but on the lake different sources can be transformed side by side"
        return Finding(check, "warning", message, fix)
    return Finding(check, "ok", f"{path}, {limited}")


def source_locks(target: Target) -> Iterator[Finding]:
    """On the lake, Postgres gives the lock of a source (flows/processing/source_locks.py) to one session at a time."""
    name = "source locks"
    if not target.baton.on_lake:
        yield Finding(name, "ok", "none: the lock of the DuckDB file allows one transform at a time")
        return
    catalog, _ = target.baton.lake
    probe = [f"doctor:{uuid4()}"]
    with advisory_locks.session(catalog) as lock, advisory_locks.session(catalog) as lock_again:
        if lock(probe) and not lock_again(probe):
            yield Finding(name, "ok", "the lake's Postgres gives a lock to one session at a time")
            return
    message = "the lake's Postgres gives one lock to two sessions: two transforms may process a source at once"
    fix = "BATON_LAKE_CATALOG without a pooler in between, or with one in session mode"
    yield Finding(name, "error", message, fix)


def workers(target: Target) -> Iterator[Finding]:
    """A worker that is online polled each queue a moment ago."""
    longest = timedelta(seconds=max(10.0, 4 * slowest_poll(target)))
    with target.client() as client:
        online = sorted(worker.name for worker in client.read_workers_for_work_pool(POOL) if worker.status == "ONLINE")
        for name in QUEUES:
            try:
                polled = client.read_work_queue_by_name(name, POOL).last_polled
            except ObjectNotFound:  # The check of the queues reports it.
                continue
            ago = datetime.now(UTC) - polled if polled else None
            if ago is not None and ago <= longest and online:
                yield Finding("workers", "ok", f"{POOL}/{name} is polled; online: {', '.join(online)}")
                continue
            since = f"for {math.floor(ago.total_seconds())} s" if ago else "yet"
            fix = f"prefect worker start --pool {POOL} (without --work-queue: it serves all); on this machine: make up"
            yield Finding("workers", "error", f"no worker polled {POOL}/{name} {since}", fix)


def deployments(target: Target) -> Iterator[Finding]:
    """Every deployment that prefect.yaml, automations and flows name is on the server, as prefect.yaml has it."""
    described, project, _ = target.described
    by_name = {short(name): name for name in project.deployments}
    wanted = {by_name[entry["name"]]: entry for entry in target.entries if entry["name"] in by_name}
    started = {r.name for each in described for r in each.references() if r.kind == "deployment"} | {TRANSFORM}
    findings = [
        Finding("deployments", "error", f"prefect.yaml, {name}: {reason}", "correct its entrypoint")
        for name, reason in project.unread.items()
    ]
    with target.client() as client:
        for name in sorted(started | wanted.keys()):
            fix = f"prefect deploy --name {short(name)}" if name in wanted else "add it to prefect.yaml"
            try:
                findings += differences(name, client.read_deployment_by_name(name), wanted.get(name), fix)
            except ObjectNotFound:
                by = "automations or flows start it, and it" if name in started else "it"
                findings.append(Finding("deployments", "error", f"{name}: {by} is not deployed", fix))
        findings += former_deployments(client)
    count = len(started | wanted.keys())
    yield from findings or [Finding("deployments", "ok", f"{count} on the server, as prefect.yaml has them")]


def sources(target: Target) -> Iterator[Finding]:
    """Each source that prefect.yaml extracts has a declaration, its secrets where extracts run, and its models."""
    settings, name = target.baton, "sources"
    problems = check_sources(
        PROJECT / "prefect.yaml",
        settings.dbt_project,
        settings.source_folders,
        settings.api_urls,
        environments=list(target.workers.values()) or [os.environ],
    )
    for problem in problems:
        message, _, fix = problem.partition("; ")
        yield Finding(name, "error", message, fix or "correct what it names: baton source check")
    if not problems:
        yield Finding(name, "ok", "each deployed source has its declaration, its secrets and its models")


def former_deployments(client: SyncPrefectClient) -> Iterator[Finding]:
    """Each deployment of an earlier version whose flow is gone."""
    for name in FORMER_DEPLOYMENTS:
        with suppress(ObjectNotFound):
            client.read_deployment_by_name(name)
            message = (
                f"{name}: deployed by an earlier version, its flow is gone, and its schedule starts runs that crash"
            )
            yield Finding("deployments", "error", message, f"prefect deployment delete {name}")


def short(name: str) -> str:
    """The deployment of flow/deployment, as prefect.yaml calls it."""
    return name.partition("/")[2]


def differences(
    name: str, deployment: DeploymentResponse, entry: Mapping[str, Any] | None, fix: str
) -> Iterator[Finding]:
    """Each difference to the entry of prefect.yaml, and everything that keeps the deployment from running."""
    if deployment.paused:
        yield Finding("deployments", "error", f"{name} is paused: no schedule of it runs", "resume it in the UI")
    elif deployment.schedules and not any(each.active for each in deployment.schedules):
        yield Finding("deployments", "warning", f"{name}: its schedules are switched off", "resume them in the UI")
    if entry is None:
        return
    pool = entry.get("work_pool") or {}
    pairs = {
        "entrypoint": (deployment.entrypoint, entry["entrypoint"]),
        "work pool": (deployment.work_pool_name, pool.get("name")),
        "work queue": (deployment.work_queue_name, pool.get("work_queue_name") or "default"),
        "parameters": (deployment.parameters, entry.get("parameters") or {}),
        "tags": (sorted(deployment.tags), sorted(entry.get("tags") or [])),
        "schedules": (
            sorted(schedule_text(each.schedule.model_dump()) for each in deployment.schedules),
            sorted(schedule_text(each) for each in entry.get("schedules") or []),
        ),
    }
    for field, (found, expected) in pairs.items():
        if found != expected:
            message = f"{name}: its {field} on the server: {found}; in prefect.yaml: {expected}"
            yield Finding("deployments", "error", message, fix)


def schedule_text(schedule: Mapping[str, Any]) -> str:
    """`every 900 s`, or the cron line with its time zone, or the rrule."""
    if interval := schedule.get("interval"):
        return f"every {interval.total_seconds() if isinstance(interval, timedelta) else interval:.0f} s"
    if cron := schedule.get("cron"):
        return f"{cron} {schedule.get('timezone') or 'UTC'}"
    return str(schedule.get("rrule"))


def sweep_seconds(target: Target) -> float:
    """How often prefect.yaml schedules the transform: the sweep finds a batch whose event was lost within this time."""
    (entry,) = (entry for entry in target.entries if entry["name"] == short(TRANSFORM))
    return min((float(each["interval"]) for each in entry.get("schedules", []) if "interval" in each), default=900.0)


def automations(target: Target) -> Iterator[Finding]:
    """The server has the automations of the files, and those that start dbt and free the queue are enabled."""
    described, project, problems = target.described
    invalid = [problem for problem in problems if problem.severity == "error"]
    if invalid:
        fix = "correct the file: baton automations validate"
        yield from (Finding("automations", "error", str(problem), fix) for problem in invalid)
        return
    with target.client() as client:
        server = Server(client)
        plan = make_plan(server, described, project.tag, prune=False)
        enabled = {raw["name"]: raw["enabled"] for raw in server.automations()}
    findings = [*planned_changes(plan), *disabled(enabled)]
    yield from findings
    if all(finding.level == "warning" for finding in findings):
        yield Finding("automations", "ok", f"{len(enabled)} on the server, as the files have them")


def planned_changes(plan: Plan) -> Iterator[Finding]:
    """What `baton automations apply` would change, and what it cannot."""
    for problem in errors_of(plan.problems):
        yield Finding("automations", "error", str(problem), "make what it names, then baton automations apply")
    for change in plan.changes:
        if change.changes_something:
            message = f"{change.name} {difference(change)}"
            yield Finding("automations", "error", message, "baton automations apply")
        elif change.kind in ("skip", "keep"):
            reason, _, fix = change.reason.partition("; ")
            yield Finding("automations", "warning", f"{change.name}: {reason}", fix)


def difference(change: Change) -> str:
    """How the server differs from the file."""
    return {
        "create": "is not on the server",
        "update": f"differs on the server: {', '.join(found.path for found in change.fields)}",
        "delete": f"is on the server, and should not be: {change.reason}",
    }[change.kind]


def disabled(enabled: Mapping[str, bool]) -> Iterator[Finding]:
    """The automations that should be enabled or disabled, of name -> enabled."""
    if enabled.get(CRASH) is False:
        message = f"{CRASH} is disabled: a killed run keeps its slot of the queue until {CRASH_ZOMBIES} runs"
        yield Finding("automations", "error", message, f"prefect automation resume {CRASH}")
    starting = [name for name in STARTS_DBT if enabled.get(name)]
    if not starting and any(name in enabled for name in STARTS_DBT):
        message = f"{' and '.join(STARTS_DBT)} are both disabled: no extract starts dbt, only the sweep does"
        yield Finding("automations", "error", message, f"prefect automation resume {STARTS_DBT[0]}")
    if len(starting) > 1:
        message = f"{' and '.join(starting)} are both enabled: a build starts twice"
        yield Finding("automations", "warning", message, f"prefect automation pause {STARTS_DBT[1]}")


def heartbeats(target: Target) -> Iterator[Finding]:
    """Flow runs send heartbeats often enough for the automation that crashes runs without any."""
    within = heartbeat_window(target)
    for name, environment in worker_environments(target).items():
        yield examine_heartbeat(name, heartbeat_seconds(target, environment), within)


def examine_heartbeat(worker: str, seconds: float, within: float) -> Finding:
    """The finding for a worker whose runs send a heartbeat every so many seconds."""
    check = "heartbeats"
    fix = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 in the environment of the worker, then restart it"
    if seconds >= within:
        often = "no heartbeats" if math.isinf(seconds) else f"a heartbeat every {seconds:.0f} s"
        message = f"{worker} has {often}, but {CRASH} crashes runs without one for {within:.0f} s"
        return Finding(check, "error", message, fix)
    if seconds * 3 > within:
        message = f"{worker}: every {seconds:.0f} s; two lost heartbeats within {within:.0f} s crash a healthy run"
        return Finding(check, "warning", message, fix)
    return Finding(check, "ok", f"{worker}: every {seconds:.0f} s; a lost run is noticed after {within:.0f} s")


def heartbeat_seconds(target: Target, environment: Mapping[str, str]) -> float:
    """How often runs of a worker with this environment send a heartbeat; infinity for never."""
    default = target.prefect.flows.heartbeat_frequency
    return float(environment.get("PREFECT_FLOWS_HEARTBEAT_FREQUENCY") or default or math.inf)


def worker_environments(target: Target) -> dict[str, Mapping[str, str]]:
    """The environments of the workers; this process's own where no worker runs on this machine."""
    return dict(target.workers) or {"a worker with this environment": os.environ}


def heartbeat_window(target: Target) -> float:
    """After how many seconds without a heartbeat the automation crashes a run."""
    triggers = [each.data["trigger"] for each in target.described[0] if each.name == CRASH]
    return float(triggers[0]["within"]) if triggers else math.inf


def runs(target: Target) -> Iterator[Finding]:
    """No run is active without sending events: it would keep its slot of the queue."""
    seconds = silent_seconds(target)
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    with target.client() as client:
        active = flow_runs.active_runs(client)
        old = {run.id: run for run in active if run.state and run.state.timestamp < since}
        silent = old.keys() - flow_runs.runs_with_events(client, old, since)
    fix = f"prefect deployment run {CRASH_ZOMBIES}, which also runs on a schedule"
    for run in (old[run_id] for run_id in sorted(silent)):
        message = f"{run.name} ({run.id}) is {run.state_name} and sent no event for {seconds:g} s: it keeps its slot"
        yield Finding("runs", "error", message, fix)
    if not silent:
        yield Finding("runs", "ok", f"{len(active)} active, all with an event in the last {seconds:g} s")


def silent_seconds(target: Target) -> float:
    """After how many seconds without an event prefect.yaml has a run crashed."""
    (entry,) = (entry for entry in target.entries if entry["name"] == short(CRASH_ZOMBIES))
    return float(entry["parameters"]["silent_for"])


def slowest_poll(target: Target) -> float:
    """The longest time between two polls of a worker, in seconds."""
    return max(poll_seconds(target, environment) for environment in worker_environments(target).values())


def poll_seconds(target: Target, environment: Mapping[str, str]) -> float:
    """How often a worker with this environment polls for runs."""
    return float(environment.get("PREFECT_WORKER_QUERY_SECONDS") or target.prefect.worker.query_seconds)


def poll(target: Target) -> Iterator[Finding]:
    """Workers poll so often that a hand-off does not wait for them."""
    for name, environment in worker_environments(target).items():
        seconds = poll_seconds(target, environment)
        if seconds <= SLOWEST_POLL:
            yield Finding("poll interval", "ok", f"{name} polls every {seconds:g} s")
        else:
            fix = "PREFECT_WORKER_QUERY_SECONDS=0.4 in the environment of the worker, then restart it"
            yield Finding("poll interval", "warning", f"{name} polls every {seconds:g} s: each hand-off waits", fix)


def engine(target: Target) -> Iterator[Finding]:
    """The prefork engine accepts runs with the environment of each worker that names one."""
    named = {name: environment for name, environment in target.workers.items() if SOCKET in environment}
    if not named:
        yield Finding("engine", "ok", "no worker of this machine uses an engine that `make up` has started")
    for name, environment in named.items():
        variables = {os.fsencode(key): os.fsencode(value) for key, value in environment.items()}
        try:
            hand_over(environment[SOCKET], ["prefect.engine"], str(PROJECT), 0o022, variables).close()
        except (NoEngine, OSError) as error:
            effect = "each flow run starts its own interpreter, some seconds slower"
            message = f"the prefork engine accepts no runs of {name} ({environment[SOCKET]}: {error}): {effect}"
            yield Finding("engine", "warning", message, "make down, then make up")
        else:
            yield Finding("engine", "ok", f"the prefork engine accepts runs of {name}")
