"""The command line: `baton up | down | demo | doctor | status | source | quarantine | replay | drop | prune | ...`.

Commands import what they need when they run, so that `baton --help` answers at once. Exit codes: 0 success,
1 an error, or nothing of that name, 2 wrong usage, 130 interrupted.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Group, Parameter
from pydantic import ValidationError
from pydantic_settings import SettingsError

from flows.errors import BatonError, InvalidInputError, counted
from flows.settings import PROJECT, Settings, check_prefect_api_url
from stack.local.processes import stop_all
from stack.local.profiles import ProfileName

if TYPE_CHECKING:
    from flows.sources.reader.look import Look

DATA = PROJECT / "data"
"""The folder of everything that `baton up` starts and writes."""

STACK = Group("Local stack", sort_key=0)
SOURCES = Group("Sources", sort_key=1)
BATCHES = Group("Batches and the lake", sort_key=2)
AUTOMATIONS = Group("Prefect automations", sort_key=3)

ProfileOption = Annotated[ProfileName, Parameter(help="One server and a DuckDB file, or several servers and a lake.")]
ApiOption = Annotated[str | None, Parameter(help="URL of a live dummyjson; without it the sample API plays it.")]
Folder = Annotated[Path, Parameter(parse=False)]
SourceName = Annotated[str, Parameter(help="For example dummyjson.products.")]

app = App(
    name="baton",
    help="Extract, then dbt, chained by Prefect.",
    help_flags=["--help"],
    version_flags=[],
    result_action="return_value",
)
source_app = App(name="source", help="Look at a source, write its models, check what is missing.", group=SOURCES)
app.command(source_app)


@app.command(group=STACK)
def up(
    *,
    profile: ProfileOption = "one-machine",
    api: ApiOption = None,
    port: Annotated[int, Parameter(help="Port of the Prefect server and its UI.")] = 4200,
    folder: Folder = DATA,
) -> None:
    """Start server, worker and schedules; they run until `baton down`."""
    from stack.local.up import start_stack

    stack = start_stack(folder, profile=profile, api=api, port=port, schedules=True, say=print)
    ui = stack.prefect_api.removesuffix("/api")
    shown = folder.relative_to(PROJECT) if folder.is_relative_to(PROJECT) else folder
    variables = shown / "stack.env"
    scale = profile == "scale"
    environment = f"set -a; . {variables}; set +a" if scale else f"export PREFECT_API_URL={stack.prefect_api}"
    print(
        f"""
Open   {ui}{f"    (it asks for PREFECT_API_AUTH_STRING of {variables})" if scale else ""}
Type   {environment}
       .venv/bin/prefect deployment run extract/dummyjson-products    # the automation starts dbt
       .venv/bin/prefect deployment run orchestrate/dummyjson         # all extracts, then dbt, in one run
       cd dbt && ../.venv/bin/dbt build                               # dbt by hand, on the same data
Data   {shown}/, which `make down` leaves as it is
End    make down"""
    )


@app.command(group=STACK)
def down(*, folder: Folder = DATA) -> None:
    """End what `baton up` started; the data stays."""
    ended = stop_all(folder)
    print(f"ended: {', '.join(ended)}" if ended else "nothing was running")


@app.command(group=STACK)
def demo(*, profile: ProfileOption = "one-machine", api: ApiOption = None) -> int:
    """Run the three chainings on a stack of their own and check every number."""
    from stack.demo import run_demo

    return run_demo(profile, api)


@app.command(group=STACK)
def doctor(
    *,
    profile: ProfileOption = "one-machine",
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for machines.")] = False,
    folder: Folder = DATA,
) -> int:
    """Check what runs and say how to fix what is wrong; exit code 1 if something is."""
    check_prefect_api_url(os.environ.get("PREFECT_API_URL"))
    from stack.doctor import examine
    from stack.doctor.findings import healthy, in_json, in_text
    from stack.doctor.target import find

    findings = examine(find(folder, profile == "scale"))
    print(in_json(findings) if as_json else in_text(findings))
    return 0 if healthy(findings) else 1


@app.command(group=STACK)
def status(
    *,
    profile: ProfileOption = "one-machine",
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for scripts.")] = False,
    watch: Annotated[bool, Parameter(negative="", help="Print it again every five seconds, until Ctrl-C.")] = False,
    html: Annotated[Path | None, Parameter(help="Write a page with plots to this file, in place of printing.")] = None,
    folder: Folder = DATA,
) -> int:
    """Show each source: how old, how fast, what is pending or failed; exit code 1 if something has to be done."""
    check_prefect_api_url(os.environ.get("PREFECT_API_URL"))
    from stack.doctor.target import find
    from stack.status.read import read_status
    from stack.status.text import in_json, print_status, watch_status

    target = find(folder, profile == "scale")
    if watch:
        watch_status(lambda: read_status(target))
    found = read_status(target)
    if html is not None:
        from flows.warehouse.figures import read_history
        from stack.status.page import write_page

        write_page(found, [] if found.warehouse_problem else read_history(target.baton), html)
        print(f"wrote {html}")
    elif as_json:
        print(in_json(found))
    else:
        print_status(found)
    return 0 if found.ok else 1


@app.command(group=STACK)
def clean(*, profile: ProfileOption = "one-machine", folder: Folder = DATA) -> None:
    """End what `baton up` started and remove its data, also from databases."""
    from stack.local.down import remove_stack

    down(folder=folder)
    for removed in remove_stack(folder, profile):
        print(f"removed: {removed}")


@source_app.command(name="try")
def try_source(name: SourceName) -> None:
    """Read one page of a source and show what an extract would make of it; lands nothing."""
    from flows.sources.reader.look import show

    print(show(first_look(name)))


@source_app.command(name="new")
def new_source(name: SourceName) -> None:
    """Write the dbt models and the deployment of a declared source, from one page of it."""
    from flows.sources.reader.scaffold import write_models

    written = write_models(first_look(name), Settings().dbt_project, PROJECT / "prefect.yaml")
    for path in written:
        print(f"wrote {path}")
    print("Deploy it with: prefect --no-prompt deploy --all" if written else "nothing was missing")


@source_app.command(name="check")
def check_sources(
    name: Annotated[str | None, Parameter(help="Only this source; all deployed ones by default.")] = None,
    *,
    secrets: Annotated[bool, Parameter(help="Whether secrets have to be set; not in CI, which has none.")] = True,
) -> int:
    """Check that each deployed source has its declaration, secrets and models; exit code 1 if one lacks something."""
    from flows.sources.reader import check

    settings = Settings()
    problems = check.check_sources(
        PROJECT / "prefect.yaml",
        settings.dbt_project,
        settings.source_folders,
        settings.api_urls,
        only=name,
        environments=[os.environ] if secrets else [],
    )
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{counted(len(problems), 'problem', 'problems')} found")
    return 1 if problems else 0


def first_look(name: str) -> "Look":
    """One page of a source, with the secrets of this environment and of the Prefect server."""
    from flows.server.secrets import read_secret_block
    from flows.sources.reader.files import find_source
    from flows.sources.reader.look import look_at
    from flows.sources.reader.secrets import Secrets

    settings = Settings()
    return look_at(find_source(name, settings.source_folders, settings.api_urls), Secrets(read_secret_block))


@app.command(group=BATCHES)
def quarantine(
    *, dropped: Annotated[bool, Parameter(negative="", help="List those that `baton drop` gave up.")] = False
) -> None:
    """List the quarantined batches, each with its reason."""
    from flows.processing.batches import list_dropped, list_quarantined

    found = list_dropped(Settings()) if dropped else list_quarantined(Settings())
    for each in found:
        print(f"{each.at:%Y-%m-%d %H:%M} UTC  {each.source}  {each.batch_id}\n  {each.reason}")
    print(f"{counted(len(found), 'batch', 'batches')} {'dropped' if dropped else 'quarantined'}")


@app.command(group=BATCHES)
def replay(
    source: SourceName,
    batch_id: Annotated[str, Parameter(help="As `baton quarantine` lists it.")],
) -> int:
    """Make a quarantined batch pending again."""
    from flows.processing import batches

    if batches.replay(Settings(), source, batch_id):
        print(f"{source} {batch_id} is pending again; the next transform processes it")
        return 0
    print(f"{source} {batch_id} is not quarantined; `baton quarantine` lists what is", file=sys.stderr)
    return 1


@app.command(group=BATCHES)
def drop(
    source: Annotated[str, Parameter(help="For example dummyjson.products.")],
    batch_id: Annotated[str, Parameter(help="As `baton quarantine` lists it.")],
) -> int:
    """Give up a quarantined batch that can never be processed; its reason is kept."""
    from flows.processing.batches import drop_quarantined

    if drop_quarantined(Settings(), source, batch_id):
        print(f"{source} {batch_id} is dropped; `baton quarantine --dropped` lists it")
        return 0
    print(f"{source} {batch_id} is not quarantined; `baton quarantine` lists what is", file=sys.stderr)
    return 1


@app.command(group=BATCHES)
def publish(
    *, to: Annotated[str | None, Parameter(help="Roll back to what this transform published (a flow run id).")] = None
) -> None:
    """List what was published; with --to, show readers a kept publication again."""
    from flows.processing.batches import roll_back
    from flows.warehouse.publishing import list_publications

    if to is not None:
        print(f"readers see what {roll_back(Settings(), to).transform_run_id} published, until something new is built")
        return
    for each in list_publications(Settings()):
        state = "kept" if each.kept else "gone"
        how = "rolled back to" if each.rolled_back else "published by"
        print(f"{each.published_at:%Y-%m-%d %H:%M} UTC  {how} {each.transform_run_id}  {state}  {each.place}")


@app.command(group=BATCHES)
def prune(
    *,
    days: Annotated[float, Parameter(help="Keep what was extracted within so many days.")],
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be removed.")] = False,
) -> None:
    """Remove old landed batches that the ledger holds, never others."""
    from flows.processing import batches

    pruned = batches.prune(Settings(), days, dry_run=dry_run)
    for reason in pruned.kept:
        print(f"kept, because its age is unknown: {reason}", file=sys.stderr)
    for folder in pruned.removed:
        print(f"{'would remove' if dry_run else 'removed'} {folder}")
    if pruned.leftovers:
        print(f"removed {counted(pruned.leftovers, 'object', 'objects')} that killed extracts left")
    verb = "would be removed" if dry_run else "removed"
    print(
        f"{counted(len(pruned.removed), 'batch', 'batches')} extracted before {pruned.before:%Y-%m-%d %H:%M} UTC {verb}"
    )


@app.command(group=BATCHES)
def maintain(*, days: Annotated[float, Parameter(help="Keep the snapshots of so many days.")] = 7.0) -> None:
    """DuckLake only: merge small files and expire old snapshots."""
    from flows.processing import batches

    batches.maintain(Settings(), days)
    print(f"merged small files; expired snapshots older than {days:g} days and removed their files")


# A program of its own, loaded when it is called: its help and its exit codes are its own, so arguments are passed on.
@app.command(group=AUTOMATIONS, help_flags=[])
def automations(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Validate, plan and apply automations/*.yaml."""
    check_prefect_api_url(os.environ.get("PREFECT_API_URL"))
    from automations.prefect_automations.cli import main

    return main(arguments)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and prints its error, if it has one; returns the exit code."""
    try:
        return int(app(arguments, exit_on_error=False) or 0)
    except CycloptsError:  # Printed already.
        return 2
    except (InvalidInputError, ValidationError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (BatonError, ConnectionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def main() -> int:
    """The console script; SIGTERM ends it as Ctrl-C does, so that it ends what it started."""
    signal.signal(signal.SIGTERM, interrupt)
    return run(sys.argv[1:])


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raises what Ctrl-C raises."""
    raise KeyboardInterrupt
