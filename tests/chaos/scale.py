"""The scale profile under faults: `python -m tests.chaos.scale [--seed N] [--rounds N] [--within SECONDS]`.

Each round starts six extracts, strikes once at a random moment, and waits until nothing is active and every published
batch is in the ledger. Postgres, Redis and the object store are of its own, in a temporary folder, and all of it is
gone at the end. What was published is read from the files of the store, what became of it from the tables of the lake.
"""

import argparse
import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
import redis
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterExpectedStartTime
from prefect.exceptions import PrefectHTTPStatusError

from benchmarks.handoff.report import about
from flows.settings import PROJECT
from flows.warehouse import ducklake
from stack.local import processes, up
from stack.local.object_store import start_object_store
from stack.local.processes import StackError
from stack.local.profiles import Stack
from stack.local.scale import server_environment, start_api_server, start_services
from stack.local.stores import make_databases
from stack.sample_api.server import serving
from tests.chaos import counts, harness, results
from tests.scale.faulty_store import Proxy, proxy

FILE = PROJECT / "benchmarks" / "results" / "scale_chaos.json"
ROWS = {"products": 12, "carts": 6, "users": 12}
"""Of every reading of the sample API."""
EXTRACTS = 6
FLOWS = {"extract": "extract", "warehouse": "transform"}
"""By work queue: a run that was killed early has not got its name yet."""
DOWN_SECONDS = 3.0
"""After which an init system starts again what has ended."""
BUSY_SECONDS = 10.0
REST_SECONDS = 300.0
NOT_NOW = (duckdb.Error, httpx.HTTPError, PrefectHTTPStatusError, StackError, redis.RedisError)
"""What asking may raise while something is down."""


@dataclass
class Room:
    """The stack that runs, and what it stands on."""

    stack: Stack
    stores: Path
    """The folder of Postgres, Redis and the object store."""
    store: Proxy
    start: dict[str, Callable[[], object]]
    """How each process is started, in the order in which they need each other."""
    ended: Counter[str] = field(default_factory=Counter)
    """Processes that were found ended."""
    faulty: set[str] = field(default_factory=set)
    """What was found faulty in earlier rounds."""

    def pids(self) -> dict[str, int]:
        return processes.running(self.stores) | processes.running(self.stack.folder)

    def repair(self) -> None:
        """Starts again whatever has ended; what cannot start now is tried the next time."""
        for name in [name for name in self.start if name not in self.pids()]:
            self.ended[name] += 1
            with contextlib.suppress(*NOT_NOW):
                self.start[name]()


# What strikes


def kill(name: str, room: Room, _: random.Random) -> str:
    """SIGKILL for a process and its group."""
    os.killpg(room.pids()[name], signal.SIGKILL)
    return name


def kill_worker(room: Room, chance: random.Random) -> str:
    """SIGKILL for a worker and for every flow run, as when a machine is lost that the others share."""
    name = chance.choice(sorted(name for name in room.pids() if name.startswith("worker")))
    kill(name, room, chance)
    lost = runs_of(room.pids()["prefork-engine"])
    for run in lost:
        with contextlib.suppress(ProcessLookupError):
            os.kill(run, signal.SIGKILL)
    return f"{name} and {len(lost)} flow runs"


def kill_flow(room: Room, chance: random.Random) -> str:
    """SIGKILL for the process of a flow run: a transform in the middle of its build, if one comes within 30 seconds."""
    engine = room.pids()["prefork-engine"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if building := [pid for pid in runs_of(engine) if builds(pid)]:
            time.sleep(chance.uniform(0, 1.5))
            if building := [pid for pid in building if builds(pid)]:
                os.kill(chance.choice(building), signal.SIGKILL)
                return "a transform that was building"
        time.sleep(0.02)
    for pid in runs_of(engine)[:1]:
        os.kill(pid, signal.SIGKILL)
        return "a flow run"
    return "nothing: no flow was running"


def lose_redis(empty: bool, room: Room, _: random.Random) -> str:
    """SIGKILL for Redis, which then starts with what it had on disk, or with nothing."""
    kill("redis", room, _)
    if empty:
        shutil.rmtree(room.stores / "redis")
    return "redis, emptied" if empty else "redis"


def stop_postgres(room: Room, _: random.Random) -> str:
    """What `pg_ctl stop -m immediate` sends: no farewell, and recovery at the next start."""
    os.kill(room.pids()["postgres"], signal.SIGQUIT)
    return "postgres"


def busy_store(room: Room, _: random.Random) -> str:
    """503 to every request, until `strike` says that it is enough."""
    room.store.busy = True
    return "object store"


TWO = "two services processes"
FAULTS: dict[str, Callable[[Room, random.Random], str]] = {
    "API server killed": partial(kill, "server-1"),
    "services process killed": partial(kill, "services"),
    "worker killed with its runs": kill_worker,
    "flow run killed": kill_flow,
    "Redis killed, data kept": partial(lose_redis, False),
    "Postgres stopped at once": stop_postgres,
    "object store answers 503 for 10 s": busy_store,
    "Redis killed, data lost": partial(lose_redis, True),
    TWO: lambda *_: "nothing",
    f"{TWO}, one killed": partial(kill, "services"),
    "nothing (for comparison)": lambda *_: "nothing",
}


def children(pid: int) -> list[int]:
    """The processes that this one has started, and that live."""
    with contextlib.suppress(OSError):
        return [
            int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
        ]
    return []


def family(pid: int) -> list[int]:
    """The process and all below it."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def runs_of(engine: int) -> list[int]:
    """The processes of flow runs: each is forked from one that watches over it."""
    return [run for watcher in children(engine) for run in children(watcher)]


def builds(pid: int) -> bool:
    """Whether dbt is at work in the process: it has its log open."""
    with contextlib.suppress(OSError):
        return any(os.readlink(link).endswith("/dbt.log") for link in Path(f"/proc/{pid}/fd").iterdir())  # noqa: PTH115
    return False


# What is counted


def published(room: Room) -> dict[tuple[str, str], dict[str, Any]]:
    """Table and batch id of every batch that a reader sees, with its manifest, from the store's own files."""
    manifests = (room.stores / "objects").glob("baton/landing/dummyjson/*/batch_id=*/manifest.json")
    return {
        (path.parts[-3], path.parts[-2].removeprefix("batch_id=")): json.loads(path.read_text()) | {"path": path}
        for path in manifests
    }


def ledger(room: Room) -> dict[tuple[str, str], list[float]]:
    """Table and batch id of what the ledger holds, with the seconds since 1970 of each entry."""
    query = "select source, batch_id, list(epoch(processed_at)) from ops.ledger group by all"
    with contextlib.closing(ducklake.connect(room.stack.settings)) as connection:
        return {(source.partition(".")[2], batch): times for source, batch, times in counts.rows(connection, query)}


def count(room: Room) -> counts.Counts:
    """Holds every batch against the lake: once in the ledger, and all of its rows once in base model and mart."""
    manifests, entered = published(room), ledger(room)
    found: dict[str, dict[tuple[str, str], int]] = {"the base model": {}, "the mart": {}}
    with contextlib.closing(ducklake.connect(room.stack.settings)) as connection:
        for table in ROWS:
            rows = f"select _batch_id, count(*) from base.base_dummyjson__{table} group by 1"
            found["the base model"] |= {(table, batch): n for batch, n in counts.rows(connection, rows)}
        rows = f"select _batch_id, count(*) from {counts.SNAPSHOTS} group by 1"
        found["the mart"] |= {("products", batch): n for batch, n in counts.rows(connection, rows)}
        aside = counts.rows(connection, "select batch_id, reason from ops.quarantine where not held")
    made = counts.Counts(published={" ".join(key) for key in manifests}, torn=dict(aside))
    for key in manifests.keys() | entered.keys() | found["the base model"].keys() | found["the mart"].keys():
        name, expected = " ".join(key), ROWS[key[0]]
        if key not in manifests or not whole(manifests[key], expected):
            made.torn[name] = "in the lake, and not published" if key not in manifests else "published, and damaged"
        if key not in entered:
            made.lost[name] = "published, and not in the ledger"
        elif len(entered[key]) > 1:
            made.doubled[name] = f"{len(entered[key])} times in the ledger"
        for place, rows_of in found.items():
            rows_there = rows_of.get(key, 0)
            if place == "the mart" and key[0] != "products":
                continue
            if rows_there > expected:
                made.doubled[name] = f"{rows_there} of {expected} rows in {place}"
            elif key in entered and rows_there < expected:
                made.lost[name] = f"in the ledger, and {rows_there} of {expected} rows in {place}"
    return made


def whole(manifest: dict[str, Any], expected: int) -> bool:
    """Whether the records are as many as the API has."""
    (records,) = manifest["path"].parent.glob(f"records-{manifest['sha256']}.jsonl.gz")
    rows: int = manifest["rows"]
    return len(gzip.decompress(records.read_bytes()).splitlines()) == rows == expected


def runs_since(room: Room, began: datetime) -> list[Any]:
    """Extracts and transforms that were to start since then."""
    since = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"after_": began}))
    wanted = FlowFilter(name=FlowFilterName(any_=["extract", "transform"]))
    with up.client(room.stack) as api:
        return [
            run
            for run in api.read_flow_runs(flow_filter=wanted, flow_run_filter=since)
            if run.state and run.state.is_final()
        ]


# A round


def go_through(room: Room, number: int, fault: str, chance: random.Random, within: float) -> dict[str, Any]:
    """Six extracts, one fault, and rest; what became of it."""
    began, known, ended = datetime.now(UTC), published(room).keys(), Counter(room.ended)
    two = "services-2"
    if fault.startswith(TWO):
        room.start[two] = partial(start_second_services, room.stack)
        room.start[two]()
    with up.client(room.stack) as api:
        for table in sorted(ROWS) * (EXTRACTS // len(ROWS)):
            deployment = api.read_deployment_by_name(f"extract/dummyjson-{table}").id
            api.create_flow_run_from_deployment(deployment, parameters={"source": f"dummyjson.{table}", "page_size": 5})
    delay = chance.uniform(0.2, within)
    time.sleep(delay)
    struck = FAULTS[fault](room, chance)
    moment = time.time()
    time.sleep(BUSY_SECONDS if room.store.busy else DOWN_SECONDS)
    room.store.busy = False
    by_itself = come_to_rest(room, REST_SECONDS)
    if not by_itself:  # What a person would do who is called.
        for name in ("services", "server-1", "server-2"):
            processes.stop(room.stack.folder, name)
        come_to_rest(room, REST_SECONDS / 2)
    ids = published(room).keys() - known
    times = [time for key, entries in asked(ledger, room).items() if key in ids for time in entries]
    counted = asked(count_twice, room)
    runs = asked(runs_since, room, began)
    extracted = {manifest["flow_run_id"] for manifest in published(room).values()}
    for run in runs:
        if run.work_queue_name == "extract" and run.state.is_completed() and str(run.id) not in extracted:
            counted.lost[str(run.id)] = "the extract has completed, and nothing is published"
    news = sorted(set(counted.faults()) - room.faulty)
    room.faulty |= set(news)
    if fault.startswith(TWO):
        del room.start[two]
        processes.stop(room.stack.folder, two)
    events = Counter(run.parameters["event_id"] for run in runs if run.parameters.get("event_id"))
    return {
        "number": number,
        "fault": fault,
        "after": round(delay, 1),
        "struck": struck,
        "batches": len(ids),
        **{kind: sum(line.startswith(kind) for line in news) for kind in ("lost", "doubled", "torn")},
        "recovery": round(max(times) - moment, 1) if times and by_itself else None,
        "seconds": round(time.time() - began.timestamp()),
        "by_itself": by_itself,
        "faulty": news,
        "ended": dict(room.ended - ended),
        "states": dict(sorted(Counter(f"{FLOWS[run.work_queue_name]} {run.state.name}" for run in runs).items())),
        "events_that_started_two": sum(n > 1 for n in events.values()),
    }


def come_to_rest(room: Room, seconds: float) -> bool:
    """Waits until no run is active or due and every published batch is in the ledger; False if that takes too long."""

    def rests() -> bool:
        room.repair()
        with contextlib.suppress(*NOT_NOW):
            return not harness.active(room.stack, harness.OURS.flows) and published(room).keys() <= ledger(room).keys()
        return False

    with contextlib.suppress(StackError):
        processes.wait_until(rests, "everything to come to rest", seconds, every=1)
        return True
    return False


def asked(question: Callable[..., Any], *arguments: object) -> Any:
    """The answer, as soon as there is one: a server may still be on its way up."""
    for _ in range(30):
        with contextlib.suppress(*NOT_NOW):
            return question(*arguments)
        time.sleep(2)
    return question(*arguments)


def count_twice(room: Room) -> counts.Counts:
    """What is faulty counts if it is seen again: a sweep may be at work."""
    found = count(room)
    for _ in range(2):
        if set(found.faults()) <= room.faulty:
            break
        time.sleep(5)
        found = count(room)
    return found


# What it stands on


def start_postgres(folder: Path, port: int) -> None:
    """A cluster of its own on loopback, by the user postgres, because root may not; the superuser is called root."""
    found = max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None) or shutil.which("initdb")
    if found is None:
        raise StackError("no initdb in /usr/lib/postgresql/*/bin or PATH: install PostgreSQL's server")
    program, data = Path(found).with_name("postgres"), folder / "postgres"
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if not data.exists():
        data.mkdir(mode=0o700)
        if become:
            shutil.chown(data, "postgres", "postgres")
        command = [*become, found, "-D", str(data), "-U", "root", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "max_connections": 300}
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]

    def ready() -> bool:
        with contextlib.suppress(StackError):
            make_databases(f"postgresql://root@127.0.0.1:{port}/postgres", [])
            return True
        return False

    processes.start("postgres", [*become, str(program), "-D", str(data), *settings], folder, os.environ, ready=ready)


def start_redis(folder: Path, port: int) -> None:
    """A Redis of its own on loopback that logs each request."""
    (folder / "redis").mkdir(exist_ok=True)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder / "redis"), "--appendonly", "yes"]

    def ready() -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis(port=port) as client:
            return bool(client.ping())
        return False

    processes.start("redis", ["redis-server", *options, "--save", ""], folder, os.environ, ready=ready)


def start_second_services(stack: Stack) -> None:
    """One more services process."""
    command = [sys.executable, "-m", "prefect", "server", "services", "start"]
    processes.start("services-2", command, stack.folder, server_environment(stack))


@contextlib.contextmanager
def started(logs: Path | None = None) -> Iterator[Room]:
    """The scale profile on stores of its own; nothing is left of it after the block, but for the logs if asked for."""
    folder = Path(tempfile.mkdtemp(prefix="baton-chaos-"))
    folder.chmod(0o711)  # Postgres's user must get to its own folder.
    stores, work = folder / "stores", folder / "stack"
    stores.mkdir()
    try:
        ports = {"postgres": processes.free_port(), "redis": processes.free_port()}
        start: dict[str, Callable[[], object]] = {
            "postgres": partial(start_postgres, stores, ports["postgres"]),
            "redis": partial(start_redis, stores, ports["redis"]),
        }
        for begin in start.values():
            begin()
        with (
            pytest.MonkeyPatch.context() as patch,
            proxy(start_object_store(stores, os.environ), patch) as store,
            serving(ROWS["products"], carts=ROWS["carts"], users=ROWS["users"]) as url,
        ):
            for name, value in {
                "BATON_POSTGRES_URL": f"postgresql://root@127.0.0.1:{ports['postgres']}/postgres",
                "BATON_REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
                "BATON_LANDING_ROOT": "s3://baton/landing",
                "BATON_LAKE_DATA": "s3://baton/lake",
                "AWS_ACCESS_KEY_ID": "baton",
                "AWS_SECRET_ACCESS_KEY": "baton",
                "AWS_DEFAULT_REGION": "us-east-1",
                "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
                "PREFECT_SERVER_UI_ENABLED": "false",
            }.items():
                patch.setenv(name, value)
            stack = up.start_stack(
                work, api=url, port=processes.free_port(), schedules=False, say=lambda _: None, profile="scale"
            )
            harness.scale_time(stack)
            start |= {
                "server-1": partial(start_api_server, stack, 1),
                "server-2": partial(start_api_server, stack, 2),
                "services": partial(start_services, stack),
                "prefork-engine": partial(up.start_prefork_engine, stack),
                **{f"worker-{n}": partial(up.start_worker, stack, n) for n in range(1, stack.profile.workers + 1)},
            }
            yield Room(stack, stores, store, start)
    finally:
        # Nothing of it is wanted any more, and whoever ended us does not wait for long.
        for pid in [*processes.running(work).values(), *processes.running(stores).values()]:
            for member in family(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        for place in (work, stores):
            processes.stop_all(place)
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
            for log in [*work.glob("*.log"), *stores.glob("*.log")]:
                shutil.copy(log, logs)
        shutil.rmtree(folder, ignore_errors=True)


# What is said


def summary(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each fault; recovery in seconds over the rounds that recovered by themselves."""
    lines = []
    for fault in FAULTS:
        if of := [entry for entry in rounds if entry["fault"] == fault]:
            took = [entry["recovery"] for entry in of if entry["recovery"] is not None]
            lines.append(
                {
                    "fault": fault,
                    "rounds": len(of),
                    **{name: sum(entry[name] for entry in of) for name in ("batches", "lost", "doubled")},
                    "recovery p50": statistics.median(took) if took else None,
                    "recovery max": max(took) if took else None,
                    "not by itself": sum(not entry["by_itself"] for entry in of),
                }
            )
    return lines


def table(rounds: list[dict[str, Any]]) -> str:
    """The summary as Markdown."""
    lines = summary(rounds)
    names = list(lines[0]) if lines else []
    shown = [[cell(value) for value in line.values()] for line in lines]
    rows = [names, ["---"] * len(names), *shown]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(value: object) -> str:
    """Seconds are floats, and None where nothing had landed that could recover."""
    if value is None:
        return "-"
    return f"{value:.0f} s" if isinstance(value, float) else str(value)


def publish(rounds: list[dict[str, Any]]) -> None:
    """The table into the page."""
    before, _, rest = results.PAGE.read_text().partition("<!-- scale -->")
    _, _, after = rest.partition("<!-- /scale -->")
    results.PAGE.write_text(f"{before}<!-- scale -->\n{table(rounds)}\n<!-- /scale -->{after}")


def main() -> int:
    """0 only if nothing was lost, doubled or torn, and every round came to rest by itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.scale", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=2, help="of each fault")
    parser.add_argument("--within", type=float, default=4, help="seconds after the extracts in which the fault strikes")
    parser.add_argument("--minutes", type=float, default=None, help="begin no round after so many")
    parser.add_argument("--only", default="", help="faults whose name begins so, with commas between")
    parser.add_argument("--results", type=Path, default=FILE)
    parser.add_argument("--logs", type=Path, default=None, help="a folder to keep the logs in")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that everything is ended, too.
    chance, began, rounds = random.Random(arguments.seed), time.monotonic(), []
    chosen = [fault for fault in FAULTS if fault.startswith(tuple(arguments.only.split(",")))]
    with started(arguments.logs) as room:
        for number, fault in enumerate(chosen * arguments.rounds, 1):
            if arguments.minutes is not None and time.monotonic() - began > arguments.minutes * 60:
                break
            rounds.append(go_through(room, number, fault, chance, arguments.within))
            print(json.dumps(rounds[-1]), flush=True)
            outcome = {"seed": arguments.seed, "extracts_a_round": EXTRACTS, "rounds": rounds}
            arguments.results.write_text(json.dumps(about() | outcome | {"table": summary(rounds)}, indent=1) + "\n")
            if arguments.results == FILE:
                publish(rounds)
    print(table(rounds))
    return int(any(entry["faulty"] or not entry["by_itself"] for entry in rounds))


if __name__ == "__main__":
    sys.exit(main())
