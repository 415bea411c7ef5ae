"""What the transform of one more increment costs, by the number of batches of its source that the warehouse holds.

    python -m benchmarks.increments [--held 10,1000] [--rounds 5] [--rows 100]

Each size has a landing and a warehouse of its own, with so many increments of shop.orders. In turn, each in a process
of its own that has built once before, one more is landed, and the transform flow takes it, against a real Prefect
server. Prints each transform; only `make bench` keeps results.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.settings import PROJECT
from stack.local.processes import prefect_server

SOURCE = "shop.orders"
HELD = (10, 1000)
ROWS = 100
ORDERS = 10_000
"""So many orders there are; each increment changes the next of them, in turn."""
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def measure(
    folder: Path, rounds: int, say: Callable[[str], None], held: Sequence[int] = HELD, rows: int = ROWS
) -> list[dict[str, Any]]:
    """Every transform that counts, a row each."""
    found = []
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with prefect_server(folder, clean) as api:
        for position in range(rounds):
            for number in held:
                own = folder / f"{number}"
                row = {"held": number, "round": position, **run(own, number, rows, {**clean, "PREFECT_API_URL": api})}
                found.append(row)
                say(f"{number:,} batches held: {row['seconds']:.2f} s, {row['cpu']:.2f} CPU s")
    return found


def medians(rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """By number of batches held."""
    return {
        held: {name: statistics.median(row[name] for row in rows if row["held"] == held) for name in ("seconds", "cpu")}
        for held in sorted({row["held"] for row in rows})
    }


def run(folder: Path, held: int, rows: int, environment: dict[str, str]) -> dict[str, float]:
    """One transform that counts, in a process of its own; what it says of itself."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.increments", "--one", "--held", str(held), "--rows", str(rows)],
        cwd=PROJECT,
        env=environment
        | {
            "PREFECT_HOME": str(folder.parent / "prefect"),
            "BATON_LANDING_ROOT": str(folder / "landing"),
            "BATON_WAREHOUSE": str(folder / "warehouse.duckdb"),
            "DBT_TARGET_PATH": str(folder / "target"),
            "DBT_LOG_PATH": str(folder / "logs"),
        },
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{held} held: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def transform_once(held: int, rows: int) -> None:
    """Brings the warehouse to so many batches, then two more, one after the other; prints what the second cost."""
    from flows.landing.batch import list_batches
    from flows.settings import Settings
    from flows.transform import transform

    root = Path(Settings().landing_root)
    for _ in range(held - len(list_batches(root))):
        land(root, rows)
    transform()
    land(root, rows)
    transform()
    land(root, rows)
    began, cpu = time.perf_counter(), time.process_time()
    transform()
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}))


def land(root: Path, rows: int) -> None:
    """One increment: the next orders have changed, an hour after the one before."""
    from flows.landing.batch import Batch, Reading, list_batches
    from flows.landing.names import new_batch_id
    from flows.landing.writer import as_lines, open_writer
    from stack.sample_api.orders import written

    number = len(list_batches(root))
    at = FIRST + timedelta(hours=number)
    batch = Batch(root, SOURCE, new_batch_id(at, UUID(int=number)))
    orders = [
        {
            "order_id": f"SO-{(number * rows + place) % ORDERS:06d}",
            "customer": {"number": place},
            "status": "paid",
            "currency": "EUR",
            "total": number + place / 100,
            "placed_at": written(FIRST),
            "updated_at": written(at),
        }
        for place in range(rows)
    ]
    reading = Reading(reading="changes", primary_key=("order_id",), cursor_from=written(FIRST), cursor_to=written(at))
    with open_writer(batch) as writer:
        writer.write(as_lines(orders))
        writer.publish(total=None, extracted_at=at, flow_run_id=UUID(int=number), reading=reading)


def main() -> None:
    """Measures as the command line says, and prints the ratio of the largest to the smallest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", default=",".join(map(str, HELD)), help="numbers of batches held, commas between")
    parser.add_argument("--rounds", type=int, default=5, help="transforms of each size")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of an increment")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    held = [int(number) for number in arguments.held.split(",")]
    if arguments.one:
        transform_once(held[0], arguments.rows)
        return
    with tempfile.TemporaryDirectory(prefix="increments_") as temporary:
        found = medians(measure(Path(temporary), arguments.rounds, print, held, arguments.rows))
    print(f"{held[-1]:,} held against {held[0]:,}: {found[held[-1]]['seconds'] / found[held[0]]['seconds']:.2f}")


if __name__ == "__main__":
    main()
