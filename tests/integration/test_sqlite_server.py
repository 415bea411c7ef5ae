"""The server that locks SQLite when a writing transaction begins does everything that Prefect's own does."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate


def test_a_work_queue_is_paused_at_once_although_its_event_is_made_inside_the_transaction(server: str) -> None:
    with SyncPrefectClient(server, httpx_settings={"timeout": 10}) as client:
        pool = client.create_work_pool(WorkPoolCreate(name="paused-at-once", type="process"))
        (queue,) = client.read_work_queues(work_pool_name=pool.name)
        client.request("PATCH", "/work_queues/{id}", path_params={"id": queue.id}, json={"is_paused": True})
        assert client.read_work_queue(queue.id).is_paused
