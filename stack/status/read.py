"""Reads the status of a stack, or of the server that the environment names."""

from datetime import UTC, datetime

from flows.errors import ServerError
from flows.server.project_facts import ProjectFacts, read_facts
from flows.status.collect import collect
from flows.status.model import Status
from stack.doctor.target import Target, why_unreachable


def read_status(target: Target) -> Status:
    """The status now; it says so if the server does not answer."""
    return collect(target.baton, read_server(target))


def read_server(target: Target) -> ProjectFacts | str:
    """What the server knows, or why it cannot be asked."""
    if not target.api:
        return "PREFECT_API_URL names no server"
    if reason := why_unreachable(target, target.api):
        return reason
    try:
        with target.client() as client:
            return read_facts(client, datetime.now(UTC))
    except ServerError as error:
        return str(error)
