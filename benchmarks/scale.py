"""What the scale profile costs and does, beside the profile for one machine.

    python -m benchmarks.scale [--rounds 5] [--landings 60] [--most 300]

1. Hand-offs, in turn on either profile: event to the first line of the transform, and to the ledger; CPU.
2. Landings fully processed a minute, over ten sources, by 1, 2 and 4 workers and with 1 and 2 API servers; each landing
   is an extract and, by its event, a transform, both run by the workers. `--most` is the size of one longer run.
   With each: the CPU of every process, the most connections and memory that Postgres and Redis were seen with, and the
   requests to the object store. `docs/scale.md` has the arithmetic from all of it.

Works in a copy of the project, because seven more dbt sources are needed. CPU is that of all processes of the stack;
Postgres and Redis, which others may use too, are not in it. Nothing is asked of the lake while landings are processed,
so that the requests are the flows' own. Raw results go to `results/scale.json`.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import asyncpg
import redis
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

from benchmarks.handoff import accounting
from benchmarks.handoff.report import about
from flows.landing.batch import list_batches
from flows.settings import PROJECT
from flows.warehouse.connection import connect
from stack.local import env_files, processes, up
from stack.local.profiles import ProfileName, Stack

RESULTS = "benchmarks/results/scale.json"
MORE = [f"shop_{number}" for number in range(1, 8)]
SOURCES = ["dummyjson.products", "dummyjson.carts", "dummyjson.users", *(f"{system}.products" for system in MORE)]
PROFILES: tuple[ProfileName, ...] = get_args(ProfileName)
SHAPES = ((1, 1), (2, 1), (4, 1), (2, 2), (4, 2))
"""Workers and API servers."""
ACTIVE = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def main() -> int:
    """Copies the project, adds the sources, and measures in the copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="hand-offs on each profile")
    parser.add_argument("--landings", type=int, default=60, help="for each shape")
    parser.add_argument("--most", type=int, default=300, help="landings of the longer run, by 4 workers and 2 servers")
    parser.add_argument("--only", default="handoffs,throughput", help="parts, with commas between")
    parser.add_argument("--into", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.into:
        measure(arguments)
        return 0
    with tempfile.TemporaryDirectory(prefix="baton-bench-scale-") as folder:
        copy = Path(folder) / "project"
        copy_project(copy)
        command = [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:], "--into", str(PROJECT / RESULTS)]
        return subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}).returncode


def copy_project(copy: Path) -> None:
    """The project with seven more sources, as README.md says how to add one."""
    for name in ("flows", "automations", "stack", "dbt", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "target", "logs", ".user.yml", "results")
        shutil.copytree(PROJECT / name, copy / name, ignore=ignored)
    for name in ("prefect.yaml", "pyproject.toml"):
        shutil.copy(PROJECT / name, copy / name)
    (copy / "data").mkdir()
    declarations = copy / "flows" / "sources"
    for system in MORE:
        shutil.copy(declarations / "dummyjson.yaml", declarations / f"{system}.yaml")
        models = copy / "dbt" / "models" / "base" / system
        models.mkdir()
        base = f"base_{system}__products"
        (models / "__sources.yml").write_text(f"sources: [{{name: {system}, tables: [{{name: products}}]}}]\n")
        (models / f"{base}_manifests.sql").write_text(
            f"{{{{ config(pre_hook=\"{{{{ delete_quarantined_batches('{system}.products') }}}}\") }}}}\n"
            f"{{{{ landed_manifests(source('{system}', 'products')) }}}}\n"
        )
        (models / f"{base}.sql").write_text(
            f"{{{{ config(pre_hook=\"{{{{ delete_batches_without_manifest(ref('{base}_manifests')) }}}}\") }}}}\n"
            f"{{{{ landed_records(source('{system}', 'products'), ref('{base}_manifests')) }}}}\n"
        )


def measure(arguments: argparse.Namespace) -> None:
    """Starts the stacks, measures, prints, and keeps what was measured after each part."""
    file: Path = arguments.into
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    stacks: dict[str, Stack] = {}
    try:
        for name in PROFILES:
            folder = PROJECT / "data" / name
            api = up.start_sample_api(PROJECT / "data" / f"{name}-api", dict(os.environ))
            os.environ["BATON_API_URLS"] = json.dumps(dict.fromkeys(["dummyjson", *MORE], api))
            port = processes.free_port()
            stacks[name] = up.start_stack(folder, api=api, port=port, schedules=False, say=lambda _: None, profile=name)
            print(f"{name}: started", flush=True)
        os.environ |= {n: v for n, v in stacks["scale"].environment.items() if n.startswith("AWS_")}
        if "handoffs" in arguments.only:
            results["handoffs"] = handoffs(stacks, arguments.rounds)
            keep(file, results)
        processes.stop_all(PROJECT / "data" / PROFILES[0])
        if "throughput" in arguments.only:
            results["throughput"] = []
            longer = [(4, 2, arguments.most)] if arguments.most > arguments.landings else []
            for workers, servers, landings in [*((*shape, arguments.landings) for shape in SHAPES), *longer]:
                results["throughput"].append(throughput(stacks["scale"], workers, servers, landings))
                keep(file, results)
    finally:
        for name in PROFILES:
            processes.stop_all(PROJECT / "data" / name)
            processes.stop_all(PROJECT / "data" / f"{name}-api")
            up.profile_named(name).remove(PROJECT / "data" / name)
    print(report(results))


def keep(file: Path, results: dict[str, Any]) -> None:
    """With the machine and the versions."""
    file.write_text(json.dumps(about() | results, indent=1) + "\n")


def handoffs(stacks: dict[str, Stack], rounds: int) -> list[dict[str, Any]]:
    """Hand-offs of dummyjson.products in turn, after one of each that does not count."""
    rows = []
    for position in range(rounds + 1):
        for name, stack in stacks.items():
            before, began = cpu(stack), time.monotonic()
            batches = set(list_batches(stack.landing))
            run_extracts(stack, SOURCES[:1])
            wait(lambda s=stack: not active(s), "the hand-off", 180)
            seconds = time.monotonic() - began
            spent = cpu(stack) - before
            (batch,) = set(list_batches(stack.landing)) - batches
            with connect(stack.settings, read_only=True) as warehouse:
                times = warehouse.execute(
                    "select event_at, started_at, processed_at from ops.ledger where batch_id = ?", [batch.batch_id]
                ).fetchone()
            assert times is not None
            event, first_line, queryable = times
            at_rest = cpu(stack)
            time.sleep(5)
            idle = (cpu(stack) - at_rest) / 5
            row = {
                "profile": name,
                "first_line": (first_line - event).total_seconds(),
                "queryable": (queryable - event).total_seconds(),
                "cpu": spent - idle * seconds,
                "idle_cores": idle,
                "memory_mb": sum(accounting.memory_mb(pid) for pid in processes.running(stack.folder).values()),
            }
            print(row, flush=True)
            if position:
                rows.append(row)
    return rows


def throughput(stack: Stack, workers: int, servers: int, landings: int) -> dict[str, Any]:
    """Landings over all sources, asked for at once; until the last is in the ledger, and until nothing runs."""
    shaped = replace(stack, profile=replace(stack.profile, workers=workers), apis=stack.apis[:servers])
    for name in processes.running(stack.folder):
        if name.startswith("worker") or (name == "server-2" and servers == 1):
            processes.stop(stack.folder, name)
    if servers == 2 and "server-2" not in processes.running(stack.folder):
        from stack.local.scale import start_api_server

        start_api_server(stack, 2)
    for number in range(1, workers + 1):
        up.start_worker(shaped, number)
    known = len(in_ledger(stack))
    before, requests_before, began = cpu_by_process(stack), requests(stack), time.time()
    run_extracts(stack, [SOURCES[number % len(SOURCES)] for number in range(landings)])
    seen: list[dict[str, float]] = []

    def ended() -> bool:
        seen.append(stores(stack))
        return not active(stack)

    processes.wait_until(ended, "every run to end", 60 + landings * 20, every=10)
    seconds = time.time() - began
    spent = {name: value - before.get(name, 0) for name, value in cpu_by_process(stack).items()}
    asked = requests(stack) - requests_before
    processed = sorted(in_ledger(stack))
    if len(processed) - known != landings:
        raise RuntimeError(f"{landings} landings were asked for, and {len(processed) - known} are in the ledger")
    until_queryable = processed[-1].timestamp() - began
    row = {
        "workers": workers,
        "servers": servers,
        "landings": landings,
        "seconds": until_queryable,
        "a_minute": landings / until_queryable * 60,
        "until_idle_seconds": seconds,
        "cpu_a_landing": sum(spent.values()) / landings,
        "cores": sum(spent.values()) / seconds,
        "cpu_a_landing_by_process": {name: round(value / landings, 2) for name, value in sorted(spent.items())},
        "most": {name: max(each[name] for each in seen) for name in seen[0]},
        "requests_a_landing": {method: round(number / landings, 1) for method, number in sorted(asked.items())},
    }
    print(row, flush=True)
    return row


def run_extracts(stack: Stack, sources: Sequence[str]) -> None:
    with up.client(stack) as api:
        deployment = api.read_deployment_by_name("extract/dummyjson-products").id
        for source in sources:
            api.create_flow_run_from_deployment(deployment, parameters={"source": source, "handoff": "event"})


def active(stack: Stack) -> bool:
    """Whether a run is at work or due; asked twice, because an event may be on its way."""
    states = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ACTIVE)))
    with up.client(stack) as api:
        for _ in range(2):
            if api.read_flow_runs(flow_run_filter=states, limit=1):
                return True
            time.sleep(1)
    return False


def in_ledger(stack: Stack) -> list[datetime]:
    """When each batch was processed."""
    with connect(stack.settings, read_only=True) as warehouse:
        try:
            return [at for (at,) in warehouse.sql("select processed_at from ops.ledger").fetchall()]
        except Exception as error:
            if "does not exist" in str(error):
                return []
            raise


def wait(condition: Any, what: str, seconds: float) -> None:
    processes.wait_until(condition, what, seconds, every=0.5)


def cpu(stack: Stack) -> float:
    """Seconds of all the stack's processes, those that have ended included."""
    return sum(cpu_by_process(stack).values())


def cpu_by_process(stack: Stack) -> dict[str, float]:
    """The same by the name of the process; the engine's are the runs' own."""
    return {name: accounting.cpu_seconds(pid) for name, pid in processes.running(stack.folder).items()}


def stores(stack: Stack) -> dict[str, float]:
    """Connections to the databases of servers and lake, and what is in Redis, now."""
    secrets = env_files.read(stack.folder / "server.env")

    async def connections() -> dict[str, int]:
        connection = await asyncpg.connect(secrets["BATON_POSTGRES_URL"])
        try:
            count = "select count(*) from pg_stat_activity where datname like $1"
            return {of: await connection.fetchval(count, f"baton\\_%\\_{of}") for of in ("prefect", "lake")}
        finally:
            await connection.close()

    with redis.Redis.from_url(secrets["PREFECT_REDIS_MESSAGING_URL"]) as client:
        memory = sum(int(client.memory_usage(key) or 0) for key in client.scan_iter())
    open_now = asyncio.run(connections())
    return {
        "connections_of_servers": open_now["prefect"],
        "connections_of_lake": open_now["lake"],
        "redis_mb": memory / 1e6,
    }


def requests(stack: Stack) -> Counter[str]:
    """Requests to the object store so far, by method."""
    return Counter(
        re.findall(r'"([A-Z]+) \S+ HTTP/1\.1"', (stack.folder / "object-store.log").read_text(errors="replace"))
    )


def report(results: dict[str, Any]) -> str:
    """The tables."""
    lines = []
    if rows := results.get("handoffs"):
        lines.append("| profile | n | first line s | queryable s | CPU s | idle, of a core | memory MB |")
        lines.append("| --- | --- | --- | --- | --- | --- | --- |")
        for name in PROFILES:
            of = [row for row in rows if row["profile"] == name]
            median = {key: statistics.median(row[key] for row in of) for key in of[0] if key != "profile"}
            lines.append(
                f"| {name} | {len(of)} | {median['first_line']:.2f} | {median['queryable']:.2f} | "
                f"{median['cpu']:.1f} | {median['idle_cores'] * 100:.0f} % | {median['memory_mb']:.0f} |"
            )
    if rows := results.get("throughput"):
        lines += ["", "| workers | API servers | landings | a minute | CPU s a landing | cores in use |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        lines += [
            f"| {row['workers']} | {row['servers']} | {row['landings']} | {row['a_minute']:.0f} | "
            f"{row['cpu_a_landing']:.1f} | {row['cores']:.1f} |"
            for row in rows
        ]
        *_, last = rows
        for detail in ("cpu_a_landing_by_process", "most", "requests_a_landing"):
            lines += ["", f"{detail}, of the last: {json.dumps(last[detail])}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
