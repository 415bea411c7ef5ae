"""The dbt project on a landing and a warehouse of its own, run for real in the test's process."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from dbt_common.events.base_types import EventLevel, EventMsg
from dbt_common.events.functions import msg_to_dict

from flows.landing.batch import Batch, list_batches
from flows.landing.batch import Manifest as BatchManifest
from flows.landing.names import MANIFEST, RECORDS, new_batch_id
from flows.landing.writer import as_lines, open_writer
from flows.warehouse import ledger

PROJECT = Path(__file__).parents[2] / "dbt"

Record = dict[str, Any]


@dataclass
class Built:
    """What came of one dbt invocation."""

    success: bool
    statuses: dict[str, str]
    """Node name -> status; tests have theirs."""
    messages: dict[str, str]
    """Node name -> message of the nodes that failed."""
    warnings: list[str]
    """Every warning that dbt logged."""


@dataclass
class Place:
    """A landing and a warehouse, always in the same folders: a changed path would make dbt parse everything again."""

    landing: Path
    warehouse: Path
    manifest: Manifest | None = field(default=None, repr=False)
    """The project as dbt parsed it; kept, because parsing again takes a third of a build of these few rows."""
    _landed: int = 0

    @property
    def empty_warehouse(self) -> Path:
        """What one build of an empty landing made: every model, no rows."""
        return self.landing.parent / "empty.duckdb"

    def clear(self, *, new: bool = False) -> None:
        """No batch, and a warehouse as after the first build of an empty landing; none at all if `new`."""
        shutil.rmtree(self.landing, ignore_errors=True)
        for file in self.warehouse.parent.iterdir():
            file.unlink()
        if not new:
            if not self.empty_warehouse.exists():
                empty = self.dbt("build")
                assert empty.success, empty.messages
                shutil.move(self.warehouse, self.empty_warehouse)
            shutil.copy(self.empty_warehouse, self.warehouse)

    def land(self, source: str, records: Sequence[Record], at: datetime, rows: int | None = None) -> str:
        """A published batch of these records, read at that time; its id. `rows` makes the manifest lie."""
        self._landed += 1
        batch = Batch(self.landing, source, new_batch_id(at, UUID(int=self._landed)))
        with open_writer(batch) as writer:
            writer.write(as_lines(records))
            writer.rows = writer.rows if rows is None else rows
            writer.publish(total=writer.rows, extracted_at=at, flow_run_id=UUID(int=self._landed))
        return batch.batch_id

    def land_lines(self, source: str, lines: Sequence[str], at: datetime, reading: str | None = None) -> str:
        """A published batch of records that are written as they are given, such as numbers that no double holds.

        Without `reading` its manifest does not say whether it is full, as those of earlier versions.
        """
        self._landed += 1
        batch = Batch(self.landing, source, new_batch_id(at, UUID(int=self._landed)))
        folder = Path(batch.folder)
        folder.mkdir(parents=True)
        content = gzip.compress("".join(f"{line}\n" for line in lines).encode())
        (folder / RECORDS).write_bytes(content)
        manifest = BatchManifest(
            source=source,
            batch_id=batch.batch_id,
            rows=len(lines),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            total=len(lines),
            extracted_at=at,
            flow_run_id=UUID(int=self._landed),
        )
        said = json.loads(manifest.model_dump_json(exclude={"reading"})) | ({"reading": reading} if reading else {})
        (folder / MANIFEST).write_text(json.dumps(said))
        return batch.batch_id

    def compiled(self, sql: str) -> str:
        """SQL with macros in it, as dbt renders it."""
        answer = dbtRunner(self.parsed()).invoke(["compile", "--inline", sql, "--quiet", "--log-level", "none"])
        close_warehouse()
        assert answer.success, answer.exception
        return str(answer.result.results[0].node.compiled_code)  # type: ignore[union-attr]

    def numbered(self, number: int) -> "Place":
        """The same place; the id of the next batch ends in the number after this one."""
        self._landed = number
        return self

    def keep(self, name: str) -> None:
        """Keeps a copy of everything that is landed and built, to `bring_back` later."""
        for folder in (self.landing, self.warehouse.parent):
            shutil.copytree(folder, self.landing.parent / f"{name}-{folder.name}")

    def bring_back(self, name: str) -> bool:
        """Whether a copy of that name was kept; if so, it is in place now."""
        if not (self.landing.parent / f"{name}-{self.landing.name}").exists():
            return False
        for folder in (self.landing, self.warehouse.parent):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.landing.parent / f"{name}-{folder.name}", folder)
        return True

    def dbt(self, *arguments: str) -> Built:
        """One dbt invocation, in this process."""
        warnings: list[str] = []

        def listen(event: EventMsg) -> None:
            if event.info.level == EventLevel.WARN:
                warnings.append(msg_to_dict(event)["info"]["msg"])

        # Another target or other variables would be another project to dbt; `docs` and `parse` write what was parsed.
        own = arguments[0] in ("docs", "parse") or {"--target", "--vars"} & {*arguments}
        if arguments[0] in ("build", "run"):
            arguments = (*arguments, "--no-write-json")
        try:
            runner = dbtRunner(None if own else self.parsed(), callbacks=[listen])
            result = runner.invoke([*arguments, "--quiet", "--log-level", "none"])
        finally:
            close_warehouse()
        if result.exception:
            raise result.exception
        found = getattr(result.result, "results", None) or []
        nodes = [node for node in found if node.node.resource_type != "operation"]
        bad = [node for node in nodes if node.status in ("error", "fail", "runtime error")]
        return Built(
            success=result.success,
            statuses={node.node.name: str(node.status) for node in nodes},
            messages={node.node.name: node.message for node in bad},
            warnings=warnings,
        )

    def parsed(self) -> Manifest:
        """The project, parsed once a session: no test changes a file of it."""
        if self.manifest is None:
            answer = dbtRunner().invoke(["parse", "--quiet", "--log-level", "none"])
            assert isinstance(answer.result, Manifest), answer.exception
            self.manifest = answer.result
        return self.manifest

    def build(self, *arguments: str) -> Built:
        """`dbt build` as the transform runs it: of what the landed sources feed, and without unit tests."""
        return self.dbt("build", "--exclude-resource-type", "unit_test", *(arguments or self.selection()))

    def selection(self) -> list[str]:
        """dbt's arguments that select what the landed sources feed."""
        return ["--select", *(f"source:{source}+" for source in sorted({b.source for b in list_batches(self.landing)}))]

    def built(self, *arguments: str) -> Built:
        """`dbt build` that succeeds."""
        built = self.build(*arguments)
        assert built.success, built.messages
        return built

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The result of a query on the warehouse; times are UTC."""
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.sql(query).fetchall()

    def quarantine(self, source: str, batch_id: str) -> None:
        """What the transform does with a batch that no build can take."""
        with duckdb.connect(str(self.warehouse)) as connection:
            ledger.quarantine(connection, {(source, batch_id): "a test says so"})

    def replay(self, source: str, batch_id: str) -> None:
        """What `baton replay` does."""
        with duckdb.connect(str(self.warehouse)) as connection:
            ledger.unquarantine(connection, (source, batch_id))


def close_warehouse() -> None:
    """What a connection that is kept open leaves to its caller."""
    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
        DuckDBConnectionManager.close_all_connections()


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The one place of the session, as whatever test came before has left it."""
    folder = tmp_path_factory.getbasetemp() / "dbt"
    made = Place(folder / "landing", folder / "warehouse" / "warehouse.duckdb")
    made.warehouse.parent.mkdir(parents=True)
    return made


@pytest.fixture
def place(places: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty landing and a warehouse without rows, and everything that dbt reads from the environment set to them."""
    folder = places.landing.parent
    monkeypatch.setenv("BATON_LANDING_ROOT", str(places.landing))
    monkeypatch.setenv("BATON_WAREHOUSE", str(places.warehouse))
    monkeypatch.setenv("DBT_PROJECT_DIR", str(PROJECT))
    monkeypatch.setenv("DBT_PROFILES_DIR", str(PROJECT))
    monkeypatch.setenv("DBT_TARGET", "dev")
    monkeypatch.setenv("DBT_DUCKDB_KEEP_OPEN", "True")
    monkeypatch.setenv("DBT_TARGET_PATH", str(folder / "target"))
    monkeypatch.setenv("DBT_LOG_PATH", str(folder / "logs"))
    places.clear()
    return places


def day(number: int, hour: int = 0) -> datetime:
    """The first day is 1 January 2026."""
    return datetime(2026, 1, number, hour, tzinfo=UTC)


def product(number: int, **changed: Any) -> Record:
    """A product as the API gives it, with these keys changed; `key=None` leaves the key out."""
    record = {
        "id": number,
        "title": f"Product {number}",
        "description": "Made to last.",
        "category": f"category-{number % 3}",
        "price": 10 * number + 0.5,
        "discountPercentage": 5.25,
        "rating": 4.5,
        "stock": number,
        "tags": ["garden", "tools"],
        "brand": "Dunmere",
        "sku": f"SKU-{number}",
        "weight": 3,
        "dimensions": {"width": 1.5, "height": 2, "depth": 3.25},
        "warrantyInformation": "1 year",
        "shippingInformation": "Ships in a day",
        "availabilityStatus": "In Stock",
        "reviews": [
            {
                "rating": 5,
                "comment": "Would buy again",
                "date": "2025-04-30T09:41:02.053Z",
                "reviewerName": "PERSONAL name",
                "reviewerEmail": "PERSONAL@example.com",
            }
        ],
        "returnPolicy": "30 days",
        "minimumOrderQuantity": 1,
        "meta": {"createdAt": "2025-04-30", "updatedAt": "2025-04-30", "barcode": "1", "qrCode": "https://x.example"},
        "images": ["https://img.example.com/1.webp", "https://img.example.com/2.webp"],
        "thumbnail": "https://img.example.com/t.webp",
    }
    return without_none(record | changed)


def cart(number: int, user: int, *items: tuple[int, int], **changed: Any) -> Record:
    """A cart of (product, quantity) items at ten dollars a unit, a tenth off."""
    products = [
        {
            "id": product_id,
            "title": f"Product {product_id}",
            "price": 10,
            "quantity": quantity,
            "total": 10 * quantity,
            "discountPercentage": 10,
            "discountedTotal": 9 * quantity,
            "thumbnail": "https://img.example.com/t.webp",
        }
        for product_id, quantity in items
    ]
    quantity = sum(quantity for _, quantity in items)
    record = {
        "id": number,
        "products": products,
        "total": 10 * quantity,
        "discountedTotal": 9 * quantity,
        "userId": user,
        "totalProducts": len(items),
        "totalQuantity": quantity,
    }
    return without_none(record | changed)


def user(number: int, **changed: Any) -> Record:
    """A user; every personal value holds the word PERSONAL."""
    address = {
        "address": "PERSONAL street",
        "city": "PERSONAL city",
        "state": "PERSONAL state",
        "stateCode": "PERSONAL",
        "postalCode": "PERSONAL 12345",
        "coordinates": {"lat": -77.16, "lng": -92.08},
        "country": "PERSONAL country",
    }
    personal = (
        "firstName lastName maidenName email phone username password birthDate image bloodGroup eyeColor ip macAddress "
        "university ein ssn userAgent"
    )
    record: Record = {name: f"PERSONAL {name}" for name in personal.split()}
    record |= {
        "id": number,
        "age": 30 + number % 40,
        "gender": "female" if number % 2 else "male",
        "height": 171.5,
        "weight": 71.5,
        "hair": {"color": "PERSONAL", "type": "PERSONAL"},
        "address": address,
        "bank": {name: f"PERSONAL {name}" for name in ("cardExpire", "cardNumber", "cardType", "currency", "iban")},
        "company": {"department": "Sales", "name": "PERSONAL", "title": "PERSONAL", "address": address},
        "crypto": {"coin": "PERSONAL", "wallet": "PERSONAL", "network": "PERSONAL"},
        "role": "user",
    }
    return without_none(record | changed)


def without_none(record: Record) -> Record:
    """A key whose value is None is left out, as the API leaves keys out."""
    return {key: value for key, value in record.items() if value is not None}
