"""The events: build them, send them, know that they arrived.

`prefect.events.emit_event` puts an event into a queue and swallows every error. `POST /events` answers 204 once the
server has the event, and the server drops a second one with the same id, so a re-send is harmless.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.context import FlowRunContext
from prefect.events import Event, RelatedResource, Resource

from flows.landing.batch import Manifest
from flows.server.client import prefect_client
from flows.warehouse.freshness import Freshness
from flows.warehouse.ledger import Finished, Quarantined

Handoff = Literal["event", "deployment", "caller"]
"""Who starts the transform: the automation, the extract itself, or whoever started the extract."""

EXTRACT_FINISHED = "extract.finished"
TRANSFORM_FINISHED = "transform.finished"
BATCH_QUARANTINED = "batch.quarantined"
SOURCE_STALE = "source.stale"
PAGE = 50
"""The largest page of events that the server gives."""
_NAMESPACE = uuid5(NAMESPACE_URL, "baton")


def event_id(name: str, source: str, subject: str) -> UUID:
    """The same id for the same event sent again; `subject` says what it is about, such as a batch id."""
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


def transform_finished(finished: Finished) -> Event:
    """Batches of one source are in the marts and in the ledger; a third step can be chained to it.

    The id is made of the batches: one run may process a source more than once, and a retry keeps its run id.
    """
    batches = sorted(finished.batches)
    payload = {"source": finished.source, "batches": batches, "rows": sum(finished.batches.values())}
    return _event(TRANSFORM_FINISHED, finished.source, " ".join(batches), payload, finished.run_id)


def batch_quarantined(quarantined: Quarantined) -> Event:
    """A batch went into quarantine, for the reason that `ops.quarantine` also holds."""
    payload = {"source": quarantined.source, "batch_id": quarantined.batch_id, "reason": quarantined.reason}
    subject = f"{quarantined.batch_id} {quarantined.run_id}"
    return _event(BATCH_QUARANTINED, quarantined.source, subject, payload, quarantined.run_id)


def source_stale(source: str, freshness: Freshness, run_id: str) -> Event:
    """dbt warns of the age of a source, or fails it (the label `status`). The same staleness has the same id."""
    loaded_at = freshness.loaded_at.isoformat()
    payload = {"source": source, "status": freshness.status, "loaded_at": loaded_at}
    subject = f"{freshness.status} {loaded_at}"
    return _event(SOURCE_STALE, source, subject, payload, UUID(run_id), {"status": freshness.status})


def send(events: Iterable[Event]) -> None:
    """Returns once the server has all of them; ServerError if it does not answer, or does not answer 2xx."""
    with prefect_client() as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])


def received(ids: Iterable[UUID], since: datetime) -> dict[UUID, Event]:
    """Those of the events that the server holds. An event can be read about a second after it was sent."""
    wanted = [str(identifier) for identifier in ids]
    found: dict[UUID, Event] = {}
    with prefect_client() as client:
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
        related=related_to(run_id),
        payload=dict(payload),
    )


def related_to(run_id: UUID) -> list[RelatedResource]:
    """A run, its flow and its deployment, as Prefect relates them to events of its own.

    Only the run of the context is known by more than its id: a request for names would delay each hand-off.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    flow = context.flow if context else None
    if flow is None or run is None or run.id != run_id:
        return [related("flow-run", run_id)]
    resources = [related("flow-run", run_id, run.name), related("flow", run.flow_id, flow.name)]
    if run.deployment_id:
        resources.append(related("deployment", run.deployment_id, os.environ.get("PREFECT__DEPLOYMENT_NAME")))
    return resources


def related(kind: str, identifier: UUID, name: str | None = None) -> RelatedResource:
    """One object of the server; its kind is its role."""
    labels = {"prefect.resource.id": f"prefect.{kind}.{identifier}", "prefect.resource.role": kind}
    return RelatedResource(labels | ({"prefect.resource.name": name} if name else {}))
