"""What a build costs after one new batch, by the number of batches that the warehouse holds.

    python benchmarks/dbt_cost.py [--held 10,1000] [--products 10000]

Lands `held` batches, builds, then lands three more, one by one, and builds after each as the transform does. A day
changes the price of 3 % of the products and the stock of all, takes one in 200 away and brings one in 200. Times are
dbt's own, of each node, in a process that has dbt imported; the median of the three builds counts. Writes
results/dbt_cost.json, and the table in dbt/README.md between `<!-- cost -->` and `<!-- /cost -->`.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from flows.landing.batch import Batch, Manifest  # noqa: E402
from flows.landing.names import MANIFEST, RECORDS, new_batch_id  # noqa: E402

SOURCE = "dummyjson.products"
RESULTS = Path(__file__).parent / "results" / "dbt_cost.json"
README = ROOT / "dbt" / "README.md"
INCREMENTAL = (
    "base_dummyjson__products_manifests",
    "base_dummyjson__products",
    "base_dummyjson__products_batches",
    "dim_products_history",
    "fct_product_snapshots",
    "category_summary",
)
WHOLE = ("dim_products", "export_dim_products")
RECORDS_OF_A_DAY = """
copy (
    select
        id,
        'Product ' || id as title,
        'Made to last, sold with care, and described at some length, as products are.' as description,
        'category-' || id % 24 as category,
        -- a price holds for 33 days, and each day another thirtieth changes
        (1 + hash(id, ({day} + id) // 33) % 40000 / 100)::double as price,
        (id % 20 + 0.25)::double as "discountPercentage",
        (2.5 + hash(id, {day}, 'rating') % 250 / 100)::double as rating,
        hash(id, {day}, 'stock') % 120 as stock,
        ['garden', 'tools'] as tags,
        'Brand ' || id % 50 as brand,
        'SKU-' || id as sku,
        1 + id % 9 as weight,
        'In Stock' as "availabilityStatus",
        [{{rating: 1 + id % 5, "date": '2025-04-30T09:41:02.053Z', "reviewerEmail": 'a' || id || '@example.com'}}]
            as reviews,
        1 + id % 20 as "minimumOrderQuantity",
        ['https://img.example.com/' || id || '/1.webp', 'https://img.example.com/' || id || '/2.webp'] as images
    from range({day} * {products} // 200, {day} * {products} // 200 + {products}) as ids(id)
) to '{file}' (format json, compression gzip)
"""


def land(root: Path, day: int, products: int) -> None:
    """One batch, written by DuckDB because Python would take an hour for a thousand."""
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)
    batch = Batch(root, SOURCE, new_batch_id(at, UUID(int=day)))
    folder = Path(batch.folder)
    folder.mkdir(parents=True)
    file = folder / RECORDS
    with duckdb.connect() as connection:
        connection.execute(RECORDS_OF_A_DAY.format(day=day, products=products, file=file))
    manifest = Manifest(
        source=SOURCE,
        batch_id=batch.batch_id,
        rows=products,
        bytes=file.stat().st_size,
        sha256="not looked at by dbt",
        total=products,
        extracted_at=at,
        flow_run_id=UUID(int=day),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json())


def build(*arguments: str) -> tuple[float, dict[str, float]]:
    """Seconds of one `dbt build`, and of each of its nodes."""
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.cli.main import dbtRunner

    started = time.perf_counter()
    result = dbtRunner().invoke(["build", "--exclude-resource-type", "unit_test", "--quiet", *arguments])
    seconds = time.perf_counter() - started
    nodes = result.result.results if isinstance(result.result, RunExecutionResult) else []
    if not result.success:
        raise SystemExit(f"dbt build failed: {result.exception or [node.message for node in nodes]}")
    return seconds, {node.node.name: node.execution_time for node in nodes}


def measure(held: int, products: int, folder: Path) -> dict[str, Any]:
    """The cost of the build after one new batch when `held` batches are there."""
    landing, warehouse = folder / "landing", folder / "warehouse.duckdb"
    os.environ |= {"BATON_LANDING_ROOT": str(landing), "BATON_WAREHOUSE": str(warehouse)}
    build()
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda day: land(landing, day, products), range(held)))
    first, _ = build("--select", f"source:{SOURCE}+")
    builds = []
    for day in range(held, held + 3):
        land(landing, day, products)
        builds.append(build("--select", f"source:{SOURCE}+"))
    nodes = {name: round(statistics.median(nodes[name] for _, nodes in builds), 3) for name in builds[0][1]}
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = {
            name: connection.sql(f"select count(*) from {name}").fetchall()[0][0]
            for name in ("base.base_dummyjson__products", "marts.dim_products_history", "marts.fct_product_snapshots")
        }
    return {
        "batches_held": held,
        "first_build_seconds": round(first, 1),
        "build_after_one_batch_seconds": round(statistics.median(seconds for seconds, _ in builds), 2),
        "incremental_models_seconds": round(sum(nodes[name] for name in INCREMENTAL), 3),
        "other_models_and_tests_seconds": round(sum(nodes.values()) - sum(nodes[name] for name in INCREMENTAL), 3),
        "nodes": dict(sorted(nodes.items(), key=lambda item: -item[1])),
        "rows": rows,
        "warehouse_mb": round(warehouse.stat().st_size / 1e6),
    }


def table(results: dict[str, Any]) -> str:
    """The smallest and the largest size side by side, in Markdown; seconds, and how many times as long it takes."""
    small, large = results["sizes"][0], results["sizes"][-1]

    def line(name: str, seconds: Callable[[dict[str, Any]], float]) -> str:
        before, after = seconds(small), seconds(large)
        return f"| {name} | {before:.2f} | {after:.2f} | {after / before:.2f} |"

    def nodes(*names: str) -> Callable[[dict[str, Any]], float]:
        return lambda size: sum(float(size["nodes"][name]) for name in names)

    return "\n".join(
        [
            f"| seconds after one new batch of {results['products_a_batch']:,} products | "
            f"{small['batches_held']:,} batches held | "
            f"{large['batches_held']:,} batches held | times |",
            "|---|---|---|---|",
            line("**incremental models together**", nodes(*INCREMENTAL)),
            *(line(f"`{name}`", nodes(name)) for name in INCREMENTAL),
            *(line(f"`{name}`, whole", nodes(name)) for name in WHOLE),
            line("views and tests", lambda size: sum(size["nodes"].values()) - nodes(*INCREMENTAL, *WHOLE)(size)),
            line("**the whole `dbt build`**, two threads", lambda size: float(size["build_after_one_batch_seconds"])),
        ]
    )


def drawn(text: str, results: dict[str, Any]) -> str:
    """The README with the table in its place."""
    before, rest = text.split("<!-- cost -->\n")
    return f"{before}<!-- cost -->\n{table(results)}\n<!-- /cost -->{rest.split('<!-- /cost -->')[1]}"


def main() -> None:
    """Measures each size in a folder of its own, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", default="10,1000", help="numbers of batches held, with commas between")
    parser.add_argument("--products", type=int, default=10_000, help="products in a batch")
    arguments = parser.parse_args()
    sizes = []
    with tempfile.TemporaryDirectory(prefix="dbt_cost_") as temporary:
        os.environ |= {
            "DBT_PROJECT_DIR": str(ROOT / "dbt"),
            "DBT_PROFILES_DIR": str(ROOT / "dbt"),
            "DBT_TARGET_PATH": str(Path(temporary) / "target"),
            "DBT_LOG_PATH": str(Path(temporary) / "logs"),
        }
        for held in map(int, arguments.held.split(",")):
            folder = Path(temporary) / str(held)
            folder.mkdir()
            sizes.append(measure(held, arguments.products, folder))
            print(json.dumps(sizes[-1], indent=2), flush=True)
            shutil.rmtree(folder)
    growth = {
        name: round(sizes[-1][name] / sizes[0][name], 2)
        for name in (
            "incremental_models_seconds",
            "other_models_and_tests_seconds",
            "build_after_one_batch_seconds",
        )
    }
    results = {
        "products_a_batch": arguments.products,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "largest_against_smallest": growth,
        "sizes": sizes,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    README.write_text(drawn(README.read_text(), results))
    print(json.dumps(growth, indent=2))


if __name__ == "__main__":
    main()
