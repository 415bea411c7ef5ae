"""What the worker starts in place of `python -m prefect.engine`: the same, with the points of the harness in it."""

import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos import points

if __name__ == "__main__":
    points.install(Path(os.environ["CHAOS_FAULTS"]))
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
