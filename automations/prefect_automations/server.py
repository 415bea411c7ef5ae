"""What is asked of a Prefect server, and what its answers mean when they are errors.

The client's errors are translated here alone. Prefect's client is built on httpx in 3.8 and 3.9; with another library
the two `except` clauses of `translated` are what changes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from packaging.version import InvalidVersion, Version
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from .errors import ConnectionLostError, ServerError
from .files import Reference

OLDEST_SERVER = Version("3.8")
"""The oldest that was tried: a server of 3.8.0 took the shipped automations, and planned no change after that."""
PAGE = 200
"""The most that the API answers with."""
RETRIES = 1
"""Prefect's client waits 2, 4, 8, 16 and 32 seconds for a server that is gone, in silence; here it waits once."""

Json = dict[str, Any]


class RefusedError(Exception):
    """The server did not take one change; the message is its answer."""


@contextmanager
def connected() -> Iterator["Server"]:
    """The server of the Prefect settings; ServerError for anything that it answers but should not."""
    url = get_current_settings().api.url
    if not url:
        raise ServerError("no server: set PREFECT_API_URL, or choose a profile (`prefect profile use`)")
    retries = min(RETRIES, get_current_settings().client.max_retries)
    settings = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries})
    with translated(url), settings, get_client(sync_client=True) as client:
        yield Server(client)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """ServerError in place of what Prefect's client raises."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        raise status_error(url, error) from error
    except (httpx.InvalidURL, ValueError) as error:
        raise ServerError(f"{url}: did not answer as Prefect's API does ({error}); {is_it_the_api(url)}") from error
    except (httpx.HTTPError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "reach" not in str(error) and "connect" not in str(error).lower():
            raise
        raise ServerError(f"{url}: cannot be reached: {error}; is the server running?") from error


def status_error(url: str, error: PrefectHTTPStatusError) -> ServerError:
    """What an answer with an error's status says."""
    status = error.response.status_code
    request = f"{error.request.method} {error.request.url}"
    if status in (401, 403):
        how = "set PREFECT_API_KEY (Cloud) or PREFECT_API_AUTH_STRING"
        return ServerError(f"{url}: {status}, no permission ({request}); {how}")
    hint = f"; {is_it_the_api(url)}" if status in (404, 405) else ""
    return ServerError(f"{url}: {request} was answered {status}: {error.response.text[:500]}{hint}")


def is_it_the_api(url: str) -> str:
    """What is mostly wrong with an address that answers, but not as the API does."""
    if "/api" in url:
        return "is it the API's URL?"
    return f"the API's URL ends in /api: PREFECT_API_URL={url.rstrip('/')}/api"


class Server:
    """A Prefect server: automations, and ids by name."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client
        self.names: dict[str, str] = {}
        """Id -> name of everything that was looked up."""
        self.ids: dict[tuple[str, str], str] = {}
        """Kind and name -> id of everything that was looked up and is there."""
        self.notifies: dict[str, bool] = {}
        """Name of a block -> whether it can send notifications."""

    def check_version(self) -> None:
        """Before a change is planned: ServerError if the server is older than what was tried. Cloud is always new."""
        if self.client.server_type == ServerType.CLOUD:
            return
        try:
            version = Version(str(self.client.api_version()))
        except ObjectNotFound as error:
            raise ServerError(f"{self.client.api_url}: 404; {is_it_the_api(str(self.client.api_url))}") from error
        except InvalidVersion as error:
            raise ValueError(str(error)) from error
        if version < OLDEST_SERVER:
            raise ServerError(f"{self.client.api_url}: is Prefect {version}; {OLDEST_SERVER} or later is needed")

    def automations(self, *tags: str) -> list[Json]:
        """Every automation, or every one with one of the tags, as the API gives it, oldest first."""
        filters = {"automations": {"tags": {"any_": list(tags)}}} if tags else {}
        found = self.filter("automations", {"sort": "CREATED_DESC", **filters})
        return sorted(found, key=lambda raw: (raw["created"], raw["id"]))

    def filter(self, what: str, body: Json) -> list[Json]:
        """Everything that a filter finds, page by page."""
        found: list[Json] = []
        while True:
            page = {**body, "limit": PAGE, "offset": len(found)}
            answer = self.client.request("POST", f"/{what}/filter", json=page).json()  # type: ignore[arg-type]
            found += answer
            if len(answer) < PAGE:
                return found

    def automation(self, automation_id: str) -> Json | None:
        """One automation as it is now; None if it is gone."""
        try:
            answer = self.client.request("GET", "/automations/{id}", path_params={"id": automation_id})
            return dict(answer.json())
        except ObjectNotFound:
            return None
        except PrefectHTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise

    def is_related(self, automation_id: str, resource: str) -> bool:
        """Whether an automation belongs to a resource."""
        answer = self.client.request(
            "GET", "/automations/related-to/{resource_id}", path_params={"resource_id": resource}
        )
        return any(raw["id"] == automation_id for raw in answer.json())

    def create(self, automation: Json) -> str:
        """The id of the new automation."""
        return str(self.client.request("POST", "/automations/", json=automation).json()["id"])

    def update(self, automation_id: str, automation: Json) -> None:
        """In place; the owner, which no update may name, stays."""
        without = {key: value for key, value in automation.items() if key != "owner_resource"}
        self.client.request("PUT", "/automations/{id}", path_params={"id": automation_id}, json=without)

    def enable(self, automation_id: str, enabled: bool) -> None:
        """The one update by which triggers keep their ids."""
        body = {"enabled": enabled}
        self.client.request("PATCH", "/automations/{id}", path_params={"id": automation_id}, json=body)

    def delete(self, automation_id: str) -> None:
        """No error if somebody else was faster."""
        try:
            self.client.request("DELETE", "/automations/{id}", path_params={"id": automation_id})
        except ObjectNotFound:
            pass
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 404:
                raise

    def id_of(self, kind: str, name: str) -> str | None:
        """The id of what is called so; None if nothing is, or nobody has looked it up."""
        return self.ids.get((kind, name))

    def know(self, kind: str, name: str, identifier: str) -> None:
        """Remembers the id of a name, and the name of an id."""
        self.ids[kind, name] = identifier
        self.names[identifier] = name

    def look_up(self, references: Iterable[Reference]) -> None:
        """Asks for the ids of all names at once: one or two requests a kind."""
        wanted: dict[str, list[str]] = {}
        for reference in references:
            if (reference.kind, reference.name) not in self.ids:
                wanted.setdefault(reference.kind, []).append(reference.name)
        for kind, ask in ASK_BY_NAME.items():
            for names in chunks(sorted(set(wanted.get(kind, [])))):
                for name, identifier in ask(self, names):
                    if name in names:
                        self.know(kind, name, identifier)

    def look_up_ids(self, kind: str, ids: Iterable[str]) -> None:
        """Asks for the names of ids."""
        for some in chunks(sorted(set(ids) - self.names.keys())):
            for name, identifier in ASK_BY_ID[kind](self, some):
                self.know(kind, name, identifier)


Found = Iterator[tuple[str, str]]
"""Names with their ids."""


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """No more at a time than one answer has room for."""
    for start in range(0, len(values), PAGE):
        yield values[start : start + PAGE]


def parts(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is before, and what is after the slash."""
    split = [name.partition("/") for name in names]
    return sorted({first for first, _, _ in split}), sorted({last for _, _, last in split})


def deployments_by_name(server: Server, names: Sequence[str]) -> Found:
    """`flow/deployment`."""
    flows, deployments = parts(names)
    by_id = {raw["id"]: raw["name"] for raw in server.filter("flows", {"flows": {"name": {"any_": flows}}})}
    body = {"flows": {"name": {"any_": flows}}, "deployments": {"name": {"any_": deployments}}}
    for raw in server.filter("deployments", body):
        yield f"{by_id.get(raw['flow_id'])}/{raw['name']}", raw["id"]


def deployments_by_id(server: Server, ids: Sequence[str]) -> Found:
    """`flow/deployment`."""
    found = server.filter("deployments", {"deployments": {"id": {"any_": list(ids)}}})
    flows = sorted({raw["flow_id"] for raw in found})
    by_id = {raw["id"]: raw["name"] for raw in server.filter("flows", {"flows": {"id": {"any_": flows}}})}
    for raw in found:
        yield f"{by_id.get(raw['flow_id'])}/{raw['name']}", raw["id"]


def pools(server: Server, filters: Json) -> Found:
    """`pool`."""
    for raw in server.filter("work_pools", {"work_pools": filters}):
        yield raw["name"], raw["id"]


def queues(server: Server, filters: Json) -> Found:
    """`pool/queue`."""
    for raw in server.filter("work_queues", {"work_queues": filters}):
        yield f"{raw.get('work_pool_name')}/{raw['name']}", raw["id"]


def blocks(server: Server, filters: Json) -> Found:
    """`type/name`; without the blocks' secrets."""
    for raw in server.filter("block_documents", {**filters, "include_secrets": False}):
        kind = raw.get("block_type") or {}
        name = f"{kind.get('slug')}/{raw['name']}"
        capabilities = (raw.get("block_schema") or {}).get("capabilities")
        if capabilities is not None:
            server.notifies[name] = "notify" in capabilities
        yield name, raw["id"]


def blocks_by_name(server: Server, names: Sequence[str]) -> Found:
    """`type/name`."""
    types, own = parts(names)
    filters = {"block_types": {"slug": {"any_": types}}, "block_documents": {"name": {"any_": own}}}
    return blocks(server, filters)


def automations_by_id(server: Server, ids: Sequence[str]) -> Found:
    """`name`."""
    for raw in server.filter("automations", {"automations": {"id": {"any_": list(ids)}}}):
        yield raw["name"], raw["id"]


ASK_BY_NAME = {
    "deployment": deployments_by_name,
    "work_pool": lambda server, names: pools(server, {"name": {"any_": list(names)}}),
    "work_queue": lambda server, names: queues(server, {"name": {"any_": parts(names)[1]}}),
    "block": blocks_by_name,
}
ASK_BY_ID: Mapping[str, Any] = {
    "deployment": deployments_by_id,
    "work_pool": lambda server, ids: pools(server, {"id": {"any_": list(ids)}}),
    "work_queue": lambda server, ids: queues(server, {"id": {"any_": list(ids)}}),
    "block": lambda server, ids: blocks(server, {"block_documents": {"id": {"any_": list(ids)}}}),
    "automation": automations_by_id,
}


@contextmanager
def one_change() -> Iterator[None]:
    """RefusedError for what the server does not take; ConnectionLostError where it no longer answers."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        if error.response.status_code in (502, 503, 504):
            raise ConnectionLostError(f"the server answers {error.response.status_code}") from error
        raise RefusedError(f"{error.response.status_code} {error.response.text[:500]}") from error
    except ObjectNotFound as error:
        raise RefusedError(str(error) or "404") from error
    except httpx.HTTPError as error:
        raise ConnectionLostError(f"the server can no longer be reached: {error or type(error).__name__}") from error
    except RuntimeError as error:
        if "reach" not in str(error) and "connect" not in str(error).lower():
            raise
        raise ConnectionLostError(f"the server can no longer be reached: {error}") from error
