"""What became of every batch, from the landing's files and the warehouse's tables; never from logs or exit codes.

Nothing of `flows` is used here: what counts must not share a fault with what is counted.
"""

import contextlib
import gzip
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

BASE, SNAPSHOTS, LATEST = "base.base_dummyjson__products", "marts.fct_product_snapshots", "marts.dim_products"


@dataclass
class Counts:
    """Batch ids, each with what is wrong with it."""

    published: set[str] = field(default_factory=set)
    processed: set[str] = field(default_factory=set)
    lost: dict[str, str] = field(default_factory=dict)
    doubled: dict[str, str] = field(default_factory=dict)
    torn: dict[str, str] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """Every wrong, a line each."""
        kinds = {"lost": self.lost, "doubled": self.doubled, "torn": self.torn}
        return [f"{kind}: {batch}: {why}" for kind, found in kinds.items() for batch, why in sorted(found.items())]


@contextlib.contextmanager
def copy_of(warehouse: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a copy: reading the file itself would lock out the transform. For moments when nobody writes."""
    with tempfile.TemporaryDirectory(dir=warehouse.parent) as folder:
        for file in warehouse.parent.glob(f"{warehouse.name}*"):
            if file.name in {warehouse.name, f"{warehouse.name}.wal"}:
                shutil.copy(file, folder)
        with duckdb.connect(str(Path(folder) / warehouse.name)) as connection:
            yield connection


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    """The result of a query; of a table that does not exist yet, nothing."""
    try:
        return connection.sql(query).fetchall()
    except duckdb.CatalogException:
        return []


def landed_ids(landing: Path) -> set[str]:
    """The batches that a reader sees."""
    return {path.name.removeprefix("batch_id=") for path in landing.glob("dummyjson/products/batch_id=*")}


def pending(landing: Path, warehouse: Path) -> set[str]:
    """The batches that a reader sees and the warehouse's ledger and quarantine do not have."""
    with copy_of(warehouse) as connection:
        known = rows(connection, "select batch_id from ops.ledger") + rows(
            connection, "select batch_id from ops.quarantine"
        )
    return landed_ids(landing) - {batch_id for (batch_id,) in known}


def readers_see_what_is_built(warehouse: Path) -> bool:
    """Whether the published marts are those of the warehouse; true where nothing is published, as by the controls."""
    published = warehouse.with_name("marts.duckdb")
    if not published.exists():
        return True
    query = "select count(*), count(distinct product_id), max(_batch_id) from {}"
    with copy_of(warehouse) as connection, duckdb.connect(str(published), read_only=True) as readers:
        return rows(readers, query.format("dim_products")) == rows(connection, query.format(LATEST))


def count(landing: Path, warehouse: Path, promised: Iterable[str], products: int) -> Counts:
    """Holds every batch that is in the landing, or that a completed extract said to be, against the warehouse.

    Every reading of the API has `products` records, so a batch with another number is torn.
    """
    made = Counts(published=landed_ids(landing) | set(promised))
    with copy_of(warehouse) as connection:
        ledger = dict(rows(connection, "select batch_id, count(*) from ops.ledger group by 1"))
        base = dict(rows(connection, f"select _batch_id, count(*) from {BASE} group by 1"))
        distinct = dict(rows(connection, f"select _batch_id, count(distinct record ->> 'id') from {BASE} group by 1"))
        mart = dict(rows(connection, f"select _batch_id, count(*) from {SNAPSHOTS} group by 1"))
        quarantined = dict(rows(connection, "select batch_id, reason from ops.quarantine where not held"))
        latest = rows(connection, f"select count(*), count(distinct product_id), min(_batch_id) from {LATEST}")
    made.processed = made.published & ledger.keys()
    for batch_id in sorted(made.published | base.keys() | ledger.keys() | mart.keys()):
        folder = landing / "dummyjson" / "products" / f"batch_id={batch_id}"
        if problem := damage(folder, products):
            made.torn[batch_id] = problem
        elif batch_id in quarantined:
            made.torn[batch_id] = f"in quarantine: {quarantined[batch_id]}"
        elif batch_id not in ledger:
            made.lost[batch_id] = f"published, not in the ledger ({base.get(batch_id, 0)} rows in the base model)"
        for name, found in (("the base model", base), ("fct_product_snapshots", mart)):
            if batch_id in ledger and found.get(batch_id, 0) == 0:
                made.lost[batch_id] = f"in the ledger, but none of its rows is in {name}"
            elif 0 < found.get(batch_id, 0) < products:
                made.torn[batch_id] = f"{found[batch_id]} of {products} rows in {name}"
            elif found.get(batch_id, 0) > products or found.get(batch_id, 0) > distinct.get(batch_id, 0):
                made.doubled[batch_id] = f"{found[batch_id]} rows in {name}, {products} were read"
        if ledger.get(batch_id, 0) > 1:
            made.doubled[batch_id] = f"{ledger[batch_id]} times in the ledger"
    if ledger and latest and latest[0][:2] != (products, products):
        made.torn[str(latest[0][2])] = f"dim_products has {latest[0][0]} rows of {latest[0][1]} products"
    if not readers_see_what_is_built(warehouse):
        made.lost["of the published marts"] = "readers do not see what is in the warehouse"
    return made


def damage(folder: Path, products: int) -> str | None:
    """What is wrong with a batch in the landing, read as a stranger would: count the lines of the file."""
    try:
        lines = gzip.decompress((folder / "records.jsonl.gz").read_bytes()).splitlines()
        manifest = json.loads((folder / "manifest.json").read_text())
        ids = {json.loads(line)["id"] for line in lines}
    except (OSError, EOFError, ValueError) as error:
        return f"published, but cannot be read: {error!r}"
    if not len(lines) == len(ids) == manifest["rows"] == products:
        return f"{len(lines)} lines, {len(ids)} ids, {manifest['rows']} in the manifest, {products} were read"
    return None
