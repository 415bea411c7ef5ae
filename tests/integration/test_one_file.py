"""docs/one_file.py does what it says: an extract is followed by a transform, and nothing is loaded twice."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.settings import PROJECT
from stack.local.processes import wait_until
from stack.sample_api.server import serving

SECONDS = 120.0
NAMES = ("extract/one-file", "transform/one-file")


@pytest.fixture
def client(server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


@pytest.fixture
def served(client: SyncPrefectClient, tmp_path: Path) -> Iterator[Path]:
    """The file's process, with both flows on the server; yields its data folder. Nothing stays on the server."""
    with serving(7) as url:
        environment = {
            **os.environ,
            "ONE_FILE_API": url,
            "ONE_FILE_DATA": str(tmp_path),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",  # Ten by default, for each of four runs.
        }
        command = [sys.executable, str(PROJECT / "docs" / "one_file.py")]
        process = subprocess.Popen(command, env=environment, cwd=tmp_path)
        try:
            wait_until(lambda: all(exists(client, name) for name in NAMES), "both flows to be served", SECONDS)
            yield tmp_path
        finally:
            process.terminate()
            process.wait(SECONDS)
            for name in filter(lambda name: exists(client, name), NAMES):
                client.delete_deployment(client.read_deployment_by_name(name).id)


def exists(client: SyncPrefectClient, name: str) -> bool:
    try:
        client.read_deployment_by_name(name)
    except ObjectNotFound:
        return False
    return True


def completed(client: SyncPrefectClient, deployment: str) -> int:
    """How many runs of the deployment have completed."""
    wanted = client.read_deployment_by_name(deployment).id
    flow = FlowFilter(name=FlowFilterName(any_=[deployment.partition("/")[0]]))
    runs = [run for run in client.read_flow_runs(flow_filter=flow) if run.deployment_id == wanted]
    return sum(run.state is not None and run.state.is_completed() for run in runs)


def test_an_extract_is_followed_by_a_transform_that_loads_every_batch_once(
    client: SyncPrefectClient, served: Path
) -> None:
    for number in (1, 2):
        run_deployment("extract/one-file", timeout=SECONDS, as_subflow=False)
        wait_until(
            lambda number=number: completed(client, "transform/one-file") >= number,  # type: ignore[misc]
            "the transform to follow",
            SECONDS,
        )
    with duckdb.connect(str(served / "warehouse.duckdb"), read_only=True) as warehouse:
        assert warehouse.sql("select count(*), count(distinct batch) from products").fetchall() == [(14, 2)]
        assert warehouse.sql("select count(*) from ledger").fetchall() == [(2,)]


def test_it_is_short() -> None:
    assert len((PROJECT / "docs" / "one_file.py").read_text().splitlines()) <= 75
