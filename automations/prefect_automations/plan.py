"""The difference between the files and a server: what `apply` would do.

An automation is known by the project's tag and a tag with its file's name, so that one that was renamed in the UI is
updated, not made a second time. What has no tag of the project is somebody else's and stays as it is.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError

from .environment import HIDDEN, has_variable, hide
from .files import ACTION_LISTS, NAMED, AutomationFile, Reference, as_list, made_up_id
from .loop_checks import check_doubles
from .model import Model, model_of
from .prefect_server import AutomationCreate
from .problems import Problem
from .samples import Sample
from .schema import is_cloud_only
from .server import Json, Server

Kind = Literal["create", "update", "delete", "unchanged", "skip", "keep"]


@dataclass(frozen=True)
class Field:
    """One field that differs: its path, what the server has, and what the file says; no secret in either."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Change:
    """What is to be done with one automation, or why nothing is."""

    name: str
    kind: Kind
    id: str | None = None
    fields: Sequence[Field] = ()
    reason: str = ""
    file: AutomationFile | None = None

    @property
    def changes_something(self) -> bool:
        return self.kind in ("create", "update", "delete")

    @property
    def needs_a_new_one(self) -> bool:
        """Whether the update cannot be made in place: the API takes `owner_resource` only at creation."""
        return any(field.path == "owner_resource" for field in self.fields)


@dataclass
class Plan:
    """All changes, in the order in which they can be made; what must be corrected before any is; and the ids known."""

    changes: list[Change] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    automation_ids: dict[str, str] = field(default_factory=dict)
    """Name -> id of the automations on the server, and of those in the files by the names that the files have."""


def identity_tag(tag: str, key: str) -> str:
    """The tag of one file's automation."""
    return f"{tag}/{key}"


def key_of(raw: Json, tag: str) -> str | None:
    """The file that an automation on the server comes from; None if it was made before there were such tags."""
    keys = [each.removeprefix(f"{tag}/") for each in raw["tags"] if each.startswith(f"{tag}/")]
    return keys[0] if keys else None


def make_plan(
    server: Server,
    automations: Sequence[AutomationFile],
    tag: str,
    *,
    prune: bool,
    others: Sequence[AutomationFile] = (),
    samples: Sequence[Sample] = (),
) -> Plan:
    """What `apply` would do; problems if a name is missing or not clear, and warnings of what the server has besides.

    `others` are files of the project that were not given: what is theirs is not taken for one of these.
    """
    existing = server.automations()
    matched = match(automations, existing, tag, {each.key for each in others})
    plan = Plan(automation_ids=ids_by_name(existing, matched, automations))
    server.look_up(reference for each in automations for reference in each.references())
    for identifier, name in ((identifier, name) for name, identifier in plan.automation_ids.items()):
        server.names[identifier] = name
    skipped: set[str] = set()
    for file in in_order(automations):
        plan_one(plan, server, file, matched[file.key], existing, automations, tag, skipped)
    claimed = {raw["id"] for each in matched.values() for raw in each}
    for raw in existing:
        if tag in raw["tags"] and raw["id"] not in claimed:
            plan.changes.append(leftover(raw, prune))
    plan.problems += doubles_on_server(automations, existing, claimed, server, samples)
    if any(change.changes_something for change in plan.changes):
        server.check_version()
    return plan


def match(
    automations: Sequence[AutomationFile], existing: Sequence[Json], tag: str, other_keys: Iterable[str]
) -> dict[str, list[Json]]:
    """The automations on the server that are each file's, the one that stays first.

    By the tag with the file's name; else by a name, if no file claims it by its tag; else the one that is adopted.
    """
    keys = {each.key for each in automations} | set(other_keys)
    taken: set[str] = set()
    matched: dict[str, list[Json]] = {each.key: [] for each in automations}

    def claim(file: AutomationFile, belongs: Callable[[Json], bool]) -> None:
        for raw in existing:
            if raw["id"] not in taken and belongs(raw):
                taken.add(raw["id"])
                matched[file.key].append(raw)

    for file in automations:
        claim(file, lambda raw, file=file: tag in raw["tags"] and key_of(raw, tag) == file.key)  # type: ignore[misc]
    for file in automations:
        names = (file.name, *file.former_names)
        claim(
            file,
            lambda raw, file=file, names=names: (  # type: ignore[misc]
                tag in raw["tags"]
                and (key_of(raw, tag) in file.former_names or key_of(raw, tag) not in keys)
                and (raw["name"] in names or key_of(raw, tag) in file.former_names)
            ),
        )
    for file in automations:
        if file.adopts and not matched[file.key]:
            claim(file, lambda raw, file=file: raw["id"] == file.adopts)  # type: ignore[misc]
    return matched


def ids_by_name(
    existing: Sequence[Json], matched: Mapping[str, Sequence[Json]], automations: Iterable[AutomationFile]
) -> dict[str, str]:
    """Name -> id: as the server has them, and as the files call theirs. Of two on the server, the older."""
    ids = {raw["name"]: raw["id"] for raw in reversed(existing)}
    return ids | {each.name: matched[each.key][0]["id"] for each in automations if matched[each.key]}


def plan_one(
    plan: Plan,
    server: Server,
    file: AutomationFile,
    same: Sequence[Json],
    existing: Sequence[Json],
    automations: Sequence[AutomationFile],
    tag: str,
    skipped: set[str],
) -> None:
    """Adds what is to be done for one file, or what must be corrected before."""
    foreign = [raw for raw in existing if raw["name"] == file.name and tag not in raw["tags"]]
    if foreign and not same:
        plan.problems.append(file.problem(("name",), not_ours(foreign[0], tag)))
        return
    missing = missing_names(server, file, plan.automation_ids, automations)
    for reference in missing:
        if reference.kind != "block":
            message = f"{reference.kind}: the server has no {reference.name!r}; {HOW_TO_MAKE[reference.kind]}"
            plan.problems.append(file.problem(reference.location, message))
    plan.problems += ambiguous_names(file, existing, automations)
    plan.problems += blocks_that_cannot_notify(server, file)
    if reason := why_to_skip(file, missing, skipped):
        plan.changes.append(Change(file.name, "skip", reason=reason, file=file))
        skipped |= set() if same else {file.name}
    elif not missing:
        plan.changes.append(compare(server, file, same, tag, plan.automation_ids))
        plan.changes += [second(raw, file) for raw in same[1:]]


def in_order(automations: Sequence[AutomationFile]) -> list[AutomationFile]:
    """Each after those that it names, as far as they do not name each other."""
    by_name = {each.name: each for each in automations}
    found: dict[str, AutomationFile] = {}

    def add(file: AutomationFile, path: frozenset[str]) -> None:
        for reference in file.references():
            if reference.kind == "automation" and reference.name in by_name and reference.name not in path:
                add(by_name[reference.name], path | {reference.name})
        found.setdefault(file.name, file)

    for file in automations:
        add(file, frozenset({file.name}))
    return list(found.values())


def not_ours(raw: Json, tag: str) -> str:
    """Somebody else's automation has the name, or somebody has taken the tag off ours."""
    return (
        f"name: the server has an automation {raw['name']!r} that this project did not make (it lacks the tag "
        f"{tag!r}); rename one of the two, delete that one, or take it over with `adopts: {raw['id']}` in the file"
    )


def second(raw: Json, file: AutomationFile) -> Change:
    """One more automation of the same file: two that were made at once, or a copy that was made in the UI."""
    if raw["name"] in (file.name, *file.former_names):
        return delete(raw, "a second one of this name")
    return Change(raw["name"], "keep", raw["id"], reason=f"a copy of {file.name}; delete it if nobody needs it")


def leftover(raw: Json, prune: bool) -> Change:
    """One of the project's that no file describes."""
    if prune:
        return delete(raw, "no file describes it")
    return Change(raw["name"], "keep", raw["id"], reason="no file describes it; --prune deletes it")


def delete(raw: Json, reason: str) -> Change:
    """The deletion of one automation."""
    return Change(raw["name"], "delete", raw["id"], reason=reason)


def why_to_skip(file: AutomationFile, missing: Iterable[Reference], skipped: Iterable[str]) -> str:
    """A block that is not there, or an automation that is skipped for such a reason; empty if there is none."""
    for reference in missing:
        if reference.kind == "block":
            kind, _, name = reference.name.partition("/")
            return f"there is no block {reference.name}; make it ({how_to_make_block(kind, name)}), and apply again"
    for reference in file.references():
        if reference.kind == "automation" and reference.name in skipped:
            return f"it names {reference.name}, which is skipped"
    return ""


HOW_TO_MAKE = {
    "deployment": "deploy it first (`prefect deploy --all`, `.deploy()` or `.serve()`)",
    "work_pool": "`prefect work-pool create` first",
    "work_queue": "`prefect work-queue create` first",
    "automation": "apply its file too",
}


def how_to_make_block(kind: str, name: str) -> str:
    """In words that hold for every type of block."""
    return f"in the UI under Blocks, type {kind}, name {name}; or in Python, the block's class(...).save({name!r})"


def missing_names(
    server: Server, file: AutomationFile, ids: Mapping[str, str], automations: Iterable[AutomationFile]
) -> list[Reference]:
    """The references of a file that nothing answers to."""
    known = ids.keys() | {other.name for other in automations}
    return [
        reference
        for reference in file.references()
        if (
            reference.name not in known
            if reference.kind == "automation"
            else server.id_of(reference.kind, reference.name) is None
        )
    ]


def ambiguous_names(
    file: AutomationFile, existing: Sequence[Json], automations: Iterable[AutomationFile]
) -> list[Problem]:
    """References to a name that several automations on the server have, none of them of these files."""
    ours = {each.name for each in automations}
    return [
        file.problem(
            reference.location,
            f"automation: the server has several {reference.name!r}; rename them, or name one by its automation_id",
        )
        for reference in file.references()
        if reference.kind == "automation"
        and reference.name not in ours
        and sum(raw["name"] == reference.name for raw in existing) > 1
    ]


def blocks_that_cannot_notify(server: Server, file: AutomationFile) -> list[Problem]:
    """Blocks of send-notification that the server says cannot notify."""
    return [
        file.warning((*location, "block"), f"block: {action['block']} sends no notifications; the action would fail")
        for location, action in file.actions()
        if action.get("type") == "send-notification" and server.notifies.get(str(action.get("block"))) is False
    ]


def doubles_on_server(
    automations: Sequence[AutomationFile],
    existing: Sequence[Json],
    claimed: Iterable[str],
    server: Server,
    samples: Sequence[Sample],
) -> list[Problem]:
    """Enabled automations on the server, of others or without a file, that start a deployment as one of these does."""
    ids = set(claimed)
    others = [as_model(raw, server) for raw in existing if raw["id"] not in ids and raw.get("enabled")]
    targets = {server.id_of("deployment", r.name) for each in automations for r in each.references()}
    relevant = [
        each for each in others if any(_target(action) in targets for action in as_list(each[0].get("actions")))
    ]
    models = [model_of(each) for each in automations]
    found = check_doubles(models, [model for _, model in relevant], samples) if relevant else ()
    own = set(check_doubles(models, (), samples))  # Said when the files were checked.
    return [problem for problem in found if problem not in own]


def _target(action: Any) -> str | None:
    return action.get("deployment_id") if isinstance(action, dict) else None


def as_model(raw: Json, server: Server) -> tuple[Json, Model]:
    """An automation on the server as if a file described it."""
    data = readable({key: raw[key] for key in ("name", "trigger", *ACTION_LISTS) if key in raw}, server.names)
    return raw, model_of(AutomationFile(Path("server"), data, {}))


def id_resolver(server: Server, ids: Mapping[str, str]) -> Callable[[str, str], UUID]:
    """Ids by name; of an automation that is only about to be made, a made-up one."""

    def id_of(kind: str, name: str) -> UUID:
        if kind == "automation":
            identifier = ids.get(name) or str(made_up_id(kind, name))
            server.names[identifier] = name
            return UUID(identifier)
        found = server.id_of(kind, name)
        assert found is not None, f"{kind} {name} was looked up"
        return UUID(found)

    return id_of


def compare(server: Server, file: AutomationFile, same: Sequence[Json], tag: str, ids: Mapping[str, str]) -> Change:
    """One automation of the files beside the one that is its own on the server, if there is one."""
    if not same:
        return Change(file.name, "create", file=file)
    raw = same[0]
    wanted = body_of(file, id_resolver(server, ids), tag, raw)
    fields = differences(raw, wanted, file, server.names)
    owner = file.data.get("owner_resource")
    if owner and not server.is_related(raw["id"], str(owner)):
        fields.append(Field("owner_resource", None, hide(str(owner), file.values)))
    if not fields:
        return Change(file.name, "unchanged", raw["id"], file=file)
    reason = f"was {raw['name']}" if raw["name"] != file.name else ""
    change = Change(file.name, "update", raw["id"], fields, reason, file)
    if change.needs_a_new_one:
        return Change(file.name, "update", raw["id"], fields, "made anew: owner_resource is set at creation only", file)
    return change


def body_of(file: AutomationFile, id_of: Callable[[str, str], UUID], tag: str, existing: Json | None) -> Json:
    """What to send. Paused in the UI stays paused, unless the file says `enabled` itself."""
    data = file.resolved(id_of)
    data["tags"] = sorted({*(data.get("tags") or []), tag, identity_tag(tag, file.key)})
    if existing and "enabled" not in data:
        data["enabled"] = existing["enabled"]
    if is_cloud_only(data):
        return data
    return AutomationCreate.model_validate(data).model_dump(mode="json")


def differences(raw: Json, wanted: Json, file: AutomationFile, names: Mapping[str, str]) -> list[Field]:
    """Every field in which the server's automation is not the wanted one."""
    cloud_only = is_cloud_only(wanted) or is_cloud_only(raw)
    old, new = (flatten(readable(normal(each, cloud_only), names)) for each in (raw, wanted))
    shown = flatten(file.shown)
    fields = []
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before == after or is_outline(path, old, new) or (cloud_only and path not in new):
            continue
        if is_secret(path, shown):
            before, after = HIDDEN if path in old else None, hidden(after, file)
        fields.append(Field(path, hidden(before, file), after))
    return fields


def is_secret(path: str, shown: Json) -> bool:
    """Whether the file has a variable there, or in a part of what is there."""
    return any(
        isinstance(value, str | list) and has_variable(str(value))
        for other, value in shown.items()
        if other == path or other.startswith((f"{path}.", f"{path}[")) or path.startswith((f"{other}.", f"{other}["))
    )


def hidden(value: Any, file: AutomationFile) -> Any:
    """A value without those of the environment."""
    if isinstance(value, str):
        return hide(value, file.values)
    if isinstance(value, list):
        return [hidden(each, file) for each in value]
    if value is not None and str(value) in file.values.values():
        return hide(str(value), file.values)
    return value


def is_outline(path: str, old: Json, new: Json) -> bool:
    """Whether the path is an empty mapping or list on one side, of which the other side's entries are shown anyway."""
    empty, other = (old, new) if path in old else (new, old)
    return empty[path] in ({}, []) and any(each.startswith((f"{path}.", f"{path}[")) for each in other)


def normal(raw: Json, cloud_only: bool = False) -> Json:
    """An automation without ids and in one order, so that equal ones are equal.

    `cloud_only`: it has what only Prefect Cloud has, so the models here do not know it; it is taken as it is.
    """
    known = {key: raw[key] for key in AutomationCreate.model_fields if key in raw and key != "owner_resource"}
    known = copy.deepcopy(known)  # The server's validators change what they are given.
    try:
        data = known if cloud_only else AutomationCreate.model_validate(known).model_dump(mode="json")
    except ValidationError:  # A newer server, with what the models here do not know.
        data = known
    data = {**data, "tags": sorted(data.get("tags") or []), "trigger": plain_trigger(data["trigger"])}
    data.pop("owner_resource", None)
    return data


def plain_trigger(trigger: Json) -> Json:
    """Without ids, and what is a set in the order of the alphabet."""
    plain = {key: value for key, value in trigger.items() if key != "id"}
    for key in ("after", "expect", "for_each"):
        if key in plain:
            plain[key] = sorted(plain[key])
    if "triggers" in plain:
        plain["triggers"] = [plain_trigger(child) for child in plain["triggers"]]
    return plain


def readable(data: Json, names: Mapping[str, str]) -> Json:
    """With names in place of the ids that have one."""
    return {**data, **{key: [with_names(each, names) for each in as_list(data.get(key))] for key in ACTION_LISTS}}


def with_names(action: Json, names: Mapping[str, str]) -> Json:
    """An action with the name in place of each id; an id that nothing is known of stays, under the name's key."""
    made = dict(action)
    for kind, named in NAMED.items():
        if named.id_key in made:
            identifier = made.pop(named.id_key)
            if identifier is not None:
                made[kind] = names.get(identifier, identifier)
    return made


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """`{"trigger.within": 60, "actions[0].type": ...}`; lists of plain values stay together."""
    if isinstance(value, dict) and value:
        return {
            k: v
            for key, inner in value.items()
            for k, v in flatten(inner, f"{path}.{key}" if path else str(key)).items()
        }
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return {k: v for index, inner in enumerate(value) for k, v in flatten(inner, f"{path}[{index}]").items()}
    return {path: value}
