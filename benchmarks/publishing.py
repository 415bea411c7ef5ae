"""What publishing the marts costs by their size: seconds, CPU and bytes.

    python benchmarks/publishing.py [--megabytes 1,10,100,1000] [--times 3]

For each size: five marts that are so large together as a DuckDB file, and then a publication of all of them, one after
a fifth was built since, one after a small mart was built since, and a question that finds nothing to publish. Beside it
the other way to publish a fifth: every table written anew. The median counts. Writes results/publishing.json.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RESULTS = Path(__file__).parent / "results" / "publishing.json"
SHARES = {"all_snapshots": 0.6, "a_fifth": 0.2, "history": 0.1, "current": 0.07, "small": 0.03}
BYTES_A_ROW = 16.2
"""As DuckDB compresses them; what the file really has is in the results."""
ROWS = """
create or replace table marts.{mart} as
select
    range as product_id, 'sku-' || hash(range) as sku, 'category-' || (range % 24) as category,
    (hash(range + 1) % 100000 / 100)::decimal(12, 2) as price, (hash(range + 2) % 500)::bigint as stock,
    timestamptz '2026-01-01' + to_seconds(range % 86400) as _extracted_at,
    '20261124T120000Z-' || lpad((range // 1000)::text, 12, '0') as _batch_id
from range({rows})
"""


def build(settings: Any, *marts: str) -> None:
    """As after a dbt build of these marts whose tests have passed."""
    from flows.warehouse.connection import connect

    build_id = str(uuid4())
    with connect(settings) as connection:
        connection.executemany("insert into ops.mart_builds values (?, ?, now())", [(build_id, mart) for mart in marts])
        connection.execute("insert into ops.tested_builds values (?, now())", [build_id])


def timed(function: Callable[[], object]) -> dict[str, float]:
    """Seconds and CPU seconds of one call."""
    began, used = time.perf_counter(), time.process_time()
    function()
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}


def median(measured: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in measured), 3) for name in measured[0]}


def every_table_anew(settings: Any) -> None:
    """The simplest way: no copy of the file before."""
    from flows.warehouse.connection import connect

    with tempfile.TemporaryDirectory(dir=settings.warehouse.parent) as folder, connect(settings) as connection:
        connection.execute(f"attach '{folder}/anew.duckdb' as anew")
        for mart in SHARES:
            connection.execute(f"create table anew.{mart} as from marts.{mart}")
        connection.execute("detach anew")
        descriptor = os.open(f"{folder}/anew.duckdb", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def measure(megabytes: int, times: int, folder: Path) -> dict[str, Any]:
    """One size, in a folder of its own."""
    from flows.settings import Settings
    from flows.warehouse import publishing
    from flows.warehouse.connection import connect
    from flows.warehouse.migrations import migrate

    settings = Settings(warehouse=folder / "warehouse.duckdb", exports=folder)
    with connect(settings) as connection:
        migrate(connection)
        connection.execute("create schema marts")
        for mart, share in SHARES.items():
            connection.execute(ROWS.format(mart=mart, rows=max(1, int(megabytes * 1e6 / BYTES_A_ROW * share))))
    ways: dict[str, list[dict[str, float]]] = {}

    def note(way: str, function: Callable[[], object]) -> None:
        ways.setdefault(way, []).append(timed(function))

    for _ in range(times):
        for way, marts in {"all": list(SHARES), "a_fifth": ["a_fifth"], "small": ["small"]}.items():
            build(settings, *marts)
            note(way, lambda: publishing.publish_if_changed(settings, str(uuid4())))
        note("nothing", lambda: publishing.publish_if_changed(settings, str(uuid4())))
        note("every_table_anew", lambda: every_table_anew(settings))
    published = settings.published_marts
    assert published is not None
    kept = {file.stat().st_ino: file.stat().st_size for file in [published, *folder.glob("marts.duckdb.kept/*")]}
    return {
        "megabytes": round(published.stat().st_size / 1e6, 1),
        "with_the_kept_ones_megabytes": round(sum(kept.values()) / 1e6, 1),
        "rows": sum(max(1, int(megabytes * 1e6 / BYTES_A_ROW * share)) for share in SHARES.values()),
        **{way: median(measured) for way, measured in ways.items()},
        "peak_memory_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def main() -> None:
    """Every size, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", default="1,10,100,1000")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    sizes = []
    for megabytes in map(int, arguments.megabytes.split(",")):
        with tempfile.TemporaryDirectory(prefix="baton-publishing-") as folder:
            sizes.append(measure(megabytes, arguments.times, Path(folder)))
            print(json.dumps(sizes[-1]), flush=True)
    outcome = {
        "sizes": sizes,
        "times": arguments.times,
        "duckdb": version("duckdb"),
        "threads": duckdb.sql("select current_setting('threads')").fetchall()[0][0],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
    }
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(outcome, indent=2) + "\n")


if __name__ == "__main__":
    main()
