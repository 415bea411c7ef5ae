"""The stack on real processes: server, worker, sample API, deployments and automations, used as its users do."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.landing.batch import Batch, list_batches
from flows.server import events
from flows.settings import PROJECT, Settings
from flows.warehouse.connection import connect
from stack import demo
from stack.local import processes, up
from stack.local.profiles import Stack
from stack.sample_api.shop import TOKEN

SECONDS = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    port = processes.free_port()
    started = up.start_stack(folder, api=None, port=port, schedules=False, say=print)
    yield started
    processes.stop_all(folder)


def command(stack: Stack, *arguments: str, folder: Path = PROJECT) -> str:
    """Runs a console script of the virtual environment, as a user would type it; its output."""
    script = Path(sys.executable).with_name(arguments[0])
    done = subprocess.run([script, *arguments[1:]], cwd=folder, env=stack.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(stack: Stack, deployment: str, **parameters: object) -> None:
    """A run of a deployment, as `prefect deployment run` makes it, which takes three seconds of a processor."""
    with up.client(stack) as api:
        api.create_flow_run_from_deployment(api.read_deployment_by_name(deployment).id, parameters=parameters)


def runs_of(stack: Stack, flow: str) -> list[FlowRun]:
    return demo.runs_of(stack, flow)


def ended(stack: Stack, flow: str, known: Sequence[FlowRun]) -> list[FlowRun]:
    """The runs of a flow beyond the known ones, once there is one and all have ended."""
    found: list[FlowRun] = []

    def all_ended() -> bool:
        found[:] = [run for run in runs_of(stack, flow) if run.id not in {old.id for old in known}]
        return bool(found) and all(run.state is not None and run.state.is_final() for run in found)

    processes.wait_until(all_ended, f"a run of {flow} to end", SECONDS)
    return found


def new_batch(stack: Stack, known: Sequence[Batch]) -> Batch:
    (batch,) = set(list_batches(stack.landing)) - set(known)
    return batch


def test_an_extract_is_followed_by_one_transform_that_the_automation_started(stack: Stack) -> None:
    known, batches = runs_of(stack, "transform"), list_batches(stack.landing)
    command(stack, "prefect", "deployment", "run", "extract/dummyjson-products")
    (run,) = ended(stack, "transform", known)
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    batch = new_batch(stack, batches)
    assert (run.parameters["source"], run.parameters["batch_id"]) == (batch.source, batch.batch_id)
    assert demo.who_started(stack, run) == "automation transform_when_extract_finishes"
    assert run.name == f"transform {batch.source}: 1 batch"
    assert set(run.tags) == {"baton", f"source:{batch.source}"}
    assert related_deployment(stack, batch) == "dummyjson-products"


def related_deployment(stack: Stack, batch: Batch) -> str:
    """The name of the deployment that the event of a batch is related to."""
    event = events.event_id(events.EXTRACT_FINISHED, batch.source, batch.batch_id)
    filter_ = {"id": {"id": [str(event)]}}
    with up.client(stack) as api:
        (found,) = api.request("POST", "/events/filter", json={"filter": filter_, "limit": 1}).json()["events"]
    roles = {each["prefect.resource.role"]: each.get("prefect.resource.name") for each in found["related"]}
    return str(roles["deployment"])


def test_sources_of_two_systems_take_the_same_way_through_the_same_automation(stack: Stack) -> None:
    known = {run.id for run in runs_of(stack, "transform")}
    for name in ("extract/dummyjson-carts", "extract/dummyjson-users", "extract/shop-orders"):
        start(stack, name)

    seen: set[str] = set()

    def started_for_all() -> bool:
        seen.update(subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout.splitlines())
        new = [run for run in runs_of(stack, "transform") if run.id not in known]
        return len(new) == 3 and all(run.state is not None and run.state.is_final() for run in new)

    # Not by looking into the warehouse: a file that is held open for reading cannot be written.
    processes.wait_until(started_for_all, "a transform for each of the three to end", SECONDS)
    arguments = "\n".join(seen)
    assert "engine/server.py" in arguments and TOKEN not in arguments
    assert TOKEN not in command(stack, "baton", "doctor", "--json")
    holding = [path for path in stack.folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert holding == [stack.folder / "stack.env"], "the file that gives it to who works with the stack"
    assert holding[0].stat().st_mode & 0o077 == 0
    new = [run for run in runs_of(stack, "transform") if run.id not in known]
    assert [run.state for run in new if run.state is None or not run.state.is_completed()] == []
    assert {run.parameters["source"] for run in new} == {"dummyjson.carts", "dummyjson.users", "shop.orders"}
    assert {demo.who_started(stack, run) for run in new} == {"automation transform_when_extract_finishes"}
    with connect(Settings(warehouse=stack.warehouse, warehouse_wait_seconds=30), read_only=True) as warehouse:
        rows = warehouse.sql("select source, handoff, rows from ops.ledger order by all").fetchall()
    assert rows[:1] + rows[-2:-1] == [("dummyjson.carts", "event", 50), ("dummyjson.users", "event", 208)]
    assert rows[-1][2] == len(demo.orders_of_the_shop(stack)) > 100
    assert [demo.count(stack, source).faults() for source in demo.MARTS] == [[], [], [], []]


def test_an_orchestrator_run_has_one_transform_and_it_is_its_child(stack: Stack) -> None:
    known = runs_of(stack, "transform")
    start(stack, "orchestrate/dummyjson")
    (parent,) = ended(stack, "orchestrate", [])
    assert parent.state is not None
    assert parent.state.is_completed(), parent.state.message
    (run,) = ended(stack, "transform", known)
    assert demo.who_started(stack, run) == "parent run of orchestrate"


def test_dbt_by_hand_builds_the_landed_data(stack: Stack) -> None:
    assert "Completed successfully" in command(stack, "dbt", "build", folder=PROJECT / "dbt")


def test_an_orchestrator_out_of_time_says_which_child_it_waited_for(stack: Stack) -> None:
    known, transforms = runs_of(stack, "orchestrate"), runs_of(stack, "transform")
    start(stack, "orchestrate/dummyjson", timeout_minutes=0.001)
    (parent,) = ended(stack, "orchestrate", known)
    assert parent.state is not None
    assert parent.state.is_failed()
    assert "extract/dummyjson-products: " in str(parent.state.message)
    assert "has not ended in time" in str(parent.state.message)
    assert [run.id for run in runs_of(stack, "transform")] == [run.id for run in transforms]


def test_an_orchestrator_that_need_not_wait_starts_the_transform_and_leaves(stack: Stack) -> None:
    known, transforms = runs_of(stack, "orchestrate"), runs_of(stack, "transform")
    start(stack, "orchestrate/dummyjson", wait=False)
    (parent,) = ended(stack, "orchestrate", known)
    assert parent.state is not None
    assert parent.state.is_completed()
    (run,) = ended(stack, "transform", transforms)
    assert demo.who_started(stack, run) == "parent run of orchestrate"


def test_a_failed_child_is_named_with_its_state_and_message(stack: Stack) -> None:
    known = runs_of(stack, "orchestrate")
    start(stack, "orchestrate/dummyjson", sources=["dummyjson.products", "dummyjson.products_launch"])
    (parent,) = ended(stack, "orchestrate", known)
    assert parent.state is not None
    assert parent.state.is_failed()
    assert "extract/dummyjson-products-launch: " in str(parent.state.message)
    assert "ended as Failed" in str(parent.state.message)
    assert "expected a table that" in str(parent.state.message)


def test_a_stack_that_is_started_again_goes_on_with_its_data_and_makes_nothing_twice(
    stack: Stack, folder: Path
) -> None:
    port = int(stack.prefect_api.rpartition(":")[2].removesuffix("/api"))
    with pytest.raises(processes.StackError, match="already running here"):
        up.start_stack(folder, api=None, port=port, schedules=False, say=print)
    before = list_batches(stack.landing)
    assert set(processes.stop_all(folder)) == {"server", "log-rotation", "prefork-engine", "worker", "sample-api"}
    again = up.start_stack(folder, api=None, port=port, schedules=False, say=print)
    with up.client(again) as api:
        assert len({automation.name for automation in api.read_automations()}) == len(api.read_automations())
    known = runs_of(again, "transform")
    start(again, "extract/dummyjson-products")
    (run,) = ended(again, "transform", known)
    assert run.state is not None
    assert run.state.is_completed()
    with connect(Settings(warehouse=again.warehouse, warehouse_wait_seconds=30), read_only=True) as warehouse:
        (processed,) = warehouse.sql("select list(batch_id) from ops.ledger").fetchall()[0]
    assert {batch.batch_id for batch in list_batches(again.landing)} == set(processed)
    assert len(processed) == len(before) + 1
