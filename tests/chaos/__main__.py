"""`make chaos`: one more piece of the record for each arm, as long as the minutes say. It can be stopped at any time:
what is done counts."""

import argparse
import signal
import sys
from pathlib import Path

from flows.settings import PROJECT
from tests.chaos import harness, results
from tests.chaos.naive import arms

ARMS = {arm.name: arm for arm in (harness.OURS, arms.EVENT_ARM, arms.LAUNCH_ARM)}


def main() -> int:
    """0 only if the chain lost, doubled and tore nothing; what becomes of the control is not asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="for each arm: begin no round after so many")
    parser.add_argument("--landings", type=int, default=None, help="begin no round after so many in an arm")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--arm", choices=[*ARMS, "naive-cron"], action="append", help="this chain alone by default")
    parser.add_argument("--report", action="store_true", help="run nothing, count what the record holds")
    parser.add_argument("--folder", type=Path, default=PROJECT / "data" / "chaos", help="of the stacks; kept")
    parser.add_argument("--results", type=Path, default=results.FOLDER)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the stack is ended, too.
    chosen = [] if arguments.report else arguments.arm or ["baton"]
    codes = {name: results.run_arm(arm, arguments) for name, arm in ARMS.items() if name in chosen}
    if "naive-cron" in chosen:
        results.simulate_cron(arguments)
    print(results.report(arguments.results))
    if arguments.results == results.FOLDER:
        results.publish()
    return codes.get("baton", 0)


if __name__ == "__main__":
    sys.exit(main())
