"""All that is imported from inside Prefect's server; nothing else of this package imports `prefect.server`.

These modules come with every install of `prefect` (not `prefect-client`), and no promise is made that they stay. Tried
with 3.8.8 and 3.9.1. Each group says what to do when it goes.
"""

import copy
from collections.abc import Mapping
from typing import Any, get_args

import jinja2

# The actions, as the server validates them. Without them: `prefect.events.actions` has the same types for clients, but
# validates no templates and takes `deployment_id` without a check of `source`.
from prefect.server.events.actions import RunDeployment, ServerActionTypes

# The filters that templates may use (`ui_url`, `ui_resource_events_url`). Without them: leave them out, and say that a
# template that uses one is not checked.
from prefect.server.events.jinja_filters import all_filters

# The automation and its triggers, with the server's own matching of events. Without them: `prefect.events.schemas
# .automations` has the same fields; `covers`, `expects` and `starts_after` (20 lines) would have to be written here.
from prefect.server.events.schemas.automations import (
    Automation,
    AutomationCreate,
    CompositeTrigger,
    EventTrigger,
    Firing,
    Posture,
    ServerTriggerTypes,
    TriggerState,
)

# Events and the wildcards of labels. Without them: `prefect.events.schemas.events`, and `fnmatch` with a leading `!`.
from prefect.server.events.schemas.events import ReceivedEvent, Resource, ResourceSpecification, matches

# How `{{ labels.prefect.resource.id }}` is looked up. Without it: a class with `__getattr__` over dotted keys.
from prefect.server.events.schemas.labelling import LabelDiver

# What the server looks up for a template that names it. Without them: the response models of `prefect.client.schemas`.
from prefect.server.schemas.core import ConcurrencyLimitV2, Flow, TaskRun, WorkPool
from prefect.server.schemas.responses import DeploymentResponse, FlowRunResponse, WorkQueueWithStatus

# The sandbox of templates, and what counts as one. Without them: `jinja2.sandbox.ImmutableSandboxedEnvironment`.
from prefect.server.utilities.user_templates import UserTemplateEnvironment, maybe_template

# How parameters are rendered. Without it: whatever the server's run-deployment action then calls.
from prefect.utilities.schema_tools.hydration import HydrationContext, hydrate
from pydantic import BaseModel

__all__ = [
    "ACTIONS",
    "NATIVE",
    "STRICT",
    "TRIGGERS",
    "Automation",
    "AutomationCreate",
    "CompositeTrigger",
    "EventTrigger",
    "Firing",
    "LabelDiver",
    "Posture",
    "ReceivedEvent",
    "Resource",
    "ResourceSpecification",
    "TriggerState",
    "matches",
    "maybe_template",
    "render_parameters",
    "upgraded",
]

TRIGGERS: dict[str, type[BaseModel]] = {
    kind.model_fields["type"].default: kind for kind in get_args(ServerTriggerTypes)
}
ACTIONS: dict[str, type[BaseModel]] = {kind.model_fields["type"].default: kind for kind in get_args(ServerActionTypes)}

NATIVE: dict[str, type[BaseModel]] = {
    "flow_run": FlowRunResponse,
    "flow": Flow,
    "deployment": DeploymentResponse,
    "task_run": TaskRun,
    "work_pool": WorkPool,
    "work_queue": WorkQueueWithStatus,
    "concurrency_limit": ConcurrencyLimitV2,
}
"""What the server looks up for a template that names it, if the event is about one."""


class Missing(jinja2.StrictUndefined):
    """What is not there: an error in place of nothing, but for `{% if ... %}`, which asks whether it is there."""

    def __bool__(self) -> bool:  # type: ignore[override]
        return False


def strict_environment() -> jinja2.Environment:
    """The server's sandbox, where a missing attribute is an error in place of nothing."""
    made = UserTemplateEnvironment(undefined=Missing, extensions=["jinja2_humanize_extension.HumanizeExtension"])
    made.filters.update(all_filters)
    return made


STRICT = strict_environment()


def upgraded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with each template in the form that the server renders; a text that still has `{{` never is.

    `_upgrade_v1_templates` is private. Without it: wrap each text with a template as `{"__prefect_kind": "jinja",
    "template": text}`, within mappings and lists, but not within lists of lists.
    """
    made = copy.deepcopy(dict(parameters))
    RunDeployment._upgrade_v1_templates(made)
    return made


def render_parameters(
    parameters: Mapping[str, Any], context: dict[str, Any], variables: Mapping[str, Any]
) -> dict[str, Any]:
    """A run-deployment action's parameters as the server renders them; never asks a server nor makes a database."""
    RunDeployment._register_filters_if_needed()
    return hydrate(
        upgraded(parameters),
        HydrationContext(
            raise_on_error=True,
            render_jinja=True,
            jinja_context=context,
            render_workspace_variables=True,
            workspace_variables=dict(variables),
        ),
    )
