"""A source that is read by changes, brought by its declaration and models: its marts do not depend on any order."""

import json
import random
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.dbt.conftest import PROJECT, Place, day

SALES = "market.sales"
FILES = {
    "base/market/__sources.yml": """
sources:
  - name: market
    tables:
      - name: sales
        config: {meta: {primary_key: [shop_id, order.id]}}
        columns:
          - {name: shop_id, data_type: text}
          - {name: order.id, data_type: bigint}
          - {name: price, data_type: "decimal(12,2)"}
          - {name: version, data_type: bigint}
""",
    "base/market/base_market__sales_manifests.sql": """
{{ config(pre_hook="{{ delete_quarantined_batches('market.sales') }}") }}
{{ landed_manifests(source('market', 'sales')) }}
""",
    "base/market/base_market__sales.sql": """
{{ config(pre_hook="{{ delete_batches_without_manifest(ref('base_market__sales_manifests')) }}") }}
{{ landed_records(source('market', 'sales'), ref('base_market__sales_manifests')) }}
""",
    "base/market/base_market__sales_batches.sql": """
{{ config(
    incremental_strategy='delete+insert', unique_key='_batch_id',
    pre_hook="{{ delete_batches_without_manifest(ref('base_market__sales_manifests')) }}",
) }}
{{ loaded_batches(ref('base_market__sales_manifests'), ref('base_market__sales')) }}
""",
    "base/market/base_market__sales.yml": """
models:
  - name: base_market__sales_batches
    data_tests:
      - batches_are_sound:
          name: sales_batches_are_sound
          arguments: {source_name: market, table_name: sales}
      - batches_are_as_usual:
          name: sales_batches_are_as_usual
          arguments: {source_name: market, table_name: sales}
          config: {severity: warn}
""",
    "staging/market/stg_market__sales.sql": """
select _batch_id, _extracted_at, _row_number, shop_id, "order.id" as order_id, price, version
from ({{ typed_records('market.sales') }})
""",
    "marts/dim_sales.sql": """
{{ config(contract={'enforced': false}) }}
select shop_id, order_id, price, version
from {{ ref('stg_market__sales') }}
where (_batch_id, _row_number) in ({{ current_records('base_market__sales', version='version') }})
""",
    "marts/dim_sales_history.sql": """
{{ config(
    contract={'enforced': false}, materialized='incremental', incremental_strategy='delete+insert',
    unique_key=['shop_id', 'order_id', 'valid_from'],
    pre_hook="{{ delete_versions_since_change(ref('base_market__sales_batches')) }}",
    post_hook="{{ store_batches(ref('base_market__sales_batches')) }}",
) }}
{{ history(
    staging=ref('stg_market__sales'), batches=ref('base_market__sales_batches'), keys=['shop_id', 'order_id'],
    attributes=['price', 'version'], version='version',
) }}
""",
}
Key = tuple[str, int]
Values = tuple[int, int]
"""Version and price."""


@dataclass(frozen=True)
class Reading:
    """One batch of orders."""

    at: datetime
    kind: str
    orders: dict[Key, Values]


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The project with a source more, on a landing and a warehouse of its own."""
    folder = tmp_path_factory.mktemp("shop")
    project = folder / "dbt"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    for name, content in FILES.items():
        file = project / "models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (folder / "warehouse").mkdir()
    variables = {
        "BATON_LANDING_ROOT": folder / "landing",
        "BATON_WAREHOUSE": folder / "warehouse" / "warehouse.duckdb",
        "DBT_PROJECT_DIR": project,
        "DBT_PROFILES_DIR": project,
        "DBT_TARGET": "dev",
        "DBT_DUCKDB_KEEP_OPEN": "True",
        "DBT_TARGET_PATH": folder / "target",
        "DBT_LOG_PATH": folder / "logs",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    return Place(folder / "landing", folder / "warehouse" / "warehouse.duckdb")


def land(place: Place, number: int, reading: Reading) -> str:
    """A batch whose id depends on the reading, not on when it came."""
    lines = [
        json.dumps({"shop_id": shop_id, "order": {"id": order_id}, "price": price, "version": version})
        for (shop_id, order_id), (version, price) in reading.orders.items()
    ]
    return place.numbered(number).land_lines(SALES, lines, reading.at, reading.kind)


def days_of_a_shop(seed: int) -> list[Reading]:
    """Orders that change, go and come; full readings now and then, changes that overlap, and some of old versions."""
    chance = random.Random(seed)
    orders: dict[Key, Values] = {}
    past: list[dict[Key, Values]] = []
    readings = []
    for number in range(1, 13):
        for key in [(shop_id, order_id) for shop_id in ("a", "b") for order_id in range(1, 4)]:
            version, price = orders.get(key, (0, 0))
            if chance.random() < 0.5:
                orders[key] = (number, chance.randint(1, 3))
            elif key in orders and chance.random() < 0.15:
                del orders[key]
            elif version:
                orders[key] = (version, price)
        past.append(dict(orders))
        kind = "full" if number in (4, 9) else "changes"
        since = number if kind == "changes" else 0
        lag = chance.randint(0, 2)
        read = past[-1] if kind == "full" or chance.random() < 0.8 else past[max(0, number - 3)]
        readings.append(
            Reading(
                day(number), kind, {key: value for key, value in read.items() if value[0] >= min(since, number) - lag}
            )
            if kind == "changes"
            else Reading(day(number), kind, dict(read))
        )
    return readings


def expected_orders(readings: list[Reading]) -> list[tuple[object, ...]]:
    """What exists today, as plainly as possible."""
    current: dict[Key, Values] = {}
    for reading in sorted(readings, key=lambda reading: reading.at):
        if reading.kind == "full":
            current = dict(reading.orders)
        else:
            for key, values in reading.orders.items():
                current[key] = max(current.get(key, values), values, key=lambda values: values[0])
    return sorted((*key, price, version) for key, (version, price) in current.items())


def expected_history(readings: list[Reading]) -> list[tuple[object, ...]]:
    """Type 2, order by order and reading by reading."""
    versions: list[tuple[object, ...]] = []
    for key in {key for reading in readings for key in reading.orders}:
        best: Values | None = None
        open_since: datetime | None = None
        shown: Values | None = None
        for reading in sorted(readings, key=lambda reading: reading.at):
            now = shown
            if key in reading.orders:
                best = max(best or reading.orders[key], reading.orders[key], key=lambda values: values[0])
                now = best
            elif reading.kind == "full":
                now = None
            if now != shown:
                if shown and open_since:
                    versions.append((*key, shown[1], shown[0], open_since, reading.at))
                shown, open_since = now, reading.at
        if shown and open_since:
            versions.append((*key, shown[1], shown[0], open_since, None))
    return sorted(versions, key=lambda version: (version[:2], version[4]))


def marts(place: Place) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Both marts of orders."""
    return (
        place.rows("select shop_id, order_id, price::bigint, version from marts.dim_sales order by all"),
        place.rows(
            "select shop_id, order_id, price::bigint, version, valid_from, valid_to from marts.dim_sales_history "
            "order by shop_id, order_id, valid_from"
        ),
    )


def test_changes_in_any_order_with_overlap_and_replay_give_what_plain_python_says(shop: Place) -> None:
    select = ("run", "--select", f"source:{SALES}+")
    for seed in range(2):
        readings = days_of_a_shop(seed)
        chance = random.Random(seed)
        shop.clear(new=True)
        waiting = list(enumerate(readings, 1))
        if seed:
            chance.shuffle(waiting)
        landed: list[Reading] = []
        while waiting:
            group = [waiting.pop(0) for _ in range(min(len(waiting), chance.randint(2, 6)))]
            ids = [land(shop, number, reading) for number, reading in group]
            landed += [reading for _, reading in group]
            assert shop.dbt(*select).success
            assert marts(shop) == (expected_orders(landed), expected_history(landed))
            if chance.random() < 0.5:
                without = [reading for reading in landed if reading != group[0][1]]
                shop.quarantine(SALES, ids[0])
                assert shop.dbt(*select).success
                assert marts(shop) == (expected_orders(without), expected_history(without))
                shop.replay(SALES, ids[0])
        assert shop.dbt(*select).success
        assert marts(shop) == (expected_orders(readings), expected_history(readings))


def test_a_small_reading_of_changes_is_no_loss_of_volume_and_its_keys_are_counted(shop: Place) -> None:
    many = {("a", number): (1, 5) for number in range(1, 101)}
    land(shop, 1, Reading(day(1), "full", many))
    land(shop, 2, Reading(day(2), "changes", {("a", 7): (2, 6)}))
    land(shop, 3, Reading(day(3), "changes", {}))
    built = shop.built("--select", f"source:{SALES}+")
    assert built.warnings == []
    assert shop.rows("select count(*), sum(price)::bigint from marts.dim_sales") == [(100, 501)]
    lines = [json.dumps({"shop_id": "a", "order": {"id": n}, "price": 1, "version": 3}) for n in (1, 2, 1)]
    batch_id = shop.numbered(3).land_lines(SALES, lines, day(4), "changes")
    message = shop.build("--select", f"source:{SALES}+").messages["sales_batches_are_sound"]
    assert f"{SALES} batch {batch_id}: ids that more than one record has" in message
    assert "'[a, 1]'" in message


def test_a_source_without_a_primary_key_may_repeat_records(shop: Place) -> None:
    file = Path(shop.landing.parent, "dbt", "models", "base", "market", "__sources.yml")
    file.write_text(file.read_text().replace("        config: {meta: {primary_key: [shop_id, order.id]}}\n", ""))
    for mart in ("dim_sales",):
        Path(shop.landing.parent, "dbt", "models", "marts", f"{mart}.sql").unlink()
    line = json.dumps({"shop_id": "a", "order": {"id": 1}, "price": 1, "version": 3})
    shop.land_lines(SALES, [line, line], day(1))
    assert shop.build("--select", "base_market__sales_batches", "+base_market__sales_batches").messages == {}
    assert shop.rows("select loaded_rows, repeated_ids, reading from base.base_market__sales_batches") == [
        (2, None, "full")
    ]
