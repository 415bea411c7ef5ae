"""`python -m stack demo | up | down | clean | doctor`, which the Makefile calls."""

import argparse
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from flows.settings import PROJECT
from stack.processes import StackError, stop_all
from stack.profiles import PROFILES, named

FOLDER = PROJECT / "data"


def up(profile: str, api: str | None, port: int, folder: Path) -> int:
    """Starts the stack to stay, and says what to open and what to type next."""
    from stack.local import start_stack

    try:
        stack = start_stack(folder, profile=profile, api=api, port=port, schedules=True, say=print)
    except StackError as error:
        print(f"make up: {error}")
        return 1
    ui = stack.prefect_api.removesuffix("/api")
    shown = folder.relative_to(PROJECT) if folder.is_relative_to(PROJECT) else folder
    variables = shown / "stack.env"
    tell = f"set -a; . {variables}; set +a" if profile == "scale" else f"export PREFECT_API_URL={stack.prefect_api}"
    print(
        f"""
Open   {ui}{f"    (it asks for PREFECT_API_AUTH_STRING of {variables})" if profile == "scale" else ""}
Type   {tell}
       .venv/bin/prefect deployment run extract/dummyjson-products    # the automation starts dbt
       .venv/bin/prefect deployment run orchestrate/dummyjson         # all extracts, then dbt, in one run
       cd dbt && ../.venv/bin/dbt build                               # dbt by hand, on the same data
Data   {shown}/, which `make down` leaves as it is
End    make down"""
    )
    return 0


def down(folder: Path) -> int:
    """Ends what `up` started; the data stays."""
    ended = stop_all(folder)
    print(f"ended: {', '.join(ended)}" if ended else "nothing was running")
    return 0


def doctor(profile: str, as_json: bool, folder: Path) -> int:
    """Looks at the stack that runs, or at the server that PREFECT_API_URL names; 1 if something is wrong."""
    from stack.doctor import examine
    from stack.doctor.findings import healthy, in_json, in_text
    from stack.doctor.patient import find

    findings = examine(find(folder, profile == "scale"))
    print(in_json(findings) if as_json else in_text(findings))
    return 0 if healthy(findings) else 1


def clean(profile: str, folder: Path) -> int:
    """Removes the data of `up`, and what it has made elsewhere, whichever profile it was."""
    down(folder)
    try:
        for removed in named("scale" if (folder / "server.env").exists() else profile).remove(folder):
            print(f"removed: {removed}")
    except StackError as error:
        print(f"make clean: {error}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("demo", "run the three chainings and check them"),
        ("up", "start the stack, to stay"),
        ("clean", "remove what `up` has made"),
        ("doctor", "say what is right and what is wrong, and how to mend it; exit code 1 if something is wrong"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--profile", choices=PROFILES, default=PROFILES[0], help="for one machine, or for many")
        if name in ("demo", "up"):
            command.add_argument("--api", default=None, metavar="URL", help="a live API in place of the sample API")
        if name == "doctor":
            command.add_argument("--json", action="store_true", help="for machines")
        if name == "up":
            command.add_argument("--port", type=int, default=4200, help="of the Prefect server and its UI")
    commands.add_parser("down", help="end what `up` started")
    arguments = parser.parse_args()
    # An end by SIGTERM tears down as Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    if arguments.command == "demo":
        from stack.demo import demo

        return demo(arguments.profile, arguments.api)
    if arguments.command == "up":
        return up(arguments.profile, arguments.api, arguments.port, FOLDER)
    if arguments.command == "clean":
        return clean(arguments.profile, FOLDER)
    if arguments.command == "doctor":
        return doctor(arguments.profile, arguments.json, FOLDER)
    return down(FOLDER)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raises what Ctrl-C raises."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
