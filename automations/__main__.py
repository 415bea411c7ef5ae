"""The command: `python -m automations`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from prefect.server.events.schemas.automations import CompositeTrigger, EventTrigger, Posture
from prefect.server.events.schemas.events import ReceivedEvent
from pydantic import ValidationError

from automations.checks import as_server_has_it, check, fires, read_samples, rendered_parameters
from automations.files import Described, Problem, read
from automations.plan import Change, Plan, ServerError, carry_out, connected, make_plan
from automations.project import Project, ProjectError, read_project

HERE = Path(__file__).parent
DIFFERS = 2

app = App(
    name="automations",
    help=(
        "Prefect automations as code: one YAML file each, with names in place of ids.\n\n"
        "Exit codes: 0 all is well; 1 something is wrong, and the message says what; "
        "2 (plan only) something would change."
    ),
    version_flags=[],
    result_action="return_value",
)

Files = Annotated[tuple[Path, ...], Parameter(help="Files to read; by default every *.yaml beside this command.")]
ProjectFolder = Annotated[Path, Parameter(name="--project", help="The folder of prefect.yaml.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for machines.")]


@app.command
def validate(*files: Path, project: ProjectFolder = Path(), as_json: AsJson = False) -> int:
    """Check the files without a server: schema, names, parameters, templates, traps."""
    automations, _, problems = load(files, project)
    errors = [problem for problem in problems if problem.severity == "error"]
    if as_json:
        print(json.dumps({"valid": not errors, "problems": [told(problem) for problem in problems]}, indent=2))
    else:
        print_problems(problems)
        print(f"{len(automations)} automations, {len(errors)} errors, {len(problems) - len(errors)} warnings")
    return 1 if errors else 0


@app.command
def plan(*files: Path, project: ProjectFolder = Path(), prune: bool = False, as_json: AsJson = False) -> int:
    """Show what apply would do; exit code 2 if anything would change, or was changed on the server.

    Parameters
    ----------
    prune
        Also plan to delete automations of this project that no file describes.
    """
    automations, known, problems = load(files, project)
    if stop(problems, as_json):
        return 1
    with connected() as server:
        planned = make_plan(server, automations, known.tag, prune=prune)
    if stop(planned.problems, as_json):
        return 1
    if as_json:
        print(json.dumps({"changes": [described_change(change) for change in planned.changes]}, indent=2))
    else:
        for change in planned.changes:
            print_change(change, "")
    return DIFFERS if any(change.changes_something for change in planned.changes) else 0


@app.command
def apply(*files: Path, project: ProjectFolder = Path(), prune: bool = False, as_json: AsJson = False) -> int:
    """Make the server's automations what the files say. Applying twice changes nothing.

    Parameters
    ----------
    prune
        Delete automations of this project that no file describes. Others are never touched.
    """
    automations, known, problems = load(files, project)
    if stop(problems, as_json):
        return 1
    with connected() as server:
        planned = make_plan(server, automations, known.tag, prune=prune)
        if stop(planned.problems, as_json):
            return 1
        return report(carry_out, server, planned, known.tag, as_json)


@app.command
def destroy(*, project: ProjectFolder = Path(), as_json: AsJson = False) -> int:
    """Delete every automation of this project (those with its tag), and no other."""
    known = read_project(project)
    with connected() as server:
        planned = make_plan(server, [], known.tag, prune=True)
        return report(carry_out, server, planned, known.tag, as_json)


@app.command
def test(event: Path, *files: Path, project: ProjectFolder = Path(), as_json: AsJson = False) -> int:
    """Show which automations an event would fire, and with which parameters; offline, by the server's own rules.

    Parameters
    ----------
    event
        A JSON file with one event, as the API or the UI shows it (or a file of samples/).
    """
    automations, _, problems = load(files, project)
    if stop(problems, as_json):
        return 1
    data = json.loads(event.read_text(encoding="utf-8"))
    received = ReceivedEvent.model_validate(data.get("event") if isinstance(data.get("event"), dict) else data)
    outcomes = [outcome(described, received) for described in automations]
    if as_json:
        print(json.dumps(outcomes, indent=2))
        return 0
    print(f"{received.event} of {received.resource.id}")
    for found in outcomes:
        print(f"  {found['automation']}: {found['outcome']}")
        for action in found["actions"]:
            print(f"      {action}")
    return 0


def outcome(described: Described, event: ReceivedEvent) -> dict[str, Any]:
    """What one automation makes of an event."""
    automation = as_server_has_it(described)
    triggers = [trigger for trigger in automation.triggers_of_type(EventTrigger) if trigger.covers(event)]
    counted = [trigger for trigger in triggers if fires(trigger, event)]
    if not automation.enabled:
        said = "nothing, it is disabled" + (" (it would match)" if triggers else "")
    elif not triggers:
        said = "nothing"
    elif isinstance(automation.trigger, CompositeTrigger):
        said = f"counts as one of {len(automation.trigger.triggers)} triggers" if counted else "nothing"
    elif triggers[0].posture == Posture.Proactive:
        said = f"starts the clock: fires if nothing comes within {triggers[0].within}"
    elif triggers[0].threshold > 1:
        said = f"counts as one of {triggers[0].threshold} events within {triggers[0].within}"
    else:
        said = "fires"
    actions = []
    for index, (_, action) in enumerate(described.actions() if said.startswith(("fires", "starts")) else []):
        shown = {key: value for key, value in action.items() if key in ("type", "deployment", "block", "state")}
        if action["type"] == "run-deployment":
            shown["parameters"] = rendered_parameters(automation, index, event)
        actions.append(shown)
    return {"automation": described.name, "outcome": said, "actions": actions}


def load(files: Sequence[Path], folder: Path) -> tuple[list[Described], Project, list[Problem]]:
    """The automations of the files, the project, and everything that is wrong."""
    project = read_project(folder)
    chosen = list(files) or sorted(HERE.glob("*.yaml"))
    automations, problems = read(chosen)
    samples = read_samples(HERE / "samples")
    problems += check(automations, project, samples)
    return (
        automations,
        project,
        sorted(set(problems), key=lambda problem: (problem.file, problem.line, problem.message)),
    )


def stop(problems: Sequence[Problem], as_json: bool) -> bool:
    """Whether there are errors; prints them if so."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors and as_json:
        print(json.dumps({"problems": [told(problem) for problem in errors]}, indent=2))
    elif errors:
        print_problems(errors)
        print("nothing was changed", file=sys.stderr)
    return bool(errors)


def report(carry: Any, server: Any, planned: Plan, tag: str, as_json: bool) -> int:
    """Carries a plan out and prints what became of each change."""
    done: list[dict[str, Any]] = []

    def say(change: Change, error: str) -> None:
        done.append(described_change(change) | ({"error": error} if error else {}))
        if not as_json:
            print_change(change, error, DONE)

    whole = carry(server, planned, tag, say)
    if as_json:
        print(json.dumps({"changes": done}, indent=2))
    return 0 if whole else 1


PLANNED = {kind: kind for kind in ("create", "update", "delete", "unchanged", "skip")}
DONE = PLANNED | {"create": "created", "update": "updated", "delete": "deleted", "skip": "skipped"}


def print_change(change: Change, error: str, words: dict[str, str] = PLANNED) -> None:
    """One line a change, and one a field; what failed goes to stderr."""
    if error:
        print(f"failed     {change.name}: could not {change.kind}: {error}", file=sys.stderr)
        return
    print(f"{words[change.kind]:<10} {change.name}" + (f": {change.reason}" if change.reason else ""))
    for found in change.fields:
        print(f"    {found.path}: {json.dumps(found.old)} -> {json.dumps(found.new)}")


def described_change(change: Change) -> dict[str, Any]:
    """A change, for machines."""
    return {
        "automation": change.name,
        "change": change.kind,
        "id": change.id,
        "fields": [{"path": found.path, "old": found.old, "new": found.new} for found in change.fields],
        "reason": change.reason,
    }


def told(problem: Problem) -> dict[str, Any]:
    """A problem, for machines."""
    return {
        "file": str(problem.file),
        "line": problem.line,
        "severity": problem.severity,
        "message": problem.message,
    }


def print_problems(problems: Sequence[Problem]) -> None:
    """One line a problem, as compilers print them."""
    for problem in problems:
        print(problem, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    try:
        return int(app(arguments) or 0)
    except (ServerError, ProjectError) as error:
        print(f"error: {error}", file=sys.stderr)
    except (OSError, json.JSONDecodeError, ValidationError) as error:
        print(f"error: the event could not be read: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
