"""The warehouse that many processes write: DuckLake on a real Postgres, with a real Prefect server for the locks."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import State

from flows.landing.batch import Batch
from flows.processing.source_locks import lock_groups, lock_sources
from flows.settings import PROJECT, Settings
from flows.transform import transform
from flows.warehouse import dbt, ducklake, ledger
from flows.warehouse.connection import connect
from stack.cli import run as baton
from tests.scale.conftest import execute
from tests.support.lake_room import LakeRoom
from tests.support.room import WITHOUT_PRICES, rewrite

EVENT = str(uuid4())


def run(**parameters: Any) -> State[Any]:
    return transform(return_state=True, **parameters)


def test_batches_of_every_source_go_into_the_marts_and_the_ledger_and_nothing_is_left_to_do(
    lake_room: LakeRoom,
) -> None:
    batches = lake_room.land("products", "carts", "users")
    state = run()
    assert state.is_completed(), state.message
    assert lake_room.rows("select source, batch_id, rows > 0 from ops.ledger order by all") == sorted(
        (batch.source, batch.batch_id, True) for batch in batches
    )
    assert lake_room.rows("select count(*), count(distinct product_id) from marts.dim_products") == [(12, 12)]
    assert run().name == "NothingToDo"
    lake_room.land("products")
    assert str(run(event_id=EVENT).message).startswith("1 batch with 12 rows")
    assert lake_room.rows("select count(*) from base.base_dummyjson__products") == [(24,)]
    assert lake_room.rows("select count(*) from ops.ledger where not announced") == [(0,)]


def test_a_source_that_another_has_locked_is_left_to_it_and_the_others_are_taken(lake_room: LakeRoom) -> None:
    lake_room.land("users")
    # The first build of the project holds every lock; from here on each source has its own.
    assert run().is_completed()
    products, carts = lake_room.land("products", "carts")
    with lock_sources(Settings(), [products.source], 0) as locked:
        assert locked == [products.source]
        with lock_sources(Settings(), [products.source, carts.source], 0) as others:
            assert others == [carts.source]
        state = run(event_id=EVENT)
        assert state.is_completed(), state.message
        assert lake_room.rows("select source, batch_id from ops.ledger where source <> 'dummyjson.users'") == [
            carts.key
        ]
        assert run(event_id=EVENT).name == "SourcesLocked"
        # Who was not started by an event has to know that nothing is pending when it ends.
        lake_room.patch.setenv("BATON_WAREHOUSE_WAIT_SECONDS", "1")
        state = run()
        assert state.is_failed()
        assert "dummyjson.products: another transform was at work for all of 1 seconds" in str(state.message)
    assert run(event_id=EVENT).is_completed()
    assert products.key in lake_room.rows("select source, batch_id from ops.ledger")


def test_sources_that_are_free_are_built_at_once_and_one_that_cannot_be_stops_no_other(
    lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake_room.land("users")
    assert run().is_completed()
    builds: list[str] = []
    run_dbt = dbt.run_dbt

    def noted(arguments: Sequence[str], *others: Any) -> list[dbt.Node]:
        builds.append(" ".join(arguments))
        return run_dbt(arguments, *others)

    monkeypatch.setattr(dbt, "run_dbt", noted)
    lake_room.land("products", "carts")
    assert run(event_id=EVENT).is_completed()
    (both,) = builds
    assert "source:dummyjson.carts+ source:dummyjson.products+" in both
    bad, good = lake_room.land("products", "carts")
    rewrite(bad, WITHOUT_PRICES)
    state = run(event_id=EVENT)
    assert state.is_failed()
    assert "price" in str(state.message)
    entered = lake_room.rows("select source, batch_id from ops.ledger")
    assert good.key in entered
    assert bad.key not in entered
    assert ledger.read(Settings()).failures == {bad.key: 1}, "one run is one failure, however often it has tried"


def landing_once(lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch, table: str) -> list[Batch]:
    """A batch that lands while the first build of the next transform is at work."""
    late: list[Batch] = []
    record = ledger.record

    def record_and_land(*arguments: Any) -> None:
        record(*arguments)
        if not late:
            late.extend(lake_room.land(table))

    monkeypatch.setattr(ledger, "record", record_and_land)
    return late


def test_a_transform_looks_again_after_giving_back_its_locks(
    lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake_room.land("products")
    assert run().is_completed()
    (first,) = lake_room.land("products")
    late = landing_once(lake_room, monkeypatch, "products")
    assert run(event_id=EVENT).is_completed()
    assert {first.key, late[0].key} <= set(lake_room.rows("select source, batch_id from ops.ledger"))


def test_a_batch_that_lands_during_a_full_refresh_fails_it_not(
    lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its source is then processed as any other; that is no second refresh, and nothing was pruned."""
    lake_room.land("products", "carts")
    assert run().is_completed()
    lake_room.land("users")
    late = landing_once(lake_room, monkeypatch, "carts")
    state = run(full_refresh=True)
    assert state.is_completed(), state.message
    assert late[0].key in lake_room.rows("select source, batch_id from ops.ledger")
    assert run().name == "NothingToDo"


HOLD = """
import sys, time
from flows.processing.source_locks import lock_groups
from flows.settings import Settings
with lock_groups(Settings(), [sys.argv[1:]], 0) as locked:
    print(*locked, flush=True)
    time.sleep(600)
"""


def test_a_killed_transform_gives_its_locks_back_at_once(lake_room: LakeRoom) -> None:
    sources = ["dummyjson.carts", "dummyjson.products"]
    holder = subprocess.Popen([sys.executable, "-c", HOLD, *sources], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        assert holder.stdout.readline().split() == sources
        with lock_groups(Settings(), [sources], 0) as locked:
            assert locked == []
        # All of a group or none: what was free of it is free for others.
        with (
            lock_groups(Settings(), [["dummyjson.users", *sources]], 0),
            lock_groups(Settings(), [["dummyjson.users"]], 0) as locked,
        ):
            assert locked == ["dummyjson.users"]
    finally:
        holder.kill()
        holder.communicate()
    with lock_groups(Settings(), [sources], 10) as locked:
        assert locked == sources


def test_locks_end_with_their_session(lake_room: LakeRoom) -> None:
    with lock_groups(Settings(), [["dummyjson.users"]], 0) as locked:
        assert locked
        catalog, _ = Settings().lake
        held = "locktype = 'advisory' and datname = current_database()"
        ended = execute(
            f"select pg_terminate_backend(l.pid) from pg_locks l join pg_database d on d.oid = database where {held}",
            catalog,
        )
        assert len(ended) == 1
        with lock_groups(Settings(), [["dummyjson.users"]], 10) as again:
            assert again


@pytest.mark.parametrize(
    "url", ["postgresql://nobody_of_that_name@127.0.0.1:5432/postgres", "postgresql://root@127.0.0.1:1/x"]
)
def test_a_catalog_that_lets_nobody_in_is_said_at_once_and_not_tried_again(
    lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    lake_room.land("products")
    connections: list[object] = []
    connect_lake = ducklake.connect

    def counted(settings: Settings) -> Any:
        connections.append(settings)
        return connect_lake(settings)

    monkeypatch.setattr(ducklake, "connect", counted)
    monkeypatch.setenv("BATON_LAKE_CATALOG", url)
    state = run()
    assert state.is_failed()
    assert "look at BATON_LAKE_CATALOG" in str(state.message)
    assert len(connections) == 2, "the transform's, and after it the status'"


def test_two_transforms_of_one_source_at_once_double_nothing_even_without_locks(
    lake_room: LakeRoom, tmp_path: Path
) -> None:
    lake_room.land("products")
    assert run().is_completed()
    lake_room.land("products")
    lake_room.land("products")
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    both = [lake_room.start("transform_without_locks", str(meeting)) for _ in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert len(list(meeting.glob("*.here"))) == 2, outputs
    assert all("ended as Completed" in text or "ended as NothingToDo" in text for text in outputs), outputs
    for table in ("base.base_dummyjson__products", "marts.fct_product_snapshots"):
        counts = lake_room.rows(f"select _batch_id, count(*) from {table} group by all")
        assert len(counts) == 3
        assert {rows for _, rows in counts} == {12}, table
    for table in ("base.base_dummyjson__products_manifests", "base.base_dummyjson__products_batches", "ops.ledger"):
        assert lake_room.rows(f"select count(*) from {table}") == [(3,)], table


def test_what_a_person_does_by_hand_works_on_the_lake(
    lake_room: LakeRoom, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (batch,) = lake_room.land("products")
    assert run().is_completed()
    with connect(Settings()) as connection:
        ledger.quarantine(connection, {("dummyjson.users", batch.batch_id): "to try it"}, str(uuid4()))
    assert baton(["quarantine"]) == 0
    assert "to try it" in capsys.readouterr().out
    assert baton(["replay", "dummyjson.users", batch.batch_id]) == 0
    assert baton(["replay", "dummyjson.users", batch.batch_id]) == 1
    assert baton(["maintain", "--days", "0"]) == 0
    assert lake_room.rows("select count(*) from marts.dim_products") == [(12,)]
    kept = lake_room.rows("select count(*) from ducklake_snapshots('warehouse')")
    assert kept == [(2,)], "the newest, and the one that readers see"
    assert baton(["prune", "--days", "0"]) == 0
    assert "1 batch " in capsys.readouterr().out
    baton(["status", "--json"])
    (shown,) = json.loads(capsys.readouterr().out)["sources"]
    assert (shown["source"], shown["last_batch"], shown["rows"]) == (batch.source, batch.batch_id, 12)
    page = tmp_path / "status.html"
    baton(["status", "--html", str(page)])
    assert batch.source in page.read_text()


def test_the_catalogs_password_is_in_no_log(
    lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = str(Settings().lake_catalog.get_secret_value())  # type: ignore[union-attr]
    monkeypatch.setenv("BATON_LAKE_CATALOG", url.replace("root@", "root:canary-in-the-url@"))
    lake_room.land("products")
    assert run().is_completed()
    monkeypatch.setenv("BATON_LAKE_CATALOG", "postgresql://root:canary-in-the-url@127.0.0.1:1/nowhere")
    state = run()
    assert state.is_failed()
    out, err = capfd.readouterr()
    logs = "".join(file.read_text() for file in (tmp_path / "dbt-logs").rglob("*") if file.is_file())
    assert logs
    assert "canary" not in logs + out + err + str(state.message) + repr(Settings())


def test_a_lake_without_its_settings_is_refused_in_one_sentence(
    lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BATON_LAKE_DATA")
    state = run()
    assert state.is_failed()
    assert "BATON_LAKE_DATA" in str(state.message)
