"""`python -m tests.chaos`: the full profile. Resumable: rounds that are done are in the folder's journal."""

import argparse
import signal
import sys
from pathlib import Path

from tests.chaos import harness, results
from tests.chaos.naive import arms

ARMS = {arm.name: arm for arm in (harness.OURS, arms.EVENT_ARM, arms.POST_ARM)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--landings", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=None, help="a fifth of the landings by default")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, required=True, help="kept; the same again goes on where it ended")
    parser.add_argument("--minutes", type=float, default=None, help="begin no round after so many minutes")
    parser.add_argument("--results", type=Path, default=results.FILE)
    parser.add_argument("--arm", choices=ARMS, default="baton", help="the chain itself, or a naive one as control")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the stack is ended, too.
    return results.run_arm(ARMS[arguments.arm], arguments)


if __name__ == "__main__":
    sys.exit(main())
