"""Is there somebody to do the work: pool, queues, workers, deployments, automations, engine."""

import math
import os
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from automations.plan import Server, make_plan
from flows import locks, reap
from flows.orchestrate import TRANSFORM
from stack.doctor.findings import Finding
from stack.doctor.patient import Patient
from stack.local import POOL
from stack.prefork.client import NoEngine, hand_over
from stack.processes import running

QUEUES = ("extract", "warehouse")
REAP = "reap/zombies"
CRASH = "crash_runs_that_stop_beating"
STARTS_DBT = ("transform_when_extract_finishes", "transform_when_all_extracts_finish")
SLOWEST_POLL = 1.0


def processes(patient: Patient) -> Iterator[Finding]:
    """What `make up` started here still runs."""
    noted = {note.name.removesuffix(".pid.json") for note in patient.folder.glob("*.pid.json")}
    alive = running(patient.folder)
    for name in sorted(noted - alive.keys()):
        log = patient.folder / f"{name}.log"
        yield Finding("processes", "wrong", f"{name} has ended; see {log}", "make down, then make up")
    if not noted:
        yield Finding("processes", "ok", f"no stack was started in {patient.folder}; others cannot be seen from here")
    elif noted <= alive.keys():
        yield Finding("processes", "ok", f"{', '.join(sorted(alive))} run here")


def work_pool(patient: Patient) -> Iterator[Finding]:
    """There is a work pool, processes are started by it, and it is not paused."""
    with patient.client() as client:
        try:
            pool = client.read_work_pool(POOL)
        except ObjectNotFound:
            yield Finding(
                "work pool", "wrong", f"{POOL} is not there", f"prefect work-pool create {POOL} --type process"
            )
            return
    if pool.type != "process":
        mend = f"prefect work-pool delete {POOL}, then prefect work-pool create {POOL} --type process"
        yield Finding("work pool", "wrong", f"{POOL} is of type {pool.type}, expected process", mend)
    if pool.is_paused:
        yield Finding("work pool", "wrong", f"{POOL} is paused: nothing runs", f"prefect work-pool resume {POOL}")
    if pool.concurrency_limit is not None and pool.concurrency_limit < len(QUEUES):
        mend = f"prefect work-pool clear-concurrency-limit {POOL}"
        said = f"{POOL} lets only {pool.concurrency_limit} run at once: an extract keeps the transform from starting"
        yield Finding("work pool", "wrong", said, mend)
    elif pool.type == "process" and not pool.is_paused:
        yield Finding("work pool", "ok", f"{POOL}, of type process")


def work_queues(patient: Patient) -> Iterator[Finding]:
    """The queues are there, open, and let as many run as the warehouse can take."""
    name = "work queues"
    with patient.client() as client:
        for queue_name in QUEUES:
            try:
                queue = client.read_work_queue_by_name(queue_name, POOL)
            except ObjectNotFound:
                option = " --limit 1" if queue_name == "warehouse" and not patient.baton.on_lake else ""
                mend = f"prefect work-queue create {queue_name} --pool {POOL}{option}"
                yield Finding(name, "wrong", f"{POOL}/{queue_name} is not there", mend)
                continue
            mends = {
                "resume": f"prefect work-queue resume {queue_name} --pool {POOL}",
                "one": f"prefect work-queue set-concurrency-limit {queue_name} 1 --pool {POOL}",
                "more": f"prefect work-queue clear-concurrency-limit {queue_name} --pool {POOL}",
            }
            limit, said = queue.concurrency_limit, f"{POOL}/{queue_name}"
            shown = "no limit" if limit is None else f"limit {limit}"
            if queue.is_paused:
                yield Finding(name, "wrong", f"{said} is paused: its runs wait for ever", mends["resume"])
            elif limit == 0:
                yield Finding(name, "wrong", f"{said} has limit 0: its runs wait for ever", mends["one"])
            elif queue_name == "warehouse" and not patient.baton.on_lake and limit != 1:
                yield Finding(name, "wrong", f"{said} has {shown}, but a DuckDB file has one writer", mends["one"])
            elif queue_name == "warehouse" and patient.baton.on_lake and limit == 1:
                said = f"{said} has limit 1: on the lake, sources can be transformed side by side"
                yield Finding(name, "warning", said, mends["more"])
            else:
                yield Finding(name, "ok", f"{said}, {shown}")


def turns(patient: Patient) -> Iterator[Finding]:
    """On the lake, a source's turn (flows/turns.py) is given to one session at a time."""
    name = "turns"
    if not patient.baton.on_lake:
        yield Finding(name, "ok", "the warehouse is a file, and its lock lets one transform at it")
        return
    catalog, _ = patient.baton.lake
    probe = [f"doctor:{uuid4()}"]
    with locks.session(catalog) as take, locks.session(catalog) as take_too:
        if take(probe) and not take_too(probe):
            yield Finding(name, "ok", "the lake's Postgres gives a lock to one session at a time")
            return
    said = "the lake's Postgres gives one lock to two sessions: two transforms may be at work on a source at once"
    mend = "BATON_LAKE_CATALOG without a pooler in between, or with one in session mode"
    yield Finding(name, "wrong", said, mend)


def workers(patient: Patient) -> Iterator[Finding]:
    """Each queue was asked for work a moment ago, by a worker that the server takes for alive."""
    longest = timedelta(seconds=max(10.0, 4 * slowest_poll(patient)))
    with patient.client() as client:
        online = sorted(worker.name for worker in client.read_workers_for_work_pool(POOL) if worker.status == "ONLINE")
        for queue_name in QUEUES:
            try:
                polled = client.read_work_queue_by_name(queue_name, POOL).last_polled
            except ObjectNotFound:  # As the check of the queues has said.
                continue
            ago = datetime.now(UTC) - polled if polled else None
            if ago is not None and ago <= longest and online:
                yield Finding("workers", "ok", f"{POOL}/{queue_name} is served; online: {', '.join(online)}")
                continue
            said = f"nobody has asked {POOL}/{queue_name} for work " + (
                f"for {math.floor(ago.total_seconds())} s" if ago else "yet"
            )
            mend = f"prefect worker start --pool {POOL} (without --work-queue: it serves all); on this machine: make up"
            yield Finding("workers", "wrong", said, mend)


def deployments(patient: Patient) -> Iterator[Finding]:
    """Every deployment that prefect.yaml, automations and flows name is there, and is as prefect.yaml has it."""
    described, project, _ = patient.described
    by_name = {short(name): name for name in project.deployments}
    wanted = {by_name[entry["name"]]: entry for entry in patient.entries if entry["name"] in by_name}
    named = {r.name for each in described for r in each.references() if r.kind == "deployment"} | {TRANSFORM}
    well = True
    for name, reason in project.unread.items():
        well = False
        yield Finding("deployments", "wrong", f"prefect.yaml, {name}: {reason}", "correct its entrypoint")
    with patient.client() as client:
        for name in sorted(named | wanted.keys()):
            mend = f"prefect deploy --name {short(name)}" if name in wanted else "add it to prefect.yaml"
            try:
                deployment = client.read_deployment_by_name(name)
            except ObjectNotFound:
                well = False
                by = "automations or flows start it, and it" if name in named else "it"
                yield Finding("deployments", "wrong", f"{name}: {by} is not deployed", mend)
                continue
            for finding in out_of_step(name, deployment, wanted.get(name), mend):
                well = False
                yield finding
    if well:
        yield Finding("deployments", "ok", f"{len(named | wanted.keys())} are there, and as prefect.yaml has them")


def short(name: str) -> str:
    """The deployment of flow/deployment, as prefect.yaml calls it."""
    return name.partition("/")[2]


def out_of_step(
    name: str, deployment: DeploymentResponse, entry: Mapping[str, Any] | None, mend: str
) -> Iterator[Finding]:
    """Each difference to the entry of prefect.yaml, and whatever keeps the deployment from running."""
    if deployment.paused:
        yield Finding("deployments", "wrong", f"{name} is paused: no schedule of it runs", "resume it in the UI")
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
        "schedules": (
            sorted(schedule_text(each.schedule.model_dump()) for each in deployment.schedules),
            sorted(schedule_text(each) for each in entry.get("schedules") or []),
        ),
    }
    for what, (there, wanted) in pairs.items():
        if there != wanted:
            said = f"{name}: its {what} on the server: {there}; in prefect.yaml: {wanted}"
            yield Finding("deployments", "wrong", said, mend)


def schedule_text(schedule: Mapping[str, Any]) -> str:
    """`every 900 s`, or the cron line with its time zone; what else there is as it stands."""
    if interval := schedule.get("interval"):
        return f"every {interval.total_seconds() if isinstance(interval, timedelta) else interval:.0f} s"
    if cron := schedule.get("cron"):
        return f"{cron} {schedule.get('timezone') or 'UTC'}"
    return str(schedule.get("rrule"))


def sweep_seconds(patient: Patient) -> float:
    """How often the transform is scheduled, by prefect.yaml: what is pending for longer was not found by the sweep."""
    (entry,) = (entry for entry in patient.entries if entry["name"] == short(TRANSFORM))
    return min((float(each["interval"]) for each in entry.get("schedules", []) if "interval" in each), default=900.0)


def automations(patient: Patient) -> Iterator[Finding]:
    """The server has what the files say, and what starts dbt and what frees the queue is switched on."""
    described, project, problems = patient.described
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in errors:
        yield Finding("automations", "wrong", str(problem), "correct the file: python -m automations validate")
    if errors:
        return
    with patient.client() as client:
        server = Server(client)
        plan = make_plan(server, described, project.tag, prune=False)
        enabled = {raw["name"]: raw["enabled"] for raw in server.automations()}
    well = True
    for problem in plan.problems:
        well = False
        yield Finding("automations", "wrong", str(problem), "make what it names, then python -m automations apply")
    for change in plan.changes:
        mend = "python -m automations apply"
        if change.changes_something:
            well = False
            fields = ", ".join(found.path for found in change.fields)
            said = {
                "create": "is not on the server",
                "update": f"differs on the server: {fields}",
                "delete": f"is on the server, and should not be: {change.reason}",
            }[change.kind]
            yield Finding("automations", "wrong", f"{change.name} {said}", mend)
        elif change.kind in ("skip", "keep"):
            reason, _, how = change.reason.partition("; ")
            yield Finding("automations", "warning", f"{change.name}: {reason}", how)
    if enabled.get(CRASH) is False:
        well = False
        said = f"{CRASH} is disabled: a run that was killed keeps its slot of the queue until {REAP} ends it"
        yield Finding("automations", "wrong", said, f"prefect automation resume {CRASH}")
    starting = [name for name in STARTS_DBT if enabled.get(name)]
    if not starting and any(name in enabled for name in STARTS_DBT):
        well = False
        said = f"{' and '.join(STARTS_DBT)} are both disabled: no extract starts dbt, only the sweep does"
        yield Finding("automations", "wrong", said, f"prefect automation resume {STARTS_DBT[0]}")
    if len(starting) > 1:
        said = f"{' and '.join(starting)} are both enabled: a build starts twice"
        yield Finding("automations", "warning", said, f"prefect automation pause {STARTS_DBT[1]}")
    if well:
        yield Finding("automations", "ok", f"{len(enabled)} on the server, in step with the files")


def heartbeats(patient: Patient) -> Iterator[Finding]:
    """Flow runs beat often enough for the automation that sets those Crashed that don't."""
    variable = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    ours = patient.prefect.flows.heartbeat_frequency
    within = beats_within(patient)
    for name, told in told_to(patient).items():
        seconds = float(told[variable]) if told.get(variable) else float(ours or math.inf)
        mend = f"{variable}=30 in the environment of the worker, then start it again"
        if seconds >= within:
            often = "no heartbeats" if math.isinf(seconds) else f"a heartbeat every {seconds:.0f} s"
            said = f"{name} has {often}, but {CRASH} sets runs Crashed that are silent for {within:.0f} s"
            yield Finding("heartbeats", "wrong", said, mend)
        elif seconds * 3 > within:
            said = f"{name}: one every {seconds:.0f} s; two that are lost within {within:.0f} s end a run that lives"
            yield Finding("heartbeats", "warning", said, mend)
        else:
            yield Finding("heartbeats", "ok", f"{name}: every {seconds:.0f} s; silence is noticed after {within:.0f} s")


def told_to(patient: Patient) -> dict[str, Mapping[str, str]]:
    """The environments of the workers; this process's own where none can be seen from here."""
    return dict(patient.workers) or {"a worker with this environment": os.environ}


def beats_within(patient: Patient) -> float:
    """After how many seconds of silence a run is set Crashed."""
    triggers = [each.data["trigger"] for each in patient.described[0] if each.name == CRASH]
    return float(triggers[0]["within"]) if triggers else math.inf


def runs(patient: Patient) -> Iterator[Finding]:
    """Nothing is active that nothing is heard of: it keeps its slot of the queue."""
    seconds = silent_seconds(patient)
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    with patient.client() as client:
        active = reap.active(client)
        old = {run.id: run for run in active if run.state and run.state.timestamp < since}
        silent = old.keys() - reap.heard_of(client, old, since)
    for run in (old[run_id] for run_id in sorted(silent)):
        said = f"{run.name} ({run.id}) is {run.state_name}, and nothing was heard of it for {seconds:g} s"
        yield Finding(
            "runs",
            "wrong",
            f"{said}: it keeps its slot",
            f"prefect deployment run {REAP}, which also runs on a schedule",
        )
    if not silent:
        yield Finding("runs", "ok", f"{len(active)} active, none silent for more than {seconds:g} s")


def silent_seconds(patient: Patient) -> float:
    """After how many seconds of silence a run is taken for dead, by prefect.yaml."""
    (entry,) = (entry for entry in patient.entries if entry["name"] == short(REAP))
    return float(entry["parameters"]["silent_for"])


def slowest_poll(patient: Patient) -> float:
    """The longest that a worker waits between two questions for work, in seconds."""
    return max(poll_seconds(patient, told) for told in told_to(patient).values())


def poll_seconds(patient: Patient, told: Mapping[str, str]) -> float:
    """How often a worker with this environment asks for work."""
    return float(told.get("PREFECT_WORKER_QUERY_SECONDS") or patient.prefect.worker.query_seconds)


def poll(patient: Patient) -> Iterator[Finding]:
    """Workers ask for work often enough for a hand-off not to consist of waiting."""
    for name, told in told_to(patient).items():
        seconds = poll_seconds(patient, told)
        if seconds <= SLOWEST_POLL:
            yield Finding("poll interval", "ok", f"{name} asks for work every {seconds:g} s")
        else:
            mend = "PREFECT_WORKER_QUERY_SECONDS=0.4 in the environment of the worker, then start it again"
            said = f"{name} asks for work every {seconds:g} s, which each hand-off waits for"
            yield Finding("poll interval", "warning", said, mend)


def engine(patient: Patient) -> Iterator[Finding]:
    """The prefork engine takes runs of the workers' environment, where the pool says that it should."""
    with patient.client() as client:
        template = client.read_work_pool(POOL).base_job_template
    command = shlex.split(template["variables"]["properties"].get("command", {}).get("default") or "")
    scripts = [position for position, part in enumerate(command) if part.endswith("client.py")]
    if not scripts:
        yield Finding("engine", "ok", f"{POOL} has none: each flow run starts an interpreter of its own")
        return
    socket = command[scripts[0] + 1]
    try:
        hand_over(socket, ["prefect.engine"]).close()
    except (NoEngine, OSError) as error:
        said = f"does not take runs ({socket}: {error}): each flow run starts an interpreter, some seconds slower"
        yield Finding("engine", "warning", f"prefork engine {said}", "make down, then make up")
    else:
        yield Finding("engine", "ok", "the prefork engine takes runs")
