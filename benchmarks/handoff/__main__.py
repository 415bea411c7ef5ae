"""`make bench`: measures, keeps the raw results, writes the tables and the picture, prints the targets.

python -m benchmarks.handoff [--rounds 20] [--only handoffs,burst,runs,extract,increments] [--systems ours,airflow]
python -m benchmarks.handoff --only handoffs --rounds 5 --add    # five rounds more
python -m benchmarks.handoff --only report      # tables and picture anew, from the results that are kept
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import extract, increments
from benchmarks.handoff import burst, flow_runs, report, run, summary
from benchmarks.handoff.systems import SYSTEMS
from flows.settings import PROJECT

IDLE_SECONDS = 60.0
ON_STACKS = {"handoffs", "burst", "runs"}


def main() -> int:
    """Ends everything that it started, also when it is interrupted."""
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    (PROJECT / ".bench").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=PROJECT / ".bench"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    parts = set(arguments.only.split(","))
    kept = False
    try:
        if parts & ON_STACKS:
            measure_systems(arguments, parts, folder, say)
        if "extract" in parts:
            keep("extract", {"rows": extract.measure(folder / "extract", arguments.rounds, say)})
        if "increments" in parts:
            rounds = min(arguments.rounds, 5)
            keep("increments", {"rows": increments.measure(folder / "increments", rounds, say)})
    except Exception:
        kept = True
        print(f"the logs are kept in {folder}", file=sys.stderr)
        raise
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    results = report.load()
    report.write(results)
    print("\n" + report.text(results))
    return 0


def measure_systems(arguments: argparse.Namespace, parts: set[str], folder: Path, say: Any) -> None:
    """What needs the systems to run: each part is written as soon as it has been measured."""
    names = arguments.systems.split(",")
    if "handoffs" not in parts:  # Bursts and flow runs are of these two only.
        names = [name for name in names if name in ("ours", "stock-tuned")]
    with run.started(names, folder, say) as systems:
        by_name = {running.name: running for running in systems}
        if "handoffs" in parts:
            rows = run.rounds(systems, arguments.rounds, say)
            say(f"all at rest, {arguments.idle_seconds:.0f} s")
            idle = run.idle(systems, arguments.idle_seconds)
            say("memory")
            memory = {running.name: run.memory(running) for running in systems}
            commit = report.commit()
            measured = {"handoffs": [row | {"commit": commit} for row in rows], "idle": idle, "memory": memory}
            earlier = report.load().get("handoffs", {})
            keep("handoffs", {"dbt": run.dbt_arguments()} | summary.together(earlier, measured, arguments.add))
        if "burst" in parts and {"ours", "stock-tuned"} <= set(by_name):
            say("a burst")
            api = run.sample_api(folder)
            ours = burst.ours(by_name["ours"], api)
            say(f"  ours: {ours}")
            naive = burst.naive(by_name["stock-tuned"], api)
            say(f"  one build an event: {naive}")
            keep("burst", {"ours": ours, "naive": naive})
        if "runs" in parts and "ours" in by_name:
            say("flow runs a minute")
            keep("runs", {"a_minute": flow_runs.a_minute(by_name["ours"])})


def keep(part: str, result: dict[str, Any]) -> None:
    """Raw results, with the machine and the versions they are of."""
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / f"{part}.json").write_text(json.dumps(report.about() | result, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.handoff", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="hand-offs of each kind")
    parser.add_argument(
        "--only", default="handoffs,burst,runs,extract,increments", help="parts, with commas between, or report"
    )
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="with commas between")
    parser.add_argument("--add", action="store_true", help="hand-offs beside those that are kept, not in their place")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS, help="how long CPU at rest is measured")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
