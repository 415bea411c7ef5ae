"""What a transform costs by the number of batches that were landed and processed before: many small batches.

    python benchmarks/ledger_scale.py [--held 10,10000] [--times 5]

For each size: lands so many batches of 12 products, processes them in one run, and then measures, in a process that has
everything imported and against a real Prefect server, a transform that finds nothing to do, and one that finds one new
batch. The median counts. Writes results/ledger_scale.json.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RESULTS = Path(__file__).parent / "results" / "ledger_scale.json"
SOURCE, PRODUCTS = "dummyjson.products", 12
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def land(root: Path, number: int) -> None:
    """One batch, an hour after the one before it."""
    from flows.landing.batch import Batch
    from flows.landing.names import new_batch_id
    from flows.landing.writer import as_lines, open_writer
    from stack.sample_api.data import Shop, product

    at = FIRST + timedelta(hours=number)
    with open_writer(Batch(root, SOURCE, new_batch_id(at, UUID(int=number + 1)))) as writer:
        writer.write(as_lines(product(Shop(at.date()), 1 + id_) for id_ in range(PRODUCTS)))
        writer.publish(total=PRODUCTS, extracted_at=at, flow_run_id=uuid4())


def transform() -> tuple[str, float, dict[str, float]]:
    """The state's name, the seconds that the run took, and those of the slowest nodes."""
    from flows.transform import transform as flow
    from flows.warehouse import dbt

    nodes: dict[str, float] = {}
    invoke = dbt.run_dbt

    def noted(*arguments: Any) -> list[dbt.Node]:
        result = invoke(*arguments)
        nodes.update({node.name: node.seconds for node in result})
        return result

    dbt.run_dbt = noted  # type: ignore[assignment]
    began = time.perf_counter()
    state = flow(return_state=True)
    seconds = time.perf_counter() - began
    dbt.run_dbt = invoke
    if not state.is_completed():
        raise SystemExit(f"the transform ended as {state.name}: {state.message}")
    return str(state.name), seconds, nodes


def measure(held: int, times: int) -> dict[str, Any]:
    """One size, in a folder of its own."""
    root = Path(os.environ["BATON_LANDING_ROOT"])
    for number in range(held):
        land(root, number)
    _, first, _ = transform()
    nothing, one, nodes = [], [], []
    for number in range(held, held + times):
        name, seconds, _ = transform()
        assert name == "NothingToDo", name
        nothing.append(seconds)
        land(root, number)
        name, seconds, found = transform()
        assert name == "Completed", name
        one.append(seconds)
        nodes.append(found)
    slowest = {name: round(statistics.median(found[name] for found in nodes), 3) for name in nodes[0]}
    return {
        "held": held,
        "all_at_once_seconds": round(first, 2),
        "nothing_to_do_seconds": round(statistics.median(nothing), 3),
        "one_new_batch_seconds": round(statistics.median(one), 3),
        "slowest_nodes": dict(sorted(slowest.items(), key=lambda item: -item[1])[:8]),
    }


@contextmanager
def folder() -> Iterator[None]:
    """A landing, a warehouse and dbt's artifacts of one size; the environment names them."""
    with tempfile.TemporaryDirectory(prefix="baton-scale-") as name:
        os.environ |= {
            "BATON_LANDING_ROOT": f"{name}/landing",
            "BATON_WAREHOUSE": f"{name}/warehouse.duckdb",
            "DBT_TARGET": "dev",
            "DBT_TARGET_PATH": f"{name}/target",
            "DBT_LOG_PATH": f"{name}/logs",
        }
        yield


def main() -> None:
    """Every size, and how much more the last costs than the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held", default="10,10000")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    from stack.local.processes import free_port, prefect_server

    port = free_port()
    sizes = []
    with tempfile.TemporaryDirectory(prefix="baton-scale-server-") as server:
        # Prefect reads its settings when it is imported, which the functions above do.
        os.environ |= {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_HOME": f"{server}/home"}
        with prefect_server(Path(server), {"PREFECT_SERVER_UI_ENABLED": "false"}, port):
            for held in map(int, arguments.held.split(",")):
                with folder():
                    sizes.append(measure(held, arguments.times))
                    print(json.dumps(sizes[-1]), flush=True)
    ratios = {
        name: round(sizes[-1][f"{name}_seconds"] / sizes[0][f"{name}_seconds"], 2)
        for name in ("nothing_to_do", "one_new_batch")
    }
    outcome = {
        "sizes": sizes,
        "last_to_first": ratios,
        "products_a_batch": PRODUCTS,
        "times": arguments.times,
        "versions": {name: version(name) for name in ("prefect", "dbt-core", "dbt-duckdb", "duckdb")},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
    }
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(outcome, indent=2) + "\n")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
