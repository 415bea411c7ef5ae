"""A reader of the published marts, as a dashboard is one: `python -m tests.support.reader READS STOP_FILE`.

It reads at least so many times, and until there is a file of that name. Each read asks three marts which batch they
hold, and with how many products; a read that fails, or of which two marts disagree, ends it with exit code 1.
"""

import sys
from pathlib import Path

import duckdb

from flows.settings import Settings
from flows.warehouse import ducklake

QUESTION = """
select
    (select string_agg(distinct _batch_id) || ' ' || count(*) from {schema}.dim_products) as products,
    (
        select _batch_id || ' ' || count(*) from {schema}.fct_product_snapshots
        group by _batch_id order by _batch_id desc limit 1
    ) as snapshots,
    (
        select sum(product_count) from {schema}.category_summary
        where summary_date = (select max(summary_date) from {schema}.category_summary)
    ) as summary
"""


def read(settings: Settings, lake: duckdb.DuckDBPyConnection | None) -> str:
    """The newest batch that the marts hold; AssertionError if they are not of one moment."""
    if lake:
        products, snapshots, summary = lake.sql(QUESTION.format(schema="published")).fetchall()[0]
    else:
        with duckdb.connect(str(settings.published_marts), read_only=True) as connection:
            products, snapshots, summary = connection.sql(QUESTION.format(schema="marts")).fetchall()[0]
    assert products == snapshots, (products, snapshots)
    assert int(products.split()[1]) == summary, (products, summary)
    return str(products)


def main(reads: int, stop: Path) -> int:
    """Prints the number of reads, and how many different moments were seen."""
    settings = Settings()
    lake = ducklake.connect(settings) if settings.on_lake else None
    seen: list[str] = []
    while len(seen) < reads or not stop.exists():
        seen.append(read(settings, lake))
    print(len(seen), len(set(seen)), sorted(seen, key=seen.index) == sorted(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
