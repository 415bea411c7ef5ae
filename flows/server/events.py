"""The `extract.finished` contract: build it, send it, know that it arrived.

`prefect.events.emit_event` puts an event into a queue and never tells what became of it. `POST /events` answers
204 once the server has the event, and the server drops a second one with the same id, so a re-send is harmless.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.client.orchestration import get_client
from prefect.events import Event, RelatedResource, Resource

from flows.landing import Manifest

Handoff = Literal["event", "deployment", "caller"]
"""Who starts the transform: the automation, the extract itself, or whoever started the extract."""

EXTRACT_FINISHED = "extract.finished"
TRANSFORM_FINISHED = "transform.finished"
BATCH_QUARANTINED = "batch.quarantined"
PAGE = 50
"""The largest page of events that the server gives."""
_NAMESPACE = uuid5(NAMESPACE_URL, "baton")


def event_id(name: str, source: str, subject: str) -> UUID:
    """The same for the same thing said again: `subject` is a batch id, or for transforms a flow run id."""
    return uuid5(_NAMESPACE, f"{name} {source} {subject}")


def extract_finished(manifest: Manifest, handoff: Handoff) -> Event:
    """A batch is in the landing. The payload is its manifest; only `handoff: event` is matched by the automation."""
    return _event(
        EXTRACT_FINISHED,
        manifest.source,
        manifest.batch_id,
        manifest.model_dump(mode="json"),
        manifest.flow_run_id,
        {"handoff": handoff},
    )


def transform_finished(source: str, batches: dict[str, int], flow_run_id: UUID) -> Event:
    """Batches (id: rows) of one source are in the marts and in the ledger; a third step can be chained to it."""
    payload = {"source": source, "batches": sorted(batches), "rows": sum(batches.values())}
    return _event(TRANSFORM_FINISHED, source, str(flow_run_id), payload, flow_run_id)


def batch_quarantined(source: str, batch_id: str, reason: str, flow_run_id: UUID) -> Event:
    """A batch was set aside, for the reason that `ops.quarantine` also holds."""
    payload = {"source": source, "batch_id": batch_id, "reason": reason}
    return _event(BATCH_QUARANTINED, source, f"{batch_id} {flow_run_id}", payload, flow_run_id)


def send(events: Iterable[Event]) -> None:
    """Returns once the server has all of them; httpx.HTTPError if it does not answer, or does not answer 2xx.

    Prefect's client has tried several times by then.
    """
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])


def received(ids: Iterable[UUID], since: datetime) -> dict[UUID, Event]:
    """Those of the events that the server holds. An event can be read about a second after it was sent."""
    wanted = [str(identifier) for identifier in ids]
    found: dict[UUID, Event] = {}
    with get_client(sync_client=True) as client:
        for start in range(0, len(wanted), PAGE):
            filter_ = {"id": {"id": wanted[start : start + PAGE]}, "occurred": {"since": since.isoformat()}}
            answer = client.request("POST", "/events/filter", json={"filter": filter_, "limit": PAGE})
            found |= {(event := Event.model_validate(item)).id: event for item in answer.json()["events"]}
    return found


def _event(
    name: str,
    source: str,
    subject: str,
    payload: Mapping[str, object],
    run_id: UUID,
    labels: dict[str, str] | None = None,
) -> Event:
    return Event(
        id=event_id(name, source, subject),
        event=name,
        resource=Resource({"prefect.resource.id": source, "prefect.resource.name": source} | (labels or {})),
        related=[
            RelatedResource({"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"})
        ],
        payload=dict(payload),
    )
