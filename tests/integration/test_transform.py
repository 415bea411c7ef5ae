"""The transform flow with real dbt on a real server: what is pending, all of it, once; and its faults."""

import json
import subprocess
import sys
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Running, Scheduled, State

from flows import build, events, ledger, processing
from flows.__main__ import main as flows_command
from flows.extract import extract
from flows.landing import MANIFEST, RECORDS, Batch, landed
from flows.processing import FAILURES_BEFORE_ISOLATION
from flows.settings import Settings
from flows.transform import transform
from stack.processes import wait_until
from tests.room import WITHOUT_PRICES, Room, rewrite


def run(**parameters: Any) -> State[Any]:
    return transform(return_state=True, **parameters)


def land(room: Room, products: int = 20, **options: Any) -> Batch:
    """One more batch, by a run of the extract; its event has arrived."""
    before = set(landed(room.landing))
    with room.api(products=products, **options):
        assert extract(return_state=True, handoff="event").is_completed()
    (batch,) = set(landed(room.landing)) - before
    return batch


def recorded(room: Room) -> list[str]:
    try:
        return [row[0] for row in room.rows("select batch_id from ops.ledger order by all")]
    except Exception as error:  # No warehouse, or none with a ledger, yet.
        assert "ledger" in str(error)
        return []


def test_every_pending_batch_goes_into_the_marts_by_one_build_and_then_into_the_ledger(room: Room) -> None:
    batches = [land(room, 20), land(room, 20)]
    state = run(source="dummyjson.products", batch_id=batches[0].batch_id, event_id=str(uuid4()))
    assert state.is_completed(), state.message
    assert recorded(room) == sorted(batch.batch_id for batch in batches)
    assert room.rows("select count(*), count(distinct product_id) from marts.dim_products") == [(20, 20)]
    runs = room.rows("select distinct transform_flow_run_id from ops.ledger")
    assert runs == [(UUID(str(state.state_details.flow_run_id)),)]


def test_the_ledger_says_by_which_event_and_runs_a_batch_came_and_when(room: Room) -> None:
    batch = land(room)
    wanted = events.event_id(events.EXTRACT_FINISHED, batch.source, batch.batch_id)
    wait_until(lambda: wanted in events.received([wanted], batch.manifest().extracted_at), "the event", 30)
    assert run().is_completed()
    (row,) = room.rows(
        "select source, rows, handoff, event_id, extract_flow_run_id, "
        "landed_at <= event_at and event_at <= started_at and started_at <= processed_at from ops.ledger"
    )
    assert row == ("dummyjson.products", 20, "event", wanted, batch.manifest().flow_run_id, True)


def test_with_nothing_pending_a_run_ends_at_once_and_its_state_says_so(room: Room, monkeypatch: Any) -> None:
    land(room)
    assert run().is_completed()
    monkeypatch.setattr(build, "invoke", lambda *_: pytest.fail("dbt was started"))
    state = run()
    assert (state.name, state.is_completed()) == ("NothingToDo", True)
    assert "every batch" in str(state.message)


def test_an_empty_landing_is_nothing_to_do(room: Room) -> None:
    assert run().name == "NothingToDo"
    assert not room.warehouse.exists()


def test_a_finished_transform_sends_an_event_for_each_source(room: Room) -> None:
    batch = land(room)
    state = run()
    wanted = events.event_id(events.TRANSFORM_FINISHED, "dummyjson.products", str(state.state_details.flow_run_id))
    since = batch.manifest().extracted_at
    wait_until(lambda: wanted in events.received([wanted], since), "transform.finished", 30)
    payload = events.received([wanted], since)[wanted].payload
    assert payload == {"source": "dummyjson.products", "batches": [batch.batch_id], "rows": 20}


def test_transforms_that_wait_for_what_is_processed_now_are_ended_and_no_others(room: Room) -> None:
    first, second = land(room), land(room)
    of_first = {"source": first.source, "batch_id": first.batch_id, "event_id": str(uuid4())}
    of_second = {"source": second.source, "batch_id": second.batch_id}
    nothing_else = {"command": "build", "select": None, "full_refresh": False}
    with get_client(sync_client=True) as client:

        def queued(state: State[Any] | None = None, **parameters: Any) -> UUID:
            return client.create_flow_run(transform, parameters=parameters, state=state or Scheduled()).id

        ended = [queued(**of_first), queued(**of_second), queued(**of_second, **nothing_else)]
        others = [
            queued(),
            queued(source=first.source),
            queued(**of_first | {"batch_id": "20260101T000000Z-000000000000"}),
            queued(**of_first, full_refresh=True),
            queued(**of_first, command="test"),
            queued(**of_first, select="dim_products"),
            queued(Running(), **of_first),
        ]
        state = run(event_id=str(uuid4()))
        assert state.is_completed()
        for run_id in ended:
            found = client.read_flow_run(run_id).state
            assert found
            assert (found.name, found.is_completed()) == ("NothingToDo", True)
            assert str(state.state_details.flow_run_id) in str(found.message)
        for run_id in others:
            assert client.read_flow_run(run_id).state_name in ("Scheduled", "Running", "Late")
            client.delete_flow_run(run_id)


@pytest.mark.parametrize("error", [httpx.ConnectError("no server"), ObjectNotFound(Exception("deleted meanwhile"))])
def test_transforms_that_cannot_be_ended_fail_nothing(room: Room, monkeypatch: Any, error: Exception) -> None:
    def no_server(_: Any) -> None:
        raise error

    batch = land(room)
    monkeypatch.setattr(processing, "end_waiting_for", no_server)
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]


def test_what_the_server_could_not_be_told_fails_no_run_and_is_told_by_the_next(room: Room, monkeypatch: Any) -> None:
    batch, damaged = land(room), land(room)
    (damaged.folder / RECORDS).write_bytes(b"x")

    def no_server(_: Any) -> None:
        raise httpx.ConnectError("no server")

    with monkeypatch.context() as patch:
        patch.setattr(events, "send", no_server)
        state = run()
        assert "set aside, everything else was processed" in str(state.message)
    assert recorded(room) == [batch.batch_id]
    run_id = str(state.state_details.flow_run_id)
    finished = events.event_id(events.TRANSFORM_FINISHED, batch.source, run_id)
    quarantined = events.event_id(events.BATCH_QUARANTINED, batch.source, f"{damaged.batch_id} {run_id}")
    since = batch.manifest().extracted_at
    assert events.received([finished, quarantined], since) == {}
    assert run().name == "NothingToDo"
    wanted = {finished, quarantined}
    wait_until(lambda: events.received(wanted, since).keys() == wanted, "both events", 30)
    with monkeypatch.context() as patch:
        patch.setattr(events, "send", lambda _: pytest.fail("told twice"))
        assert run().name == "NothingToDo"


def test_a_run_has_a_table_of_dbts_nodes_and_a_page_that_links_event_extract_and_transform(room: Room) -> None:
    batch = land(room)
    cause = str(uuid4())
    run_id = str(run(event_id=cause).state_details.flow_run_id)
    with get_client(sync_client=True) as client:
        made = client.request(
            "POST", "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        ).json()
    artifacts = {artifact["key"]: artifact["data"] for artifact in made}
    assert {"dbt-nodes", "processed-batches"} <= set(artifacts)
    statuses = {row["node"]: row["status"] for row in json.loads(artifacts["dbt-nodes"])}
    assert statuses["dim_products"] == "success"
    for part in (cause, batch.batch_id, str(batch.manifest().flow_run_id), run_id):
        assert part in artifacts["processed-batches"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_id": "../../x"}, "batch_id: expected an id such as"),
        ({"source": "dummyjson.products+ --full-refresh"}, "source: expected a name such as"),
        ({"event_id": "1; drop table"}, "event_id: expected a UUID"),
        ({"select": "--full-refresh"}, "select: expected dbt selectors"),
        ({"command": "run-operation"}, "command: expected one of"),
    ],
)
def test_what_is_not_what_it_should_be_is_refused_before_anything_is_done(
    room: Room, parameters: dict[str, str], message: str
) -> None:
    land(room)
    state = run(**parameters)
    assert state.is_failed()
    assert message in str(state.message)
    assert recorded(room) == []


def test_the_parameters_never_say_what_is_read(room: Room) -> None:
    batch = land(room)
    assert run(source="somebody.elses", batch_id="20200101T000000Z-000000000000").is_completed()
    assert recorded(room) == [batch.batch_id]


def test_an_ad_hoc_run_does_what_it_is_told_and_leaves_the_ledger_alone(room: Room) -> None:
    batch = land(room)
    assert run().is_completed()
    later = land(room)
    state = run(command="run", select="stg_dummyjson__products")
    assert state.is_completed(), state.message
    assert "1 nodes" in str(state.message)
    assert recorded(room) == [batch.batch_id]
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id, later.batch_id]


def test_a_selector_that_matches_nothing_fails(room: Room) -> None:
    state = run(command="run", select="no_such_model")
    assert state.is_failed()
    assert "nothing was selected" in str(state.message)


def test_a_damaged_file_is_named_and_set_aside_and_the_others_go_on(room: Room) -> None:
    damaged, whole = land(room), land(room)
    (damaged.folder / RECORDS).write_bytes(b"\x1f\x8b not really gzip")
    state = run()
    assert state.is_failed()
    assert str(damaged.folder / RECORDS) in str(state.message)
    assert recorded(room) == [whole.batch_id]
    assert room.rows("select batch_id from ops.quarantine") == [(damaged.batch_id,)]
    assert run().name == "NothingToDo", "it stops nobody any longer"


def test_a_batch_that_was_set_aside_is_replayed_by_a_command(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    batch = land(room)
    content = (batch.folder / RECORDS).read_bytes()
    (batch.folder / RECORDS).write_bytes(content[:-4])
    assert run().is_failed()
    (batch.folder / RECORDS).write_bytes(content)
    assert flows_command(["quarantine"]) == 0
    assert batch.batch_id in capsys.readouterr().out
    assert flows_command(["replay", batch.source, batch.batch_id]) == 0
    assert flows_command(["replay", batch.source, batch.batch_id]) == 1, "it is not set aside any more"
    assert flows_command(["replay", batch.source, "../../x"]) == 2
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]


def test_rows_that_disagree_with_the_manifest_fail_the_run_and_leave_the_batch_pending(room: Room) -> None:
    batch = land(room)
    manifest = json.loads((batch.folder / MANIFEST).read_text())
    (batch.folder / MANIFEST).write_text(json.dumps(manifest | {"rows": 21}))
    state = run()
    assert state.is_failed()
    assert f"{batch.batch_id}: 20 rows were loaded, its manifest says 21" in str(state.message)
    assert recorded(room) == []


def test_a_failing_dbt_test_fails_the_run_and_leaves_ledger_and_batch_as_they_were(room: Room) -> None:
    good = land(room)
    assert run().is_completed()
    bad = land(room)
    rewrite(bad, WITHOUT_PRICES)
    state = run()
    assert state.is_failed()
    assert "price" in str(state.message)
    assert recorded(room) == [good.batch_id]
    assert [
        batch.batch_id
        for batch in ledger.read(Settings(warehouse=room.warehouse, warehouse_wait_seconds=1)).pending(
            landed(room.landing)
        )
    ] == [bad.batch_id]


def test_a_batch_that_fails_every_build_is_found_and_set_aside_and_the_others_go_on(room: Room) -> None:
    good = land(room)
    assert run().is_completed()
    bad = land(room)
    rewrite(bad, WITHOUT_PRICES)
    for _ in range(FAILURES_BEFORE_ISOLATION):
        assert run().is_failed()
    late = land(room)
    state = run()
    assert state.is_failed()
    assert "price" in str(state.message)
    assert recorded(room) == [good.batch_id, late.batch_id]
    assert room.rows("select batch_id, held from ops.quarantine") == [(bad.batch_id, False)]
    assert room.rows("select distinct _batch_id from base.base_dummyjson__products order by 1") == [
        (good.batch_id,),
        (late.batch_id,),
    ]
    assert room.rows("select count(*) from marts.dim_products") == [(20,)]
    assert run().name == "NothingToDo"


def test_a_project_that_fails_by_itself_sets_no_batch_aside(room: Room, monkeypatch: Any) -> None:
    batch = land(room)

    def broken(*_: Any) -> Any:
        raise build.BuildFailed("the project is broken")

    with monkeypatch.context() as patch:
        patch.setattr(build, "invoke", broken)
        for _ in range(FAILURES_BEFORE_ISOLATION + 1):
            assert run().is_failed()
    assert room.rows("from ops.quarantine") == []
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]


def test_a_crash_between_build_and_ledger_costs_a_rebuild_and_doubles_nothing(room: Room, monkeypatch: Any) -> None:
    batch = land(room)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", lambda *_: (_ for _ in ()).throw(SystemError("killed here")))
        assert run().is_failed()
    assert recorded(room) == []
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]
    assert room.rows("select count(*) from base.base_dummyjson__products") == [(20,)]


def test_a_warehouse_that_another_process_holds_is_a_clear_error_and_the_batch_stays_pending(room: Room) -> None:
    batch = land(room)
    assert run().is_completed()
    land(room)
    room.patch.setenv("BATON_WAREHOUSE_WAIT_SECONDS", "0.3")
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(room.warehouse)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        state = run()
        holder.communicate()
    assert state.is_failed()
    assert "another process held the file" in str(state.message)
    assert recorded(room) == [batch.batch_id]
    assert run().is_completed()
    assert len(recorded(room)) == 2


def test_a_full_refresh_gives_the_same_marts_and_a_true_ledger(room: Room) -> None:
    land(room)
    land(room)
    assert run().is_completed()
    before = room.rows("from marts.dim_products order by all"), recorded(room)
    state = run(full_refresh=True)
    assert state.is_completed(), state.message
    assert (room.rows("from marts.dim_products order by all"), recorded(room)) == before


def test_old_batches_are_pruned_only_if_the_ledger_holds_them_and_a_refresh_then_refuses(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    processed = land(room)
    assert run().is_completed()
    pending = land(room)
    assert flows_command(["prune", "--days", "30"]) == 0
    assert landed(room.landing) == [processed, pending], "neither is old enough"
    assert flows_command(["prune", "--days", "0", "--dry-run"]) == 0
    assert landed(room.landing) == [processed, pending], "a dry run removes nothing"
    assert flows_command(["prune", "--days", "0"]) == 0
    assert landed(room.landing) == [pending]
    assert str(processed.folder) in capsys.readouterr().out
    refused = run(full_refresh=True)
    assert refused.is_failed()
    assert "no longer in the landing" in str(refused.message)
    assert run().is_completed()
    assert len(recorded(room)) == 2


def test_two_extracts_of_unchanged_data_are_two_batches_and_one_row_a_product(room: Room) -> None:
    land(room, 194)
    land(room, 194)
    assert run().is_completed()
    assert len(recorded(room)) == 2
    assert room.rows("select count(*), count(distinct product_id) from marts.dim_products") == [(194, 194)]
