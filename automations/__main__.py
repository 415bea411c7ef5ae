"""The command: `python -m automations`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from prefect.server.events.actions import ActionFailed
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

File = Annotated[Path, Parameter(help="Files to read; by default every *.yaml and *.yml beside this command.")]
Prune = Annotated[bool, Parameter(negative="")]
ProjectFolder = Annotated[
    Path | None,
    Parameter(
        name="--project", help="The folder of prefect.yaml; by default this one, or else the one of automations/."
    ),
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for machines.")]


@app.command
def validate(*files: File, project: ProjectFolder = None, as_json: AsJson = False) -> int:
    """Check the files without a server: schema, names, parameters, templates, traps."""
    automations, _, problems = load(files, project, offline=True)
    errors = [problem for problem in problems if problem.severity == "error"]
    if as_json:
        print(json.dumps({"valid": not errors, "problems": [told(problem) for problem in problems]}, indent=2))
    else:
        print_problems(problems)
        print(f"{len(automations)} automations, {len(errors)} errors, {len(problems) - len(errors)} warnings")
    return 1 if errors else 0


@app.command
def plan(*files: File, project: ProjectFolder = None, prune: Prune = False, as_json: AsJson = False) -> int:
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
def apply(*files: File, project: ProjectFolder = None, prune: Prune = False, as_json: AsJson = False) -> int:
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
def destroy(*, project: ProjectFolder = None, as_json: AsJson = False) -> int:
    """Delete every automation of this project (those with its tag), and no other."""
    known = project_in(project)
    with connected() as server:
        ours = [raw for raw in server.automations() if known.tag in raw["tags"]]
        planned = Plan([Change(raw["name"], "delete", raw["id"]) for raw in ours])
        return report(carry_out, server, planned, known.tag, as_json)


@app.command
def test(event: Path, *files: File, project: ProjectFolder = None, as_json: AsJson = False) -> int:
    """Show which automations an event would fire, and with which parameters; offline, by the server's own rules.

    Parameters
    ----------
    event
        A JSON file with one event, as the API or the UI shows it (or a file of samples/).
    """
    automations, _, problems = load(files, project, offline=True)
    if stop(problems, as_json):
        return 1
    received = read_events(event)
    outcomes = [{"event": each.event} | outcome(described, each) for each in received for described in automations]
    if as_json:
        print(json.dumps(outcomes, indent=2))
        return 0
    for each in received:
        print(f"{each.event} of {each.resource.id}")
        for found in outcomes:
            if found["event"] == each.event:
                print_outcome(found)
    return 0


class EventError(Exception):
    """A file that holds no event; the message says why."""


def read_events(file: Path) -> list[ReceivedEvent]:
    """The event of a file, or of a sample, which can stand for several; EventError if there is none."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        data = data["event"] if isinstance(data, dict) and isinstance(data.get("event"), dict) else data
        names = data.get("event") if isinstance(data, dict) else None
        each = [data] if not isinstance(names, list) else [data | {"event": name} for name in names]
        return [ReceivedEvent.model_validate(one) for one in each]
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}" for wrong in error.errors())
        raise EventError(f"{file}: is no event of Prefect's: {said}") from error
    except json.JSONDecodeError as error:
        raise EventError(f"{file}:{error.lineno}: not JSON: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EventError(f"{file}: cannot be read: {error}") from error


def print_outcome(found: dict[str, Any]) -> None:
    """One line an automation, and one an action."""
    print(f"  {found['automation']}: {found['outcome']}")
    for action in found["actions"]:
        print(f"      {action}")


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
        starts = triggers[0].starts_after(event.event)
        said = f"starts the clock: fires if nothing comes within {triggers[0].within}" if starts else "stops the clock"
    elif triggers[0].after:
        said = f"fires, if it comes within {triggers[0].within} after one of {', '.join(sorted(triggers[0].after))}"
    elif triggers[0].threshold > 1:
        said = f"counts as one of {triggers[0].threshold} events within {triggers[0].within}"
    else:
        said = "fires"
    actions = []
    for index, (_, action) in enumerate(described.actions() if said.startswith(("fires", "starts")) else []):
        shown = {key: value for key, value in action.items() if key in ("type", "deployment", "block", "state")}
        if action["type"] == "run-deployment":
            try:
                shown["parameters"] = rendered_parameters(automation, index, event)
            except Exception as error:  # A template can do anything; the server would fail the action, too.
                shown["fails"] = error.reason if isinstance(error, ActionFailed) else str(error)
        actions.append(shown)
    return {"automation": described.name, "outcome": said, "actions": actions}


def load(
    files: Sequence[Path], folder: Path | None, *, offline: bool = False
) -> tuple[list[Described], Project, list[Problem]]:
    """The automations of the files, the project, and everything that is wrong."""
    project = project_in(folder)
    beside = sorted({*HERE.glob("*.yaml"), *HERE.glob("*.yml")})
    automations, problems = read(files or beside)
    others = [described.name for described in read(beside)[0]] if offline else None
    problems += check(automations, project, read_samples(HERE / "samples"), others)
    return (
        automations,
        project,
        sorted(set(problems), key=lambda problem: (problem.file, problem.line, problem.message)),
    )


def project_in(folder: Path | None) -> Project:
    """The project of that folder; without one, of this folder or of the one that this command lies in."""
    here = Path()
    return read_project(folder or (here if (here / "prefect.yaml").exists() else HERE.parent))


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


PLANNED = {kind: kind for kind in ("create", "update", "delete", "unchanged", "skip", "keep")}
DONE = PLANNED | {"create": "created", "update": "updated", "delete": "deleted", "skip": "skipped", "keep": "kept"}


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
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(app(given) or 0)
    except (ServerError, ProjectError, EventError) as error:
        if "--json" in given:
            print(json.dumps({"error": str(error)}, indent=2))
        print(f"error: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
