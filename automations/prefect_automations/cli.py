"""The command line: `prefect-automations`."""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec

from cyclopts import App, CycloptsError, Parameter

from . import __version__
from .apply import apply_plan
from .editor_schema import editor_schema
from .errors import AutomationsError, EventError, NotConfirmedError
from .export import export as export_files
from .init import pattern_names, write_first
from .loading import Loaded, folder_of, load_all
from .model import model_of
from .outcomes import EventOutcome, outcome_of, unknown_automations
from .output import (
    DONE,
    applied_summary,
    change_as_json,
    plan_summary,
    print_change,
    print_json,
    print_problems,
    problem_as_json,
    problem_summary,
)
from .plan import Change, Plan, make_plan
from .problems import Problem, errors_of
from .project import read_project
from .samples import Sample, read_sample
from .server import Server, connected

FINE, ERROR, USAGE, DIFFERS = 0, 1, 2, 3
"""Each exit code means one thing."""

app = App(
    name="prefect-automations",
    version=__version__,
    help=(
        "Prefect automations as code: one YAML file each, with names in place of ids.\n\n"
        "Exit codes: 0 fine; 1 an error, which the message explains; 2 the command line is not right; "
        "3 plan --detailed-exitcode: the server differs from the files."
    ),
    result_action="return_value",
)

File = Annotated[Path, Parameter(help="Files to read; by default all of the folder of automations.")]
ProjectFolder = Annotated[
    Path | None, Parameter(name="--project", help="The folder of prefect.yaml; by default the current one.")
]
Folder = Annotated[
    Path | None, Parameter(name="--dir", help="The folder of automations; by default `automations` in the project.")
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for machines.")]
Prune = Annotated[
    bool,
    Parameter(negative="", help="Also delete automations of this project that no file describes. Never others."),
]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Delete without asking.")]

Arguments = ParamSpec("Arguments")


def explains_errors(command: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """A command that prints its error and returns exit code 1, also as part of another command line."""

    @functools.wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except AutomationsError as error:
            if kwargs.get("as_json"):
                print_json({"error": str(error)})
            print(f"error: {error}", file=sys.stderr)
            return ERROR

    return wrapped


@app.command
@explains_errors
def init(
    pattern: str | None = None,
    *,
    deployment: str | None = None,
    project: ProjectFolder = None,
    folder: Folder = None,
) -> int:
    """Write a first automation from a pattern; without one, list the patterns.

    Parameters
    ----------
    pattern
        The name of a pattern.
    deployment
        The deployment that it runs: flow/deployment. By default the first of prefect.yaml.
    """
    if pattern is None:
        for name, line in pattern_names().items():
            print(f"{name:<22} {line}")
        return FINE
    for file in write_first(pattern, deployment, project or Path(), folder_of(project, folder)):
        print(f"wrote      {file}")
    return FINE


@app.command
@explains_errors
def validate(*files: File, project: ProjectFolder = None, folder: Folder = None, as_json: AsJson = False) -> int:
    """Check the files without a server: schema, names, parameters, templates, and what never fires."""
    loaded = load_all(files, project, folder, offline=True)
    errors = errors_of(loaded.problems)
    if as_json:
        print_json({"valid": not errors, "problems": [problem_as_json(each) for each in loaded.problems]})
    else:
        print_problems(loaded.problems)
        print(problem_summary(len(loaded.automations), loaded.problems))
    return ERROR if errors else FINE


@app.command
@explains_errors
def plan(
    *files: File,
    project: ProjectFolder = None,
    folder: Folder = None,
    prune: Prune = False,
    detailed_exitcode: Annotated[bool, Parameter(negative="")] = False,
    as_json: AsJson = False,
) -> int:
    """Show what apply would do: what is created, updated field by field, deleted, skipped, or left.

    Parameters
    ----------
    detailed_exitcode
        Exit with 3 if anything would change, so that CI can see drift.
    """
    loaded = load_all(files, project, folder)
    if stop(loaded.problems, as_json):
        return ERROR
    with connected() as server:
        planned = plan_for(server, loaded, prune)
    if stop(planned.problems, as_json):
        return ERROR
    if as_json:
        warnings = [problem_as_json(each) for each in [*loaded.problems, *planned.problems]]
        print_json({"changes": [change_as_json(change) for change in planned.changes], "problems": warnings})
    else:
        for change in planned.changes:
            print_change(change)
        print(plan_summary(planned.changes))
    differs = any(change.changes_something for change in planned.changes)
    return DIFFERS if differs and detailed_exitcode else FINE


@app.command
@explains_errors
def apply(
    *files: File,
    project: ProjectFolder = None,
    folder: Folder = None,
    prune: Prune = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Make the server's automations what the files say. Applying twice changes nothing."""
    loaded = load_all(files, project, folder)
    if stop(loaded.problems, as_json):
        return ERROR
    with connected() as server:
        planned = plan_for(server, loaded, prune)
        if stop(planned.problems, as_json):
            return ERROR
        if prune:
            confirm([change for change in planned.changes if change.kind == "delete"], yes)
        return make_changes(server, planned, loaded.project.tag, as_json)


@app.command
@explains_errors
def destroy(*, project: ProjectFolder = None, yes: Yes = False, as_json: AsJson = False) -> int:
    """Delete every automation of this project (those with its tag), and no other."""
    known = read_project(project or Path())
    with connected() as server:
        planned = Plan([Change(raw["name"], "delete", raw["id"]) for raw in server.automations(known.tag)])
        confirm(planned.changes, yes)
        return make_changes(server, planned, known.tag, as_json)


@app.command
@explains_errors
def export(*names: str, project: ProjectFolder = None, folder: Folder = None) -> int:
    """Write what is on the server as files, with names in place of ids.

    Parameters
    ----------
    names
        Names of automations; by default all.
    """
    tag = read_project(project or Path()).tag
    with connected() as server:
        for file in export_files(server, folder_of(project, folder), names, tag):
            print(f"wrote      {file}")
    return FINE


@app.command
@explains_errors
def test(
    event: Path | None = None,
    *files: File,
    project: ProjectFolder = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> int:
    """Show what automations make of an event, offline, by the server's own rules; or hold every sample to its `expect`.

    Parameters
    ----------
    event
        A file with one event, as the API or the UI shows it, or a sample. By default every sample.
    """
    loaded = load_all(files, project, folder, offline=True)
    if stop(loaded.problems, as_json):
        return ERROR
    samples = read_event(event) if event else loaded.samples
    models = [model_of(file) for file in loaded.automations]
    outcomes = [(sample, [outcome_of(model, sample, loaded.project) for model in models]) for sample in samples]
    unknown = unknown_automations(samples, [each.name for each in [*loaded.automations, *loaded.others]])
    failures = unknown + [failure for _, found in outcomes for each in found for failure in each.failures]
    if as_json:
        print_json([outcome_as_json(each) for _, found in outcomes for each in found])
    else:
        for sample, found in outcomes:
            print_outcomes(sample, found, brief=event is None)
        for line in unknown:
            print(f"error: {line}", file=sys.stderr)
        expected = sum(len(sample.expect) for sample in samples)
        print(f"{len(samples)} events, {expected} expectations, {len(failures)} failures")
    return ERROR if failures else FINE


@app.command
@explains_errors
def schema() -> int:
    """Print the JSON schema of a file, for editors: `# yaml-language-server: $schema=automation.schema.json`."""
    print_json(editor_schema())
    return FINE


def plan_for(server: Server, loaded: Loaded, prune: bool) -> Plan:
    """The plan for what was read."""
    return make_plan(
        server,
        loaded.automations,
        loaded.project.tag,
        prune=prune,
        others=loaded.others,
        samples=loaded.samples,
    )


def read_event(file: Path) -> list[Sample]:
    """The samples of one file; EventError, with the file, if there is none."""
    try:
        return read_sample(file)
    except EventError as error:
        line = getattr(error, "line", None)
        raise EventError(f"{file}{f':{line}' if line else ''}: {error}") from error


def stop(problems: Sequence[Problem], as_json: bool) -> bool:
    """Whether there are errors; prints them, and the warnings. As JSON the warnings are printed with the rest."""
    errors = errors_of(problems)
    if errors and as_json:
        print_json({"problems": [problem_as_json(problem) for problem in problems]})
    elif not as_json:
        print_problems(problems)
        if errors:
            print("nothing was changed", file=sys.stderr)
    return bool(errors)


def confirm(deletions: Sequence[Change], yes: bool) -> None:
    """Asks before anything is deleted; NotConfirmedError if nobody says yes."""
    if yes or not deletions:
        return
    names = ", ".join(change.name for change in deletions)
    if not sys.stdin.isatty():
        raise NotConfirmedError(f"would delete {names}; nothing was changed; give --yes where nobody can be asked")
    if input(f"delete {names}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise NotConfirmedError("nothing was changed")


def make_changes(server: Server, planned: Plan, tag: str, as_json: bool) -> int:
    """Makes the changes and prints what became of each."""
    done: list[dict[str, Any]] = []

    def report(change: Change, error: str) -> None:
        done.append(change_as_json(change, error))
        if not as_json:
            print_change(change, error, DONE)

    applied = apply_plan(server, planned, tag, report)
    if as_json:
        print_json({"changes": done, "not_tried": [change.name for change in applied.not_tried]})
    else:
        print(applied_summary(applied))
    if applied.not_tried:
        names = ", ".join(change.name for change in applied.not_tried)
        print(f"error: stopped at the lost connection; not tried: {names}; apply again", file=sys.stderr)
    return FINE if applied.all_made else ERROR


def print_outcomes(sample: Sample, outcomes: Sequence[EventOutcome], *, brief: bool) -> None:
    """One line an event, one an automation, and one an action; `brief`: only what happens or fails."""
    shown = [each for each in outcomes if not brief or each.outcome != "nothing" or each.failures]
    if not shown and brief:
        return
    print(f"{sample.event.event} of {sample.event.resource.id}")
    for each in shown:
        print(f"  {each.automation}: {each.detail}")
        for action in each.actions:
            print(f"      {action}")
        for failure in each.failures:
            print(f"  failed: {sample.file}: {each.automation}: {failure}", file=sys.stderr)


def outcome_as_json(outcome: EventOutcome) -> dict[str, Any]:
    """An outcome, for machines."""
    return {
        "event": outcome.event,
        "automation": outcome.automation,
        "outcome": outcome.outcome,
        "detail": outcome.detail,
        "actions": outcome.actions,
        "failures": outcome.failures,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(app(given, exit_on_error=False, print_error=True) or FINE)
    except CycloptsError:  # Printed.
        return USAGE
