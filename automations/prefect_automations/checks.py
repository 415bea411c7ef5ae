"""What can be known without a server: names, parameters, templates, and the traps of Prefect's triggers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    DiscordWebhook,
    MattermostWebhook,
    MicrosoftTeamsWebhook,
    OpsgenieWebhook,
    PagerDutyWebHook,
    SendgridEmail,
    SlackWebhook,
    TwilioSMS,
)

from .files import NAMED, AutomationFile, Reference, as_list
from .loop_checks import check_doubles, check_loops
from .model import Model, model_of
from .problems import Problem, expected
from .project import Project
from .samples import Sample
from .template_checks import check_templates
from .trigger_checks import check_triggers

NOTIFY = {
    block.get_block_type_slug()
    for block in (
        CustomWebhookNotificationBlock,
        DiscordWebhook,
        MattermostWebhook,
        MicrosoftTeamsWebhook,
        OpsgenieWebhook,
        PagerDutyWebHook,
        SendgridEmail,
        SlackWebhook,
        TwilioSMS,
    )
}
"""Types of blocks that send notifications, of those that come with Prefect."""
NO_NOTIFY = {"webhook", "secret", "json", "string", "date-time", "local-file-system", "remote-file-system", "smb"}


def check(
    automations: Sequence[AutomationFile],
    project: Project,
    samples: Sequence[Sample],
    others: Sequence[AutomationFile] = (),
    *,
    offline: bool = True,
) -> list[Problem]:
    """Every problem of automations, which may name each other and the others; offline, also names not known here."""
    models = [model_of(each) for each in automations]
    problems: list[Problem] = []
    names = {each.name for each in (*automations, *others)}
    for model in models:
        problems += check_empty(model)
        problems += check_blocks(model)
        problems += check_names(model.file, known_names(project, names), project.unread, offline)
        problems += check_triggers(model, samples)
        problems += check_loops(model, project, samples)
        problems += check_templates(model, project, samples)
    return [*problems, *check_doubles(models, [model_of(each) for each in others], samples)]


def check_empty(model: Model) -> Iterator[Problem]:
    """A name that nobody sees, and an automation that does nothing."""
    name = model.file.data.get("name")
    if isinstance(name, str) and name and not name.strip():
        yield model.file.warning(("name",), "name: is blank; nobody would find it")
    if "actions" in model.file.data and model.file.data["actions"] == []:
        others = (model.file.data.get(key) for key in ("actions_on_trigger", "actions_on_resolve"))
        if not any(as_list(each) for each in others):
            yield model.file.warning(("actions",), "actions: none, so this does nothing")


def check_blocks(model: Model) -> Iterator[Problem]:
    """Blocks of a type that the action cannot use."""
    for action in model.actions:
        kind = str(action.data.get("block", "")).partition("/")[0]
        place = (*action.location, "block")
        if action.type == "call-webhook" and kind and kind != "webhook":
            yield model.file.warning(place, f"block: call-webhook needs a webhook/..., got {kind!r}")
        if action.type == "send-notification" and kind in NO_NOTIFY:
            message = f"block: send-notification needs a block that notifies, got {kind!r}: {expected(NOTIFY, kind)}"
            yield model.file.warning(place, message)


def known_names(project: Project, automations: Iterable[str]) -> dict[str, list[str]]:
    """What prefect.yaml and the files know, by the key that names it; blocks are only on a server."""
    return {
        "deployment": sorted(project.deployments),
        "work_pool": sorted(project.work_pools),
        "work_queue": sorted(project.work_queues),
        "automation": sorted(automations),
    }


def check_names(
    file: AutomationFile, known: Mapping[str, list[str]], unread: Mapping[str, str], offline: bool
) -> Iterator[Problem]:
    """Names of another form; offline also those that nothing here knows, as warnings, since a server may."""
    for reference in file.references():
        names = known.get(reference.kind, [])
        same = [name for name in names if name.rpartition("/")[2] == reference.name.rpartition("/")[2] != ""]
        there = f" (there is {', '.join(same)})" if same and reference.name not in same else ""
        form = NAMED[reference.kind]
        if not form.fits(reference.name):
            message = f"{reference.kind}: expected {form.form}, got {reference.name!r}{there}"
            yield file.problem(reference.location, message)
        elif offline and reference.kind in known and reference.name not in names:
            why = unread.get(reference.name.partition("/")[2]) if reference.kind == "deployment" else None
            yield file.warning(reference.location, why_unknown(reference, names, why, there))


def why_unknown(reference: Reference, names: list[str], why: str | None, there: str) -> str:
    """What is said of a name that nothing here knows."""
    if why:
        return f"deployment: its flow and parameters were not checked: {why}"
    where = "is described by no file" if reference.kind == "automation" else "is not in prefect.yaml"
    return f"{reference.kind}: {where}: {expected(names, reference.name)}{there}; a server may have it, as plan says"
