"""What the harness adds to the preparation of the prefork engine: the points, in each flow run that is forked."""

import os
from pathlib import Path
from typing import Any

import prefect.flow_engine

run_flow = prefect.flow_engine.run_flow


def run_flow_with_points(*arguments: Any, **options: Any) -> Any:
    """In the fork, once its flow is loaded; the engine itself has neither flows nor points."""
    from tests.chaos import points

    points.install(Path(os.environ["CHAOS_FAULTS"]))
    return run_flow(*arguments, **options)


prefect.flow_engine.run_flow = run_flow_with_points
