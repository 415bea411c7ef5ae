"""The record of the chaos: a file for each run of an arm, kept round by round, and the report over all of them.

Pieces add up if the code behaves alike: a piece holds a hash of all that decides what becomes of a batch, and the
report counts those with the hash of the code as it is.
"""

import hashlib
import json
import math
import os
import platform
import secrets
import subprocess
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.settings import PROJECT
from stack.local import up
from tests.chaos import counts, points
from tests.chaos.harness import PRODUCTS, Arm, Chaos, chaos
from tests.chaos.naive import cron
from tests.chaos.schedule import rounds

PAGE = PROJECT / "tests" / "chaos" / "README.md"
FOLDER = PROJECT / "benchmarks" / "results" / "chaos"
BEHAVIOUR = (
    "flows/**/*",
    "dbt/**/*.sql",
    "dbt/**/*.yml",
    "automations/*.yaml",
    "stack/engine/*.py",
    "stack/local/*.py",
)
"""What decides what becomes of a batch, beside the versions."""
LANDINGS_A_ROUND = 4
STATES = ("Completed", "NothingToDo", "Failed", "Crashed")
PACKAGES = ("prefect", "prefect-dbt", "dbt-core", "dbt-duckdb", "duckdb")
NAMES = {
    "baton": "this chain",
    "naive-event": "one file, `emit_event`, an automation",
    "naive-launch": "one file, `run_deployment(timeout=0)`",
    "naive-cron": "one file, two crons five minutes apart (simulated)",
}
Piece = dict[str, Any]


def run_arm(arm: Arm, arguments: Namespace) -> int:
    """One piece, until the minutes or the landings are used up; 0 only if nothing is lost, doubled or torn in it."""
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    began, stamp = time.monotonic(), datetime.now(UTC)
    folder: Path = arguments.folder.absolute() / f"{arm.name}-{stamp:%Y%m%dT%H%M%S}"
    piece: Piece = {"arm": arm.name, "seed": seed, "began_at": stamp.isoformat(timespec="seconds")} | of_this_code()
    print(f"{arm.name}: seed {seed}", flush=True)
    with chaos(arm, folder) as running:
        entries: list[dict[str, Any]] = []
        for round_ in rounds(seed, 10_000, 10_000 * LANDINGS_A_ROUND, arm.where, arm.most):
            landed = sum(entry["batches"] for entry in entries[-1:])
            if time.monotonic() - began > arguments.minutes * 60 or landed >= (arguments.landings or math.inf):
                break
            entries.append(entry := running.go_through(round_))
            piece |= measured(running, entries)
            write(arguments.results / f"{folder.name}.json", piece)
            what = "; ".join(entry["faults"]) or "nothing lost"
            print(f"{round_}: {entry['seconds']:.0f} s, {entry['batches']} batches; {what}", flush=True)
    return 1 if piece["lost"] + piece["doubled"] + piece["torn"] + len(piece["round_faults"]) else 0


def of_this_code() -> Piece:
    """What a piece was run with."""
    return {
        "behaviour": behaviour(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT, capture_output=True, text=True
        ).stdout.strip(),
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
    }


def behaviour() -> str:
    """A hash of the files that decide what becomes of a batch, and of the versions of what they call."""
    found = hashlib.sha256(json.dumps({name: version(name) for name in PACKAGES}).encode())
    for pattern in BEHAVIOUR:
        for path in sorted(PROJECT.glob(pattern)):
            if path.is_file() and path.suffix not in (".md", ".pyc") and "target" not in path.parts:
                found.update(str(path.relative_to(PROJECT)).encode() + path.read_bytes())
    return found.hexdigest()[:12]


def measured(running: Chaos, entries: Sequence[dict[str, Any]]) -> Piece:
    """The counts, from the landing and the warehouse; the runs, from the server."""
    counted = running.counted()
    fired = points.fired(running.forks.folder)
    return {
        "rounds": len(entries),
        "seconds": round(sum(entry["seconds"] for entry in entries)),
        "kills": {point: fired[point] for point in running.arm.where},
        "events": dict(Counter(landing["event"] for entry in entries for landing in entry["landings"])),
        "api_faults": dict(Counter(landing["api"] for entry in entries for landing in entry["landings"])),
        "published": len(counted.published),
        "processed": len(counted.processed),
        "lost": len(counted.lost),
        "doubled": len(counted.doubled),
        "torn": len(counted.torn),
        "round_faults": {entry["number"]: entry["faults"] for entry in entries if entry["faults"]},
        "runs": transform_runs(running),
        "recovery_seconds": recovery(running) if running.stack.warehouse.exists() else [],
    }


def recovery(running: Chaos) -> list[float]:
    """From the landing of each batch to its row in the ledger, those of killed runs among them."""
    with counts.copy_of(running.stack.warehouse) as connection:
        found = counts.rows(connection, "select epoch(processed_at - landed_at) from ops.ledger")
    return sorted(round(seconds, 1) for (seconds,) in found)


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


def simulate_cron(arguments: Namespace) -> None:
    """The third control: nothing runs, so it costs nothing, and has a thousand landings."""
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    found = cron.simulate(seed, 200, 1000, PRODUCTS)
    piece = {"arm": "naive-cron", "seed": seed, "kills": {"a day": found.pop("kills_in_all")}, **found}
    write(arguments.results / "naive-cron.json", of_this_code() | piece)


def write(file: Path, piece: Piece) -> None:
    """Replaces the file at once: a piece that is cut off counts as far as it came."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(piece, indent=1) + "\n")
    part.rename(file)


def pieces(folder: Path) -> list[Piece]:
    """Those of the code as it is."""
    found: list[Piece] = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [piece for piece in found if piece["behaviour"] == behaviour()]


def report(folder: Path) -> str:
    """The arms side by side over all pieces of the code as it is, as Markdown."""
    lines = [
        "| | pieces | batches | kills | lost | doubled | torn | lost in truth, at most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    known = pieces(folder)
    for arm, words in NAMES.items():
        of_arm = [piece for piece in known if piece["arm"] == arm]
        if of_arm:
            published, lost = total(of_arm, "published"), total(of_arm, "lost")
            kills = sum(sum(piece["kills"].values()) for piece in of_arm)
            figures = [published, kills, lost, total(of_arm, "doubled"), total(of_arm, "torn")]
            bound = f"{100 * upper_bound(lost, published):.2g} %"
            lines.append(f"| {words} | {len(of_arm)} | {' | '.join(f'{each:,}' for each in figures)} | {bound} |")
    ours = [piece for piece in known if piece["arm"] == "baton"]
    if seconds := sorted(each for piece in ours for each in piece["recovery_seconds"]):
        p50, p95 = (seconds[min(len(seconds) - 1, int(len(seconds) * share))] for share in (0.5, 0.95))
        runs = sum(sum(piece["runs"].values()) for piece in ours) / total(ours, "published")
        lines += [
            "",
            f"From publication to the ledger: {p50:.0f} s in the median, {p95:.0f} s at the 95th percentile, "
            f"{seconds[-1]:.0f} s at most. {runs:.1f} transforms a batch.",
        ]
    return "\n".join(lines)


def total(of_arm: Sequence[Piece], name: str) -> int:
    """The sum over the pieces."""
    return sum(int(piece[name]) for piece in of_arm)


def upper_bound(seen: int, number: int, confidence: float = 0.95) -> float:
    """The highest rate, from 0 to 1, at which so few would still be seen in one case of twenty (Clopper-Pearson)."""
    if seen >= number:
        return 1.0
    low, high = seen / number, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        probability = sum(
            math.exp(log_choose(number, k) + k * math.log(rate) + (number - k) * math.log1p(-rate))
            for k in range(seen + 1)
        )
        low, high = (rate, high) if probability > 1 - confidence else (low, rate)
    return high


def log_choose(number: int, k: int) -> float:
    """The logarithm of how many ways there are to choose k of a number."""
    return math.lgamma(number + 1) - math.lgamma(k + 1) - math.lgamma(number - k + 1)


def publish() -> None:
    """The report of the committed pieces into the page."""
    before, _, rest = PAGE.read_text().partition("<!-- results -->")
    _, _, after = rest.partition("<!-- /results -->")
    PAGE.write_text(f"{before}<!-- results -->\n{report(FOLDER)}\n<!-- /results -->{after}")
