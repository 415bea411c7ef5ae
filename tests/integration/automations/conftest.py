"""One server for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from stack.local.processes import free_port, prefect_server
from tests.conftest import SERVER
from tests.integration.automations.support import Here, deploy


@pytest.fixture(scope="package")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this folder's own, because its automations must not fire for other tests."""
    with prefect_server(tmp_path_factory.mktemp("server"), SERVER, free_port()) as url:
        with SyncPrefectClient(url) as client:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name="baton", type="process", base_job_template=template))
        deploy(url)
        yield url


@pytest.fixture
def here(server_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    with temporary_settings({PREFECT_API_URL: server_url}):
        made = Here(server_url, tmp_path, capsys)
        yield made
        assert made.run("destroy", "--yes")[0] == 0
        with made.client as client:  # Those that a test made as somebody else would.
            for left in made.automations().values():
                client.delete_automation(UUID(left["id"]))
