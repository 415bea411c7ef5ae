"""The warehouse that many processes write: DuckLake on a real Postgres, with a real Prefect server for the turns."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.states import State

from flows import build, ledger, turns
from flows.__main__ import main as flows_command
from flows.landing import Batch
from flows.settings import PROJECT, Settings
from flows.transform import transform
from tests.room import WITHOUT_PRICES, rewrite
from tests.scale.conftest import execute
from tests.scale.lake_room import LakeRoom

EVENT = str(uuid4())


def run(**parameters: object) -> State[object]:
    return transform(return_state=True, **parameters)  # type: ignore[no-any-return, call-overload]


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
    assert run(event_id=EVENT).message.startswith("1 batches with 12 rows")
    assert lake_room.rows("select count(*) from base.base_dummyjson__products") == [(24,)]
    assert lake_room.rows("select count(*) from ops.ledger where not announced") == [(0,)]


def test_a_source_whose_turn_another_has_is_left_to_it_and_the_others_are_taken(lake_room: LakeRoom) -> None:
    lake_room.land("users")
    assert run().is_completed()  # The project has been built whole; from here on each source has its own turn.
    products, carts = lake_room.land("products", "carts")
    with turns.turns(Settings(), [[products.source]], 0) as mine:
        assert mine == [products.source]
        with turns.turns(Settings(), [[products.source], [carts.source]], 0) as also_mine:
            assert also_mine == [carts.source]
        state = run(event_id=EVENT)
        assert state.is_completed(), state.message
        assert lake_room.rows("select source, batch_id from ops.ledger where source <> 'dummyjson.users'") == [
            carts.key
        ]
        assert run(event_id=EVENT).name == "LeftToAnother"
        # Who was not started by an event has to know that nothing is pending when it ends.
        lake_room.patch.setenv("BATON_WAREHOUSE_WAIT_SECONDS", "1")
        state = run()
        assert state.is_failed()
        assert "dummyjson.products: another transform was at work for all of 1 seconds" in str(state.message)
    assert run(event_id=EVENT).is_completed()
    assert products.key in lake_room.rows("select source, batch_id from ops.ledger")


def test_sources_whose_turns_are_free_are_built_at_once_and_one_that_cannot_be_stops_no_other(
    lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake_room.land("users")
    assert run().is_completed()
    builds: list[str] = []
    invoke = build.invoke

    def noted(arguments: Sequence[str], settings: Settings) -> list[build.Node]:
        builds.append(" ".join(arguments))
        return invoke(arguments, settings)

    monkeypatch.setattr(build, "invoke", noted)
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


def test_a_transform_looks_again_after_giving_back_a_turn(lake_room: LakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    lake_room.land("products")
    assert run().is_completed()
    (first,) = lake_room.land("products")
    late: list[Batch] = []
    do = turns.without_conflicts

    def do_and_let_another_batch_land(work: turns.Work, sources: turns.Sources) -> None:
        do(work, sources)
        if not late:
            late.extend(lake_room.land("products"))
            # Its event comes while the turn is still held.
            assert run(event_id=EVENT).name == "LeftToAnother"

    monkeypatch.setattr(turns, "without_conflicts", do_and_let_another_batch_land)
    assert run(event_id=EVENT).is_completed()
    assert {first.key, late[0].key} <= set(lake_room.rows("select source, batch_id from ops.ledger"))


HOLD = """
import sys, time
from flows import turns
from flows.settings import Settings
with turns.turns(Settings(), [sys.argv[1:]], 0) as mine:
    print(*mine, flush=True)
    time.sleep(600)
"""


def test_a_killed_transform_gives_its_turns_back_at_once(lake_room: LakeRoom) -> None:
    sources = ["dummyjson.carts", "dummyjson.products"]
    holder = subprocess.Popen([sys.executable, "-c", HOLD, *sources], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        assert holder.stdout.readline().split() == sources
        with turns.turns(Settings(), [sources], 0) as mine:
            assert mine == []
        # All of a group or none: what was free of it is free for others.
        with (
            turns.turns(Settings(), [["dummyjson.users", *sources]], 0),
            turns.turns(Settings(), [["dummyjson.users"]], 0) as mine,
        ):
            assert mine == ["dummyjson.users"]
    finally:
        holder.kill()
        holder.communicate()
    with turns.turns(Settings(), [sources], 10) as mine:
        assert mine == sources


def test_turns_end_with_their_session_and_a_transform_that_has_lost_its_own_is_told_of_no_error(
    lake_room: LakeRoom,
) -> None:
    with turns.turns(Settings(), [["dummyjson.users"]], 0) as mine:
        assert mine
        catalog, _ = Settings().lake
        held = "locktype = 'advisory' and datname = current_database()"
        ended = execute(
            f"select pg_terminate_backend(l.pid) from pg_locks l join pg_database d on d.oid = database where {held}",
            catalog,
        )
        assert len(ended) == 1
        with turns.turns(Settings(), [["dummyjson.users"]], 10) as also_mine:
            assert also_mine


def test_two_transforms_of_one_source_at_once_double_nothing_even_without_turns(
    lake_room: LakeRoom, tmp_path: Path
) -> None:
    lake_room.land("products")
    assert run().is_completed()
    lake_room.land("products")
    lake_room.land("products")
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    both = [lake_room.start("transform_without_turns", str(meeting)) for _ in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert len(list(meeting.glob("*.here"))) == 2, outputs
    assert all("ended as Completed" in text or "ended as NothingToDo" in text for text in outputs), outputs
    for table in ("base.base_dummyjson__products", "marts.fct_product_snapshots"):
        counts = lake_room.rows(f"select _batch_id, count(*) from {table} group by all")
        assert len(counts) == 3
        assert {rows for _, rows in counts} == {12}, table
    for table in ("base.base_dummyjson__products_manifests", "base.base_dummyjson__products_batches", "ops.ledger"):
        assert lake_room.rows(f"select count(*) from {table}") == [(3,)], table


def test_what_a_person_does_by_hand_works_on_the_lake(lake_room: LakeRoom, capsys: pytest.CaptureFixture[str]) -> None:
    (batch,) = lake_room.land("products")
    assert run().is_completed()
    with ledger.opened(Settings()) as connection:
        ledger.set_aside(connection, {("dummyjson.users", batch.batch_id): "to try it"}, str(uuid4()))
    assert flows_command(["quarantine"]) == 0
    assert "to try it" in capsys.readouterr().out
    assert flows_command(["replay", "dummyjson.users", batch.batch_id]) == 0
    assert flows_command(["replay", "dummyjson.users", batch.batch_id]) == 1
    assert flows_command(["maintain", "--days", "0"]) == 0
    assert lake_room.rows("select count(*) from marts.dim_products") == [(12,)]
    assert lake_room.rows("select count(*) from ducklake_snapshots('warehouse')") == [(1,)]
    assert flows_command(["prune", "--days", "0"]) == 0
    assert "1 batches" in capsys.readouterr().out


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
