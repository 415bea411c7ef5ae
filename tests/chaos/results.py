"""Runs the rounds of an arm, keeps a journal of them, and writes what the warehouse says at the end as JSON."""

import json
import os
import platform
import secrets
import time
from argparse import Namespace
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.settings import PROJECT
from stack.local import up
from tests.chaos import counts, points
from tests.chaos.harness import OURS, PRODUCTS, Arm, Chaos, chaos
from tests.chaos.naive import cron
from tests.chaos.schedule import rounds

PAGE = PROJECT / "tests" / "chaos" / "README.md"
FILE = PROJECT / "benchmarks" / "results" / "chaos.json"
STATES = ("Completed", "NothingToDo", "Failed", "Crashed")


def run_arm(arm: Arm, arguments: Namespace) -> int:
    """0 only if nothing was lost, doubled or torn, and every round came to rest."""
    folder: Path = arguments.folder.absolute() / arm.name
    folder.mkdir(parents=True, exist_ok=True)
    plan = the_plan(folder, arguments)
    planned = rounds(plan["seed"], plan["kills"], plan["landings"], arm.where, arm.most)
    journal = folder / "rounds.jsonl"
    done = len(journal.read_text().splitlines()) if journal.exists() else 0
    print(
        f"{arm.name}: seed {plan['seed']}, {plan['landings']} landings, {plan['kills']} kills; {done} rounds are done"
    )
    began = time.monotonic()
    with chaos(arm, folder) as running:
        for round_ in planned[done:]:
            if arguments.minutes is not None and time.monotonic() - began > arguments.minutes * 60:
                break
            entry = running.go_through(round_)
            with journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(
                f"{round_}: {entry['seconds']:.0f} s, {entry['batches']} batches; "
                + ("; ".join(entry["faults"]) or "nothing lost"),
                flush=True,
            )
        outcome: dict[str, Any] = {
            "seed": plan["seed"],
            "landings_planned": plan["landings"],
            "kills_planned": plan["kills"],
        }
        outcome |= measured(running)
    write(arguments.results, arm.name, outcome)
    print(json.dumps({name: outcome[name] for name in SHOWN if name in outcome}, indent=2))
    return 1 if outcome["lost"] + outcome["doubled"] + outcome["torn"] + len(outcome["round_faults"]) else 0


SHOWN = ("published", "processed", "lost", "doubled", "torn", "kills", "recovery_seconds", "runs", "runs_per_batch")


def the_plan(folder: Path, arguments: Namespace) -> dict[str, int]:
    """What an earlier start in this folder decided, else what this one says."""
    file = folder / "plan.json"
    if not file.exists():
        seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
        share = 1 if folder.name == OURS.name else 5
        landings = max(5, arguments.landings // share)
        kills = max(1, (arguments.kills or arguments.landings // 5) // share)
        file.write_text(json.dumps({"seed": seed, "landings": landings, "kills": kills}))
    plan: dict[str, int] = json.loads(file.read_text())
    return plan


def measured(running: Chaos) -> dict[str, Any]:
    """The counts, from the landing and the warehouse; the runs, from the server."""
    counted = running.counted()
    fired = points.fired(running.forks.folder)
    lines = (running.folder / "rounds.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    runs = transform_runs(running)
    made: dict[str, Any] = {
        "rounds": len(entries),
        "kills": {point: fired[point] for point in running.arm.where},
        "kills_in_all": sum(fired.values()),
        "events": dict(Counter(landing["event"] for entry in entries for landing in entry["landings"])),
        "api_faults": dict(Counter(landing["api"] for entry in entries for landing in entry["landings"])),
        "two_transforms_by_hand": sum(entry["by_hand"] for entry in entries),
        "published": len(counted.published),
        "processed": len(counted.processed),
        "lost": len(counted.lost),
        "doubled": len(counted.doubled),
        "torn": len(counted.torn),
        "faults": counted.faults(),
        "round_faults": {entry["number"]: entry["faults"] for entry in entries if entry["faults"]},
        "seconds": round(sum(entry["seconds"] for entry in entries)),
        "runs": runs,
        "runs_per_batch": round(sum(runs.values()) / max(1, len(counted.published)), 2),
        "versions": {name: version(name) for name in ("prefect", "prefect-dbt", "dbt-core", "dbt-duckdb", "duckdb")},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, shared with other work",
        "python": platform.python_version(),
        "scaled": "sweep 60 s for 15 min, late events 40 s for 10 min, silent runs Crashed after 40 s for 90 s",
    }
    if running.stack.warehouse.exists():
        made["recovery_seconds"] = recovery(running)
    return made


def recovery(running: Chaos) -> dict[str, float]:
    """From the batch's landing to its row in the ledger, over all batches, those of killed runs among them."""
    with counts.copy_of(running.stack.warehouse) as connection:
        found = counts.rows(
            connection,
            "select quantile_cont(s, 0.5), quantile_cont(s, 0.95), max(s) "
            "from (select epoch(processed_at - landed_at) as s from ops.ledger)",
        )
    return dict(zip(("p50", "p95", "max"), (round(value or 0, 1) for value in found[0]), strict=True)) if found else {}


def transform_runs(running: Chaos) -> dict[str, int]:
    """Runs of the arm's transform by how they ended."""
    name = running.arm.flows[1]
    with up.client(running.stack) as api:
        return {
            state: api.request(
                "POST",
                "/flow_runs/count",
                json={"flows": {"name": {"any_": [name]}}, "flow_runs": {"state": {"name": {"any_": [state]}}}},
            ).json()
            for state in STATES
        }


def write(file: Path, name: str, outcome: dict[str, Any]) -> None:
    """Puts an arm's outcome into the file, and leaves the other arms in it as they are."""
    known = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known | {name: outcome}, indent=2) + "\n")


def simulate_cron(arguments: Namespace) -> None:
    """The third control costs nothing, so it has as many landings as the chain itself."""
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    kills = arguments.kills or max(1, arguments.landings // 5)
    outcome = {"seed": seed, **cron.simulate(seed, kills, arguments.landings, PRODUCTS)}
    write(arguments.results, "naive-cron", outcome)


NAMES = {
    "baton": "this chain",
    "naive-event": "one file, `emit_event`, an automation",
    "naive-launch": "one file, `run_deployment(timeout=0)`",
    "naive-cron": "one file, two crons five minutes apart (simulated)",
}
COLUMNS = ("published", "kills_in_all", "lost", "doubled", "torn")


def table(file: Path) -> str:
    """The arms side by side, as Markdown."""
    known = json.loads(file.read_text())
    lines = ["| | batches published | kills | lost | doubled | torn |", "|---|---|---|---|---|---|"]
    for name, words in NAMES.items():
        if name in known:
            lines.append(f"| {words} | " + " | ".join(f"{known[name][column]:,}" for column in COLUMNS) + " |")
    return "\n".join(lines)


def publish() -> None:
    """The table of the committed results into the page."""
    before, _, rest = PAGE.read_text().partition("<!-- results -->")
    _, _, after = rest.partition("<!-- /results -->")
    PAGE.write_text(f"{before}<!-- results -->\n{table(FILE)}\n<!-- /results -->{after}")
