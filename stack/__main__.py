"""`python -m stack demo | up | down`, which the Makefile calls."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from flows.settings import PROJECT
from stack.processes import StackError, stop_all

FOLDER = PROJECT / "data"


def up(api: str | None, port: int, folder: Path) -> int:
    """Starts the stack to stay, and says what to open and what to type next."""
    from stack.local import start_stack

    try:
        stack = start_stack(folder, api=api, port=port, schedules=True, say=print)
    except StackError as error:
        print(f"make up: {error}")
        return 1
    ui = stack.prefect_api.removesuffix("/api")
    print(
        f"""
Open   {ui}
Type   export PREFECT_API_URL={stack.prefect_api}
       .venv/bin/prefect deployment run extract/dummyjson-products    # the automation starts the transform
       .venv/bin/prefect deployment run orchestrate/dummyjson         # one parent run, four children
       cd dbt && ../.venv/bin/dbt build                               # dbt by hand, on the same data
Data   {folder.relative_to(PROJECT) if folder.is_relative_to(PROJECT) else folder}/, which `make down` leaves as it is
End    make down"""
    )
    return 0


def down(folder: Path) -> int:
    """Ends what `up` started; the data stays."""
    ended = stop_all(folder)
    print(f"ended: {', '.join(ended)}" if ended else "nothing was running")
    return 0


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("demo", "run the three chainings and check them"), ("up", "start the stack, to stay")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--api", default=None, metavar="URL", help="a live API in place of the sample API")
        if name == "up":
            command.add_argument("--port", type=int, default=4200, help="of the Prefect server and its UI")
    commands.add_parser("down", help="end what `up` started")
    arguments = parser.parse_args()
    # An end by SIGTERM tears down as Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    if arguments.command == "demo":
        from stack.demo import demo

        return demo(arguments.api)
    if arguments.command == "up":
        return up(arguments.api, arguments.port, FOLDER)
    return down(FOLDER)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raises what Ctrl-C raises."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
