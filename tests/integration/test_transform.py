"""The transform flow with real dbt on a real server: what is pending, all of it, once; and its faults."""

import json
import logging
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import httpx
import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_UI_URL, temporary_settings
from prefect.states import Running, Scheduled

from flows.errors import BuildError, DataError, ServerError
from flows.extract import extract
from flows.landing.batch import Batch, list_batches
from flows.landing.names import MANIFEST, RECORDS
from flows.processing import dbt_runs
from flows.processing.build import process_pending
from flows.processing.pending import FAILURES_BEFORE_ISOLATION
from flows.processing.result import TransformRun
from flows.server import events
from flows.server.flow_runs import TAG, of_this_project
from flows.settings import Settings
from flows.transform import transform
from flows.warehouse import dbt, ledger
from stack.cli import run as baton
from stack.local.processes import wait_until
from tests.support.room import WITHOUT_PRICES, Room, rewrite


def run(**parameters: Any) -> State[Any]:
    return transform(return_state=True, **parameters)


def land(room: Room, products: int = 20, **options: Any) -> Batch:
    """One more batch, by a run of the extract; its event has arrived."""
    before = set(list_batches(room.landing))
    with room.api(products=products, **options):
        assert extract(return_state=True, handoff="event").is_completed()
    (batch,) = set(list_batches(room.landing)) - before
    return batch


def recorded(room: Room) -> list[str]:
    try:
        return [row[0] for row in room.rows("select batch_id from ops.ledger order by all")]
    except Exception as error:  # No warehouse, or none with a ledger, yet.
        assert "ledger" in str(error)
        return []


def end_waiting() -> None:
    """No transform waits on the server any more, whatever other tests have left."""
    with get_client(sync_client=True) as client:
        for left in client.read_flow_runs(flow_run_filter=of_this_project(StateType.SCHEDULED, StateType.PENDING)):
            client.delete_flow_run(left.id)


def no_server(*_: Any) -> None:
    raise ServerError("no server")


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
    monkeypatch.setattr(dbt, "run_dbt", lambda *_: pytest.fail("dbt was started"))
    state = run()
    assert (state.name, state.is_completed()) == ("NothingToDo", True)
    assert "every batch" in str(state.message)


def test_an_empty_landing_is_nothing_to_do(room: Room) -> None:
    assert run().name == "NothingToDo"
    assert not room.warehouse.exists()


def test_a_finished_transform_sends_an_event_for_each_source(room: Room) -> None:
    batch = land(room)
    state = run()
    assert state.is_completed()
    wanted = events.event_id(events.TRANSFORM_FINISHED, "dummyjson.products", batch.batch_id)
    since = batch.manifest().extracted_at
    wait_until(lambda: wanted in events.received([wanted], since), "transform.finished", 30)
    payload = events.received([wanted], since)[wanted].payload
    assert payload == {"source": "dummyjson.products", "batches": [batch.batch_id], "rows": 20}
    by_role = {each.role: each for each in events.received([wanted], since)[wanted].related}
    assert by_role["flow-run"].id == f"prefect.flow-run.{state.state_details.flow_run_id}"
    assert str(by_role["flow-run"].name).startswith("transform")
    assert by_role["flow"].name == "transform"


def test_transforms_that_wait_for_what_is_processed_now_are_ended_and_no_others(room: Room) -> None:
    first, second = land(room), land(room)
    of_first: dict[str, Any] = {"source": first.source, "batch_id": first.batch_id, "event_id": str(uuid4())}
    of_second: dict[str, Any] = {"source": second.source, "batch_id": second.batch_id}
    nothing_else: dict[str, Any] = {"command": "build", "select": None, "full_refresh": False}
    with get_client(sync_client=True) as client:

        def queued(state: State[Any] | None = None, **parameters: Any) -> UUID:
            made = client.create_flow_run(transform, parameters=parameters, state=state or Scheduled(), tags=[TAG])
            return made.id

        ended = [queued(**of_first), queued(**of_second), queued(**of_second, **nothing_else)]
        others = [
            queued(),
            queued(source=first.source),
            queued(**of_first | {"batch_id": "20260101T000000Z-000000000000"}),
            queued(**of_first, full_refresh=True),
            queued(**of_first, command="test"),
            queued(**of_first, select="dim_products"),
            queued(Running(), **of_first),
            # Another team's flow of the same name, on the same server.
            client.create_flow_run(transform, parameters=of_first, state=Scheduled()).id,
        ]
        state = run(event_id=str(uuid4()))
        assert state.is_completed()
        for run_id in ended:
            found = client.read_flow_run(run_id).state
            assert found
            assert (found.name, found.is_completed()) == ("NothingToDo", True)
            assert str(state.state_details.flow_run_id) in str(found.message)
            ended_run = client.read_flow_run(run_id)
            assert ended_run.name == "transform dummyjson.products: nothing to do"
            assert set(ended_run.tags) == {TAG, "source:dummyjson.products"}
        for run_id in others:
            assert client.read_flow_run(run_id).state_name in ("Scheduled", "Running", "Late")
            client.delete_flow_run(run_id)


@pytest.mark.parametrize("error", [httpx.ConnectError("no server"), ObjectNotFound(Exception("deleted meanwhile"))])
def test_transforms_that_cannot_be_ended_fail_nothing(room: Room, monkeypatch: Any, error: Exception) -> None:
    def no_server(*_: Any, **__: Any) -> None:
        raise error

    batch = land(room)
    monkeypatch.setattr("prefect.client.orchestration.SyncPrefectClient.read_flow_runs", no_server)
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]


def test_events_that_could_not_be_sent_fail_no_run_and_are_sent_by_the_next(room: Room, monkeypatch: Any) -> None:
    batch, damaged = land(room), land(room)
    Path(damaged.folder, RECORDS).write_bytes(b"x")

    with monkeypatch.context() as patch:
        patch.setattr(events, "send", no_server)
        state = run()
        assert "in quarantine, everything else was processed" in str(state.message)
    assert recorded(room) == [batch.batch_id]
    run_id = str(state.state_details.flow_run_id)
    finished = events.event_id(events.TRANSFORM_FINISHED, batch.source, batch.batch_id)
    quarantined = events.event_id(events.BATCH_QUARANTINED, batch.source, f"{damaged.batch_id} {run_id}")
    since = batch.manifest().extracted_at
    assert events.received([finished, quarantined], since) == {}
    assert run().name == "NothingToDo"
    wanted = {finished, quarantined}
    wait_until(lambda: events.received(wanted, since).keys() == wanted, "both events", 30)
    with monkeypatch.context() as patch:
        patch.setattr(events, "send", lambda _: pytest.fail("sent twice"))
        assert run().name == "NothingToDo"


def artifacts_of(run_id: str) -> dict[str, str]:
    """The data of a run's artifacts, by key."""
    with get_client(sync_client=True) as client:
        made = client.request(
            "POST", "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        ).json()
    return {artifact["key"]: artifact["data"] for artifact in made}


def test_a_run_has_a_table_of_dbts_nodes_and_a_page_that_links_event_extract_and_transform(room: Room) -> None:
    batch = land(room)
    cause = str(uuid4())
    run_id = str(run(event_id=cause).state_details.flow_run_id)
    artifacts = artifacts_of(run_id)
    assert {"dbt-nodes", "processed-batches"} <= set(artifacts)
    statuses = {row["node"]: row["status"] for row in json.loads(artifacts["dbt-nodes"])}
    assert statuses["dim_products"] == "success"
    for part in (cause, batch.batch_id, str(batch.manifest().flow_run_id), run_id):
        assert part in artifacts["processed-batches"]


def test_the_page_of_batches_compares_rows_with_the_batch_before_and_links_into_the_ui_that_is_used(room: Room) -> None:
    land(room, 20)
    assert run().is_completed()
    batch = land(room, 23)
    event = events.event_id(events.EXTRACT_FINISHED, batch.source, batch.batch_id)
    wait_until(lambda: event in events.received([event], batch.manifest().extracted_at), "the event", 30)
    with temporary_settings({PREFECT_UI_URL: "https://prefect.example.com/ui"}):
        page = artifacts_of(str(run().state_details.flow_run_id))["processed-batches"]
    (line,) = [line for line in page.splitlines() if line.startswith("| dummyjson")]
    columns = [column.strip() for column in line.strip("|").split("|")]
    assert columns[2:4] == ["23", "+3"]
    assert float(columns[4]) > 0
    extracted = f"https://prefect.example.com/ui/runs/flow-run/{batch.manifest().flow_run_id}"
    assert f"[extract]({extracted})" in columns[-1]
    assert re.search(
        rf"\[event\]\(https://prefect.example.com/ui/events/event/\d{{4}}-\d\d-\d\d/{event}\)", columns[-1]
    )
    seen = re.sub(r"\([^)]*\)", "", line)
    assert re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", seen) is None, "what a person sees of a line has no UUID"


def test_a_run_is_named_after_what_it_did_and_has_the_tags_of_its_sources(room: Room) -> None:
    good, bad = land(room), land(room)
    Path(bad.folder, RECORDS).write_bytes(b"x")
    states = [run(source=good.source), run()]
    rewrite(land(room), WITHOUT_PRICES)
    states.append(run())
    with get_client(sync_client=True) as client:
        runs = [client.read_flow_run(UUID(str(state.state_details.flow_run_id))) for state in states]
    assert [run.name for run in runs] == [
        "transform dummyjson.products: 1 batch, 1 in quarantine",
        "transform: nothing to do",
        "transform dummyjson.products: failed",
    ]
    assert [run.tags for run in runs] == [["source:dummyjson.products"], [], ["source:dummyjson.products"]]


def test_a_run_says_how_far_dbt_is_and_each_failure_when_it_happens_and_at_the_end_what_was_slow(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dbt_runs, "SAY_EVERY_SECONDS", 0.05)
    rewrite(land(room), WITHOUT_PRICES)
    same_run = TransformRun(str(uuid4()), datetime.now(UTC), logging.getLogger("test"))
    with caplog.at_level(logging.INFO, "test"):
        result = process_pending(Settings(), same_run, full_refresh=False, wait=True)
    (failure,) = result.failures
    lines = [record.getMessage() for record in caplog.records if record.name == "test"]
    done = [position for position, line in enumerate(lines) if re.search(r"dbt: \d+ of \d+ nodes done, \w+", line)]
    failed = [position for position, line in enumerate(lines) if re.match(r"dbt: \w+ \w+: (error|fail): ", line)]
    assert len(failed) == sum(node.failed for node in nodes_of(failure.error)) > 0
    assert done[0] < failed[0] < len(lines) - 1
    assert re.fullmatch(r"dbt: \d+ nodes and \d+ tests? in .* s, \d+ failed; the slowest: .* s, .* s, .* s", lines[-1])


def nodes_of(error: Exception) -> tuple[dbt.Node, ...]:
    assert isinstance(error, BuildError)
    return error.nodes


def test_a_long_build_has_a_progress_artifact_a_short_one_has_none_and_no_node_is_a_task_run(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(room)
    monkeypatch.setattr(dbt_runs, "SAY_EVERY_SECONDS", 0.05)
    run_id = str(run().state_details.flow_run_id)
    assert float(artifacts_of(run_id)["dbt-progress"]) == 100
    monkeypatch.setattr(dbt_runs, "SAY_EVERY_SECONDS", 600.0)
    land(room)
    assert "dbt-progress" not in artifacts_of(str(run().state_details.flow_run_id))
    with get_client(sync_client=True) as client:
        body = {"task_runs": {"flow_run_id": {"any_": [run_id]}}}
        assert client.request("POST", "/task_runs/filter", json=body).json() == []


def test_a_failed_run_says_which_failure_it_is_of_each_batch_and_when_the_next_try_comes(room: Room) -> None:
    end_waiting()
    first = land(room)
    rewrite(first, WITHOUT_PRICES)
    assert run().is_failed()
    second = land(room)
    due = datetime.now(UTC) + timedelta(hours=2)
    with get_client(sync_client=True) as client:
        made = [
            client.create_flow_run(transform, parameters=parameters, state=Scheduled(scheduled_time=at), tags=[TAG]).id
            for at, parameters in ((due, {}), (due - timedelta(hours=1), {"command": "test"}))
        ]
        message = str(run().message)
        for run_id in made:
            client.delete_flow_run(run_id)
    assert f"2 batches stay pending: {first.source} {first.batch_id}, {second.source} {second.batch_id}." in message
    assert "This is failed build 2 of 3 of the first; after 3" in message
    assert message.endswith(f"The next transform tries again; it is due at {due:%Y-%m-%d %H:%M} UTC")


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
    assert "products: 1 node; the ledger was not touched" in str(state.message)
    assert recorded(room) == [batch.batch_id]
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id, later.batch_id]


def test_a_selector_that_matches_nothing_fails(room: Room) -> None:
    state = run(command="run", select="no_such_model")
    assert state.is_failed()
    assert "nothing was selected" in str(state.message)


def test_a_damaged_file_is_named_and_goes_into_quarantine_and_the_others_go_on(room: Room) -> None:
    damaged, whole = land(room), land(room)
    Path(damaged.folder, RECORDS).write_bytes(b"\x1f\x8b not really gzip")
    state = run()
    assert state.is_failed()
    assert str(Path(damaged.folder, RECORDS)) in str(state.message)
    assert recorded(room) == [whole.batch_id]
    assert room.rows("select batch_id from ops.quarantine") == [(damaged.batch_id,)]
    again = run()
    assert again.name == "NothingToDo", "it stops no other batch any longer"
    assert f"In quarantine: {damaged.source} {damaged.batch_id};" in str(again.message)
    assert baton(["drop", damaged.source, damaged.batch_id]) == 0
    assert "quarantine" not in str(run().message)
    assert baton(["prune", "--days", "0"]) == 0
    assert list_batches(room.landing) == [], "a dropped batch is pruned as well as a processed one"


def test_a_quarantined_batch_is_replayed_by_a_command(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    batch = land(room)
    content = Path(batch.folder, RECORDS).read_bytes()
    Path(batch.folder, RECORDS).write_bytes(content[:-4])
    assert run().is_failed()
    Path(batch.folder, RECORDS).write_bytes(content)
    assert baton(["quarantine"]) == 0
    assert batch.batch_id in capsys.readouterr().out
    assert baton(["replay", batch.source, batch.batch_id]) == 0
    assert baton(["replay", batch.source, batch.batch_id]) == 1, "it is not in quarantine any more"
    assert baton(["replay", batch.source, "../../x"]) == 2
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]


def test_rows_that_disagree_with_the_manifest_fail_the_run_and_leave_the_batch_pending(room: Room) -> None:
    batch = land(room)
    manifest = json.loads(Path(batch.folder, MANIFEST).read_text())
    Path(batch.folder, MANIFEST).write_text(json.dumps(manifest | {"rows": 21}))
    state = run()
    assert state.is_failed()
    assert f"{batch.batch_id}: 20 rows were loaded, its manifest says 21" in str(state.message)
    assert recorded(room) == []


def test_a_failing_dbt_test_fails_the_run_and_leaves_ledger_and_batch_as_they_were(room: Room) -> None:
    end_waiting()
    good = land(room)
    assert run().is_completed()
    bad = land(room)
    rewrite(bad, WITHOUT_PRICES)
    state = run()
    assert state.is_failed()
    assert "price" in str(state.message)
    assert f"1 batch stays pending: {bad.source} {bad.batch_id}. This is failed build 1 of 3;" in str(state.message)
    assert "No transform is scheduled; `prefect deployment run transform/warehouse` tries again" in str(state.message)
    nodes = json.loads(artifacts_of(str(state.state_details.flow_run_id))["dbt-nodes"])
    statuses = [row["status"] in ("error", "fail") for row in nodes]
    assert statuses == sorted(statuses, reverse=True), "failed first"
    assert 0 < sum(statuses) < len(statuses)
    assert recorded(room) == [good.batch_id]
    assert [
        batch.batch_id
        for batch in ledger.read(Settings(warehouse=room.warehouse, warehouse_wait_seconds=1)).pending(
            list_batches(room.landing)
        )
    ] == [bad.batch_id]


def test_a_batch_that_fails_every_build_is_found_and_quarantined_and_the_others_go_on(room: Room) -> None:
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


@pytest.mark.parametrize("error", [BuildError("the project is broken"), DataError("a test fails without any batch")])
def test_a_project_that_fails_by_itself_quarantines_no_batch(room: Room, monkeypatch: Any, error: Exception) -> None:
    batch = land(room)

    def broken(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(dbt, "run_dbt", broken)
        for _ in range(FAILURES_BEFORE_ISOLATION + 1):
            assert run().is_failed()
    assert ledger.read(Settings()).quarantined == frozenset()
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
    assert baton(["prune", "--days", "30"]) == 0
    assert list_batches(room.landing) == [processed, pending], "neither is old enough"
    assert baton(["prune", "--days", "0", "--dry-run"]) == 0
    assert list_batches(room.landing) == [processed, pending], "a dry run removes nothing"
    assert baton(["prune", "--days", "0"]) == 0
    assert list_batches(room.landing) == [pending]
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


def test_an_artifact_that_cannot_be_made_fails_no_run_whose_ledger_is_written(room: Room, monkeypatch: Any) -> None:
    def refused(**_: Any) -> None:
        raise httpx.ConnectError("no server")

    batch = land(room)
    for kind in ("table", "markdown"):
        monkeypatch.setattr(f"flows.server.artifacts.create_{kind}_artifact", refused)
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]
    with room.api(products=20):
        assert extract(return_state=True).is_completed()


def test_a_run_that_quarantines_one_batch_still_has_artifacts_of_the_others(room: Room) -> None:
    damaged, sound = land(room), land(room)
    Path(damaged.folder, RECORDS).write_bytes(b"x")
    state = run()
    assert state.is_failed()
    made = artifacts_of(str(state.state_details.flow_run_id))
    assert sound.batch_id in made["processed-batches"]
    assert "dbt-nodes" in made


def test_nothing_but_data_counts_against_a_batch(room: Room, monkeypatch: Any) -> None:
    """A model that is broken is the project's fault, however often it fails."""
    batch = land(room)
    project = shutil.copytree(Settings().dbt_project, room.landing.parent / "dbt")
    (project / "models" / "marts" / "dim_products.sql").write_text("select no_such_column from {{ ref('stg_x') }}")
    with monkeypatch.context() as patch:
        patch.setenv("BATON_DBT_PROJECT", str(project))
        for _ in range(FAILURES_BEFORE_ISOLATION + 1):
            state = run()
            assert state.is_failed()
            assert f"{batch.batch_id}. This failure counts against no batch" in str(state.message)
    assert ledger.read(Settings()).failures == {}
    assert run().is_completed()
    assert recorded(room) == [batch.batch_id]


def test_a_run_of_the_core_needs_no_flow_and_sends_an_event_for_each_thing_that_it_did(room: Room) -> None:
    """A retry keeps its run id: what it does has events of its own."""
    same_run = TransformRun(str(uuid4()), datetime.now(UTC), logging.getLogger("test"))
    batches = []
    for _ in range(2):
        batches.append(land(room))
        result = process_pending(Settings(), same_run, full_refresh=False, wait=True)
        assert result.processed == {batches[-1].key}
    wanted = {events.event_id(events.TRANSFORM_FINISHED, batch.source, batch.batch_id) for batch in batches}
    since = batches[0].manifest().extracted_at
    wait_until(lambda: events.received(wanted, since).keys() == wanted, "an event for each batch", 30)
    assert room.rows("select count(*) from ops.ledger where announced") == [(2,)]


def test_staging_views_are_built_again_only_where_they_are_not_what_the_last_complete_build_made(room: Room) -> None:
    def built() -> set[str]:
        land(room)
        run_ = TransformRun(str(uuid4()), datetime.now(UTC), logging.getLogger("test"))
        result = process_pending(Settings(), run_, full_refresh=False, wait=True)
        assert len(result.entries) == 1
        return {node.name for node in result.nodes if node.name.startswith("stg_")}

    everything = built()
    assert everything
    assert built() == set()
    with duckdb.connect(str(room.warehouse)) as connection:
        connection.execute("create or replace view staging.stg_dummyjson__product_tags as select 'mine' as tag")
    assert "stg_dummyjson__product_tags" in built(), "a view that somebody has changed"
    with duckdb.connect(str(room.warehouse)) as connection:
        connection.execute("drop view staging.stg_dummyjson__product_tags")
    assert "stg_dummyjson__product_tags" in built(), "a view that somebody has dropped"
    assert built() == set()
