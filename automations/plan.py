"""The difference between the files and a server, and making the server as the files say.

Automations are known by name and by the project's tag. What does not have the tag is somebody else's and is never
touched. Updates are made in place and keep the automation's id. The server gives new ids to the triggers whenever
anything but `enabled` is updated, and forgets the events that it has counted; so nothing is sent where nothing differs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import httpx
from packaging.version import Version
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.server.events.schemas.automations import AutomationCreate
from prefect.settings import get_current_settings

from automations.files import ACTION_LISTS, NAMED, Described, Problem, Reference, made_up_id

OLDEST_SERVER = Version("3.8")
"""The oldest that was tried: a server of 3.8.0 took the shipped automations, and planned no change after that."""
PAGE = 200

Json = dict[str, Any]


class ServerError(Exception):
    """The server cannot be asked; nothing was changed. The message says what to do."""


@dataclass(frozen=True)
class Field:
    """One field that differs: its path, what the server has, and what the file says."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Change:
    """What is to be done with one automation, or why nothing is."""

    name: str
    kind: Literal["create", "update", "delete", "unchanged", "skip", "keep"]
    id: str | None = None
    fields: Sequence[Field] = ()
    reason: str = ""
    described: Described | None = None

    @property
    def changes_something(self) -> bool:
        return self.kind in ("create", "update", "delete")


@dataclass
class Plan:
    """All changes, in the order in which they can be made; and what must be mended before any is."""

    changes: list[Change] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@contextmanager
def connected() -> Iterator["Server"]:
    """The server of the Prefect settings; ServerError for anything that it answers but should not."""
    url = get_current_settings().api.url
    if not url:
        raise ServerError("no server: set PREFECT_API_URL, or choose a profile (`prefect profile use`)")
    try:
        with get_client(sync_client=True) as client:
            server = Server(client)
            server.check_version()
            yield server
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        asked = f"{error.request.method} {error.request.url}"
        if status in (401, 403):
            raise ServerError(
                f"{url}: {status}, no permission ({asked}); set PREFECT_API_KEY (Cloud) or PREFECT_API_AUTH_STRING"
            ) from error
        raise ServerError(f"{url}: {asked} was answered {status}: {error.response.text[:500]}") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise ServerError(f"{url}: did not answer as Prefect's API does ({error}); is it the API's URL?") from error
    except (httpx.HTTPError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "reach" not in str(error) and "connect" not in str(error).lower():
            raise
        raise ServerError(f"{url}: cannot be reached: {error}; is the server running?") from error


class Server:
    """What is asked of a Prefect server here."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client
        self.names: dict[str, str] = {}
        """Id -> name of everything that was looked up by name."""

    def check_version(self) -> None:
        """ServerError for a server that is older than what was tried. Cloud is always new."""
        if self.client.server_type == ServerType.CLOUD:
            return
        version = Version(self.client.api_version())
        if version < OLDEST_SERVER:
            raise ServerError(f"{self.client.api_url}: is Prefect {version}; {OLDEST_SERVER} or later is needed")

    def automations(self) -> list[Json]:
        """Every automation, as the API gives it, oldest first."""
        found: list[Json] = []
        while True:
            body = {"sort": "CREATED_DESC", "limit": PAGE, "offset": len(found)}
            page = self.client.request("POST", "/automations/filter", json=body).json()
            found += page
            if len(page) < PAGE:
                return sorted(found, key=lambda raw: (raw["created"], raw["id"]))

    def id_of(self, kind: str, name: str) -> UUID | None:
        """The id of what is called so; None if nothing is."""
        first, _, second = name.partition("/")
        path, values = {
            "deployment": ("/deployments/name/{a}/{b}", {"a": first, "b": second}),
            "work_pool": ("/work_pools/{a}", {"a": first}),
            "work_queue": ("/work_pools/{a}/queues/{b}", {"a": first, "b": second}),
            "block": ("/block_types/slug/{a}/block_documents/name/{b}", {"a": first, "b": second}),
        }[kind]
        try:
            found = self.client.request("GET", path, path_params=values).json()["id"]  # type: ignore[arg-type]
        except ObjectNotFound:
            return None
        except PrefectHTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise
        self.names[found] = name
        return UUID(found)

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


def make_plan(server: Server, automations: Sequence[Described], tag: str, *, prune: bool) -> Plan:
    """What `apply` would do; problems if a name is missing or not clear."""
    plan = Plan()
    existing = server.automations()
    skipped: set[str] = set()
    for described in in_order(automations):
        same = [raw for raw in existing if raw["name"] == described.name]
        foreign = [raw for raw in same if tag not in raw["tags"]]
        if foreign:
            plan.problems.append(described.problem(("name",), not_ours(foreign[0], tag)))
            continue
        missing = missing_names(server, described, existing, automations)
        for reference in missing:
            if reference.kind != "block":
                message = f"{reference.kind}: the server has no {reference.name!r}; {HOW_TO_MAKE[reference.kind]}"
                plan.problems.append(described.problem(reference.location, message))
        if reason := why_to_skip(described, missing, skipped):
            plan.changes.append(Change(described.name, "skip", reason=reason, described=described))
            skipped |= set() if same else {described.name}
        elif not missing:
            plan.changes.append(compare(server, described, same, tag, existing))
            plan.changes += [delete(raw, "a second one of this name") for raw in same[1:]]
    names = {described.name for described in automations}
    for raw in existing:
        if tag in raw["tags"] and raw["name"] not in names:
            kept = Change(raw["name"], "keep", raw["id"], reason="no file describes it; --prune deletes it")
            plan.changes.append(delete(raw, "no file describes it") if prune else kept)
    return plan


def in_order(automations: Sequence[Described]) -> list[Described]:
    """Each after those that it names, as far as they do not name each other."""
    by_name = {described.name: described for described in automations}
    found: dict[str, Described] = {}

    def add(described: Described, way: frozenset[str]) -> None:
        for reference in described.references():
            if reference.kind == "automation" and reference.name in by_name and reference.name not in way:
                add(by_name[reference.name], way | {reference.name})
        found.setdefault(described.name, described)

    for described in automations:
        add(described, frozenset({described.name}))
    return list(found.values())


def not_ours(raw: Json, tag: str) -> str:
    """Somebody else's automation has the name, or somebody has taken the tag off ours."""
    return (
        f"name: the server has an automation {raw['name']!r} that this project did not make ({raw['id']}, without "
        f"the tag {tag!r}); rename one of the two, delete that one, or give it the tag if it is this project's"
    )


def delete(raw: Json, reason: str) -> Change:
    """The deletion of one automation."""
    return Change(raw["name"], "delete", raw["id"], reason=reason)


def why_to_skip(described: Described, missing: Iterable[Reference], skipped: Iterable[str]) -> str:
    """A block that is not there, or an automation that is skipped for such a reason; empty if there is none."""
    for reference in missing:
        if reference.kind == "block":
            kind, _, name = reference.name.partition("/")
            return f"there is no block {reference.name}; make it ({how_to_make_block(kind, name)}), and apply again"
    for reference in described.references():
        if reference.kind == "automation" and reference.name in skipped:
            return f"it names {reference.name}, which is skipped"
    return ""


HOW_TO_MAKE = {
    "deployment": "`prefect deploy --all` first",
    "work_pool": "`prefect work-pool create` first",
    "work_queue": "`prefect work-queue create` first",
    "automation": "apply its file too",
}


def how_to_make_block(kind: str, name: str) -> str:
    """In words that hold for every type of block."""
    return f"in the UI under Blocks, type {kind}, name {name}; or in Python, the block's class(...).save({name!r})"


def missing_names(
    server: Server, described: Described, existing: Iterable[Json], automations: Iterable[Described]
) -> list[Reference]:
    """The references of a file that nothing answers to."""
    known = {raw["name"] for raw in existing} | {other.name for other in automations}
    return [
        reference
        for reference in described.references()
        if (
            reference.name not in known
            if reference.kind == "automation"
            else server.id_of(reference.kind, reference.name) is None
        )
    ]


def resolver(server: Server, existing: Iterable[Json]) -> Callable[[str, str], UUID]:
    """Ids by name; of an automation that is only about to be made, a made-up one."""
    ids = {raw["name"]: raw["id"] for raw in reversed(list(existing))}  # Of two, the older is the one that stays.
    by_name = {name: identifier for identifier, name in server.names.items()}

    def id_of(kind: str, name: str) -> UUID:
        if kind == "automation":
            server.names[ids.get(name) or str(made_up_id(kind, name))] = name
            return UUID(ids[name]) if name in ids else made_up_id(kind, name)
        return UUID(by_name[name])

    return id_of


def compare(server: Server, described: Described, same: Sequence[Json], tag: str, existing: Sequence[Json]) -> Change:
    """One automation of the files beside the one of that name on the server, if there is one."""
    wanted = as_json(described, resolver(server, existing), tag, same[0] if same else None)
    if not same:
        return Change(described.name, "create", described=described)
    old, new = (flat(readable(normal(each), server.names)) for each in (same[0], wanted))
    fields = [
        Field(path, old.get(path), new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path) and not is_outline(path, old, new)
    ]
    if not fields:
        return Change(described.name, "unchanged", same[0]["id"], described=described)
    return Change(described.name, "update", same[0]["id"], fields, described=described)


def is_outline(path: str, old: Json, new: Json) -> bool:
    """Whether the path is an empty mapping or list on one side, of which the other side's entries are told anyway."""
    empty, other = (old, new) if path in old else (new, old)
    return empty[path] in ({}, []) and any(each.startswith((f"{path}.", f"{path}[")) for each in other)


def as_json(described: Described, id_of: Callable[[str, str], UUID], tag: str, existing: Json | None) -> Json:
    """What to send. Paused in the UI stays paused, unless the file says `enabled` itself."""
    data = described.resolved(id_of)
    data["tags"] = sorted({*data.get("tags", []), tag})
    if existing and "enabled" not in data:
        data["enabled"] = existing["enabled"]
    return AutomationCreate.model_validate(data).model_dump(mode="json")


def normal(raw: Json) -> Json:
    """An automation without ids and in one order, so that equal ones are equal."""
    known = {
        key: value for key, value in raw.items() if key in AutomationCreate.model_fields and key != "owner_resource"
    }
    data = AutomationCreate.model_validate(known).model_dump(mode="json", exclude={"owner_resource"})
    data["tags"].sort()
    plain_trigger(data["trigger"])
    return data


def plain_trigger(trigger: Json) -> None:
    """Without ids, and what is a set in the order of the alphabet."""
    trigger.pop("id", None)
    for key in ("after", "expect", "for_each"):
        if key in trigger:
            trigger[key] = sorted(trigger[key])
    for child in trigger.get("triggers", []):
        plain_trigger(child)


def readable(data: Json, names: dict[str, str]) -> Json:
    """With names in place of the ids that have one."""
    for key in ACTION_LISTS:
        for action in data.get(key, []):
            for kind, named in NAMED.items():
                if (identifier := action.get(named.id_key)) in names:
                    action[kind] = names[action.pop(named.id_key)]
                elif named.id_key in action:
                    action[kind] = action.pop(named.id_key)
                    if identifier is None:
                        del action[kind]
    return data


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """`{"trigger.within": 60, "actions[0].type": ...}`; lists of plain values stay whole."""
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{path}.{key}" if path else key).items()}
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return {k: v for index, inner in enumerate(value) for k, v in flat(inner, f"{path}[{index}]").items()}
    return {path: value}


def carry_out(server: Server, plan: Plan, tag: str, say: Callable[[Change, str], None]) -> bool:
    """Makes the changes one by one and says what became of each; True if all could be made."""
    whole, waiting = True, []
    for position, change in enumerate(plan.changes):
        coming = {other.name for other in plan.changes[position:] if other.kind == "create"}
        error, waits = attempt(server, change, tag, coming)
        if waits and not error:
            waiting.append(change)
        else:
            whole = whole and not error
            say(change, error)
    for change in waiting:  # These name each other; now that all are there, each can be told the other's id.
        error, _ = attempt(server, change, tag, set())
        whole = whole and not error
        say(change, error)
    return whole


def attempt(server: Server, change: Change, tag: str, coming: set[str]) -> tuple[str, bool]:
    """Why a change could not be made, or nothing; and whether it has to be made again, for what is only coming."""
    try:
        return "", make_change(server, change, tag, coming)
    except PrefectHTTPStatusError as error:
        return f"{error.response.status_code} {error.response.text[:500]}", False
    except (ObjectNotFound, httpx.HTTPError, LookupError) as error:
        return str(error) or repr(error), False


def make_change(server: Server, change: Change, tag: str, coming: set[str]) -> bool:
    """One change; True if it names an automation that is only coming.

    The server is read again right before, because somebody else may be at it too.
    """
    if change.kind == "delete":
        assert change.id is not None
        server.delete(change.id)
    if not change.described or not change.changes_something:
        return False
    existing = server.automations()
    there = {raw["name"] for raw in existing}
    absent = {r.name for r in change.described.references() if r.kind == "automation"} - there
    if absent - coming:
        raise LookupError(f"the automation {', '.join(sorted(absent - coming))}, which it names, is not there")
    same = [raw for raw in existing if raw["name"] == change.name and tag in raw["tags"]]
    body = as_json(change.described, resolver(server, existing), tag, same[0] if same else None)
    if same and [found.path for found in change.fields] == ["enabled"]:
        server.enable(same[0]["id"], body["enabled"])
    elif same:
        server.update(same[0]["id"], body)
    else:
        server.create(body)
        drop_doubles(server, change.name, tag)
    return bool(absent)


def drop_doubles(server: Server, name: str, tag: str) -> None:
    """Of two that were created at the same time, the older stays; both sides come to the same."""
    ours = [raw for raw in server.automations() if raw["name"] == name and tag in raw["tags"]]
    for raw in ours[1:]:
        server.delete(raw["id"])
