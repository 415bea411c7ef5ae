"""`make chaos`: the full profile, then the control. What is done already is not done again: it can be stopped at any
time and goes on with the same folder."""

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
    parser.add_argument("--landings", type=int, default=1000, help="at least; a fifth as many in each control")
    parser.add_argument("--kills", type=int, default=None, help="a fifth of the landings by default")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=PROJECT / "data" / "chaos", help="kept, to go on in")
    parser.add_argument("--minutes", type=float, default=None, help="for each arm: begin no round after so many")
    parser.add_argument("--arm", choices=[*ARMS, "naive-cron"], action="append", help="all by default")
    parser.add_argument("--results", type=Path, default=results.FILE)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the stack is ended, too.
    codes = {name: results.run_arm(arm, arguments) for name, arm in ARMS.items() if name in (arguments.arm or ARMS)}
    if "naive-cron" in (arguments.arm or ["naive-cron"]):
        results.simulate_cron(arguments)
    print(results.table(arguments.results))
    if arguments.results == results.FILE:
        results.publish()
    return codes.get("baton", 0)


if __name__ == "__main__":
    sys.exit(main())
