"""What the extract flow costs against a bare loop and against dlt: time, CPU and memory, by the number of records.

    python -m benchmarks.extract [--records 10000,1000000] [--rounds 2]

All read the same pages, put together in memory (pages.py), in turn, each in a process of its own. Ours is the whole
flow with its event, its checks and its artifact, against a real Prefect server; the loop of `requests` and that of
dlt's REST client only read, and write the same lines. Prints each reading; only `make bench` keeps results.
"""

import argparse
import importlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flows.settings import PROJECT
from stack.local.processes import answers, free_port, prefect_server, start, stop

PAGE_SIZE = 100
COMPRESSION = 1
"""zlib's fastest level, for the loops."""
RECORDS = (194, 10_000, 1_000_000)
ARMS = ("bare", "dlt", "ours")


def measure(
    folder: Path, rounds: int, say: Callable[[str], None], sizes: Sequence[int] = RECORDS
) -> list[dict[str, Any]]:
    """Every reading, a row each; at most `rounds` of a size."""
    rows = []
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with prefect_server(folder, clean) as api:
        for records in sizes:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            pages = [sys.executable, str(Path(__file__).parent / "pages.py"), str(port), str(records)]
            start("pages", pages, folder, clean, ready=partial(answers, f"{url}/products?limit=1&skip=0"))
            try:
                for position in range(min(times(records), rounds)):
                    for arm in ARMS:
                        row = {"records": records, "round": position, "arm": arm, **run(arm, url, folder, api, clean)}
                        rows.append(row)
                        say(
                            f"{arm}, {records:,} records: {row['seconds']:.2f} s, {row['cpu']:.2f} CPU s, "
                            f"{row['peak_mb']:.0f} MB"
                        )
            finally:
                stop(folder, "pages")
    return rows


def medians(rows: Sequence[dict[str, Any]]) -> dict[tuple[int, str], dict[str, float]]:
    """By number of records and arm."""
    keys = sorted({(row["records"], row["arm"]) for row in rows})
    return {
        key: {
            name: statistics.median(row[name] for row in rows if (row["records"], row["arm"]) == key)
            for name in ("seconds", "cpu", "peak_mb")
        }
        for key in keys
    }


def times(records: int) -> int:
    """How often so many records are read in each of the ways: the more, the longer it takes and the less it varies."""
    return 10 if records < 1_000 else 5 if records < 100_000 else 2


def run(arm: str, url: str, folder: Path, api: str, environment: dict[str, str]) -> dict[str, float]:
    """One reading in a process of its own; what it says of itself."""
    landing = folder / "extracted"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.extract", "--one", arm],
        cwd=PROJECT,
        env=environment
        | {
            "PREFECT_API_URL": api,
            "PREFECT_HOME": str(folder / "prefect"),
            "BATON_LANDING_ROOT": str(landing),
            "BATON_API_URLS": json.dumps({"dummyjson": url}),
        },
        capture_output=True,
        text=True,
    )
    shutil.rmtree(landing, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{arm}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def read_once(arm: str) -> None:
    """One reading here; prints seconds (imports left out), CPU seconds, MB at the most and records."""
    from flows.extract import extract
    from flows.settings import Settings

    landing, url = Path(Settings().landing_root), Settings().api_urls["dummyjson"]
    landing.mkdir(parents=True)
    loop = None if arm == "ours" else importlib.import_module(f"benchmarks.{arm}_extract").extract
    began, cpu = time.perf_counter(), time.process_time()
    if loop is None:
        manifest: Any = extract("dummyjson.products", page_size=PAGE_SIZE, handoff="caller")  # The state's data.
        rows = manifest["rows"]
    else:
        rows = loop(url, landing / "records.jsonl.gz", PAGE_SIZE, COMPRESSION)
    row = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": rows,
    }
    print(json.dumps(row))


def main() -> None:
    """Measures as the command line says, and prints the ratios of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default=",".join(map(str, RECORDS)), help="numbers of records, commas between")
    parser.add_argument("--rounds", type=int, default=2, help="readings of each kind")
    parser.add_argument("--one", choices=ARMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        read_once(arguments.one)
        return
    sizes = [int(number) for number in arguments.records.split(",")]
    with tempfile.TemporaryDirectory(prefix="extract_") as temporary:
        found = medians(measure(Path(temporary), arguments.rounds, print, sizes))
    for records in sizes:
        ours, bare, dlt = (found[records, arm] for arm in ("ours", "bare", "dlt"))
        print(
            f"{records:,} records: CPU {ours['cpu'] / bare['cpu']:.2f} of the bare loop's, "
            f"{ours['cpu'] / dlt['cpu']:.2f} of dlt's; peak memory {ours['peak_mb']:.0f} MB"
        )


if __name__ == "__main__":
    main()
