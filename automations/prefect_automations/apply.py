"""Makes a server's automations what a plan says, one change after the other.

Requests: for a create, the creation, and with every few of them one question whether somebody else has just made the
same; for an update, the automation as it is now and the update; for a deletion, the deletion. Updates are made in place
and keep the id. The server gives new ids to the triggers whenever anything but `enabled` is updated, and forgets the
events that it has counted; so nothing is sent where nothing differs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .environment import hide
from .errors import ConnectionLostError
from .plan import Change, Plan, body_of, differences, id_resolver, identity_tag
from .server import Json, RefusedError, Server, one_change

Report = Callable[[Change, str], None]
"""Called with each change, and the reason if it could not be made."""
TOGETHER = 5
"""So many new automations are looked for with one question."""


@dataclass
class Applied:
    """What became of the changes of a plan."""

    made: list[Change] = field(default_factory=list)
    failed: list[tuple[Change, str]] = field(default_factory=list)
    not_tried: list[Change] = field(default_factory=list)
    """What was left when the connection was lost."""

    @property
    def all_made(self) -> bool:
        return not self.failed and not self.not_tried


@dataclass
class Work:
    """The changes on their way."""

    server: Server
    tag: str
    report: Report
    ids: dict[str, str]
    """Name -> id of every automation on the server."""
    left: list[Change]
    new: list[Change] = field(default_factory=list)
    """Created, and not yet looked for whether somebody else has made the same."""
    unfinished: dict[str, Change] = field(default_factory=dict)
    """By name: those that name an automation that was not there yet."""
    applied: Applied = field(default_factory=Applied)

    def done(self, change: Change) -> None:
        """A change that was made."""
        self.applied.made.append(change)
        self.report(change, "")

    def fail(self, change: Change, error: str) -> None:
        """A change that could not be made; the answer may repeat a value of the environment."""
        message = hide(error, change.file.values) if change.file else error
        self.applied.failed.append((change, message))
        self.report(change, message)


def apply_plan(server: Server, plan: Plan, tag: str, report: Report) -> Applied:
    """Makes the changes one by one; stops where the server no longer answers.

    Automations that name each other are made first and get the other's id afterwards.
    """
    work = Work(server, tag, report, dict(plan.automation_ids), [*plan.changes])
    try:
        while work.left:
            make_next(work, work.left[0])
            del work.left[0]
        settle(work)
        while work.unfinished:
            finish(work, next(iter(work.unfinished)))
    except ConnectionLostError as error:
        stop(work, str(error))
    return work.applied


def stop(work: Work, error: str) -> None:
    """The connection is lost: what was made, what it was lost with, and what is left."""
    for change in work.new:
        if change.name not in work.unfinished:
            work.done(change)
    waiting = [change for change in (*work.left, *work.unfinished.values()) if change.changes_something]
    if waiting:
        work.fail(waiting[0], error)
    work.applied.not_tried = waiting[1:]


def make_next(work: Work, change: Change) -> None:
    """The next change."""
    names = automations_named(change)
    if change.kind != "create" or names or len(work.new) >= TOGETHER:
        settle(work)
    coming = {other.name for other in work.left[1:] if other.kind == "create"}
    try:
        with one_change():
            made = make_change(work, change, names, coming)
    except RefusedError as error:
        work.fail(change, str(error))
        return
    if made.id and made.file:
        work.ids[made.name] = made.id
    if change.changes_something and names & coming - work.ids.keys():
        work.unfinished[made.name] = made
    if change.kind == "create":
        work.new.append(made)
    elif made.name not in work.unfinished:
        work.done(made)


def automations_named(change: Change) -> set[str]:
    """The automations that a change's actions pause or resume."""
    references = change.file.references() if change.file else []
    return {reference.name for reference in references if reference.kind == "automation"}


def make_change(work: Work, change: Change, names: set[str], coming: set[str]) -> Change:
    """One change, with the id that the automation has then. RefusedError if it names what is not there."""
    if change.kind == "delete":
        assert change.id is not None
        work.server.delete(change.id)
    if not change.file or change.kind not in ("create", "update"):
        return change
    if absent := sorted(names - work.ids.keys() - coming - {change.name}):
        raise RefusedError(f"the automation {', '.join(absent)}, which it names, is not there")
    current = work.server.automation(change.id) if change.id else None
    return replace(change, id=update(work, change, current) if current else create(work, change))


def update(work: Work, change: Change, current: Json) -> str:
    """In place, if it still differs; anew where the API cannot do it in place. The id."""
    assert change.file is not None
    body = body_of(change.file, id_resolver(work.server, work.ids), work.tag, current)
    if change.needs_a_new_one:
        made = work.server.create(body)
        work.server.delete(current["id"])
        return made
    fields = differences(current, body, change.file, work.server.names)
    if [each.path for each in fields] == ["enabled"]:
        work.server.enable(current["id"], body["enabled"])
    elif fields:
        work.server.update(current["id"], body)
    return str(current["id"])


def create(work: Work, change: Change) -> str:
    """A new one. The id."""
    assert change.file is not None
    made = work.server.create(body_of(change.file, id_resolver(work.server, work.ids), work.tag, None))
    if change.name in automations_named(change):  # It names itself.
        ids = work.ids | {change.name: made}
        work.server.update(made, body_of(change.file, id_resolver(work.server, ids), work.tag, None))
    return made


def settle(work: Work) -> None:
    """Of several that were created at once the oldest stays; all who apply come to the same."""
    new, tags = work.new, [identity_tag(work.tag, change.file.key) for change in work.new if change.file]
    if not new:
        return
    try:
        with one_change():
            found = work.server.automations(*tags)
            for change, tag in zip(new, tags, strict=True):
                same = [raw["id"] for raw in found if tag in raw["tags"]]
                for identifier in same[1:]:
                    work.server.delete(identifier)
                work.ids[change.name] = same[0] if same else str(change.id)
    except RefusedError as error:
        for change in new:
            work.fail(change, f"was created, but whether somebody else made it too is not known: {error}")
    else:
        for change in new:
            if change.name not in work.unfinished:
                work.done(replace(change, id=work.ids[change.name]))
    work.new = []


def finish(work: Work, name: str) -> None:
    """One that names another: now that all are there, each gets the other's id."""
    change = replace(work.unfinished[name], id=work.ids[name])
    assert change.file is not None
    try:
        with one_change():
            current = work.server.automation(work.ids[name])
            if current is None:
                raise RefusedError("somebody else has deleted it")
            body = body_of(change.file, id_resolver(work.server, work.ids), work.tag, current)
            work.server.update(work.ids[name], body)
        work.done(change)
    except RefusedError as error:
        work.fail(change, str(error))
    del work.unfinished[name]
