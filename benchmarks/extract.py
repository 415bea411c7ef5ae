"""What the extract flow costs against a bare loop: time, CPU and memory, by the number of records.

Both read the same pages, put together in memory (pages.py), in turn, each in a process of its own. Ours is the whole
flow with its event, its checks and its artifact, against a real Prefect server; the loop only reads and writes.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.settings import PROJECT
from stack.processes import answers, free_port, prefect_server, start, stop

PAGE_SIZE = 100
SIZES = {194: 10, 10_000: 5, 1_000_000: 2}
"""Records, and how often they are read by each of the two."""
ARMS = ("bare", "ours")


def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every reading, a row each; at most `rounds` of a size."""
    rows = []
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with prefect_server(folder, clean) as api:
        for records, times in SIZES.items():
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            pages = [sys.executable, str(Path(__file__).parent / "pages.py"), str(port), str(records)]
            start("pages", pages, folder, clean, ready=lambda url=url: answers(f"{url}/products?limit=1&skip=0"))
            try:
                for position in range(min(times, rounds)):
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


def run(arm: str, url: str, folder: Path, api: str, environment: dict[str, str]) -> dict[str, float]:
    """One reading in a process of its own; what it says of itself."""
    landing = folder / "extracted"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.extract", arm],
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


def main(arm: str) -> None:
    """One reading here; prints seconds (imports left out), CPU seconds, MB at the most and records."""
    from benchmarks import bare_extract
    from flows.extract import extract
    from flows.landing import COMPRESSION
    from flows.settings import Settings

    landing, url = Settings().landing_root, Settings().api_urls["dummyjson"]
    landing.mkdir(parents=True)
    began, cpu = time.perf_counter(), time.process_time()
    if arm == "ours":
        rows = extract("dummyjson.products", page_size=PAGE_SIZE, handoff="caller")["rows"]
    else:
        rows = bare_extract.extract(url, landing / "records.jsonl.gz", PAGE_SIZE, COMPRESSION)
    row = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": rows,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1])
