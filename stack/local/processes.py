"""Background processes that are surely ended: one process group each, a log and a note of it in a folder.

The note outlives the process that wrote it, so `make down` ends what `make up` began. A note holds the
process's start time besides its id: an id that the system has given to somebody else is never signalled.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from flows.settings import PROJECT


class StackError(Exception):
    """Something of the stack did not start, or something of it already runs; the message says what to do."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float, every: float = 0.1) -> None:
    """Returns as soon as the condition holds; StackError naming `what` if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{what}: not within {seconds:.0f} seconds")
        time.sleep(every)


def answers(url: str) -> bool:
    """Whether a GET of the URL answers 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return int(response.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def start(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    ready: Callable[[], bool] | None = None,
    seconds: float = 90,
) -> int:
    """Starts a command as the leader of its own process group and waits until it is ready; returns its id.

    Output goes to `<folder>/<name>.log`. StackError with the end of that log if it ends or does not get ready.
    """
    if name in running(folder):
        raise StackError(f"{name} already runs; `make down` ends it")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
        )
    _note(folder, name).write_text(json.dumps({"pid": process.pid, "started": _started(process.pid)}))

    def up() -> bool:
        if process.poll() is not None:
            raise StackError(f"{name} ended with exit code {process.returncode}")
        return ready is None or ready()

    try:
        wait_until(up, f"{name} to be ready", seconds)
    except BaseException as error:
        stop(folder, name)
        if isinstance(error, StackError):
            raise StackError(f"{error}. The end of {log}:\n{_tail(log)}") from None
        raise
    return process.pid


def running(folder: Path) -> dict[str, int]:
    """Name and process id of everything noted in the folder that still lives, oldest first."""
    found = {}
    for note in sorted(folder.glob("*.pid.json"), key=lambda path: path.stat().st_mtime_ns):
        with contextlib.suppress(ValueError, KeyError, OSError):
            noted = json.loads(note.read_text())
            if noted["started"] and _started(noted["pid"]) == noted["started"]:
                found[note.name.removesuffix(".pid.json")] = int(noted["pid"])
    return found


def stop(folder: Path, name: str, seconds: float = 15) -> None:
    """Ends one process group: SIGTERM, and SIGKILL for whatever of it is left after `seconds`."""
    pid = running(folder).get(name)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        with contextlib.suppress(StackError):
            wait_until(lambda: not _group_lives(pid), f"{name} to end", seconds, every=0.05)
        _signal(pid, signal.SIGKILL)
        wait_until(lambda: not _group_lives(pid), f"{name} to end after SIGKILL", seconds, every=0.05)
    _note(folder, name).unlink(missing_ok=True)


def stop_all(folder: Path) -> list[str]:
    """Ends everything noted in the folder, the youngest first; returns the names."""
    names = list(reversed(running(folder)))
    for name in names:
        stop(folder, name)
    for note in folder.glob("*.pid.json"):
        note.unlink()
    return names


def run(environment: Mapping[str, str], module: str, *arguments: str) -> str:
    """The output of a command-line module, run to its end in the project's folder; StackError if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=PROJECT, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"{module} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def prefect_server(folder: Path, environment: Mapping[str, str] | None = None, port: int = 0) -> Iterator[str]:
    """A real Prefect server with its own home under the folder, for as long as the block runs; yields its API URL."""
    url = start_prefect_server(folder, {**os.environ, **(environment or {})}, port or free_port())
    try:
        yield url
    finally:
        stop(folder, "server")


def start_prefect_server(folder: Path, environment: Mapping[str, str], port: int, name: str = "server") -> str:
    """Starts `prefect server start` on loopback, waits for its health check and returns its API URL."""
    url = f"http://127.0.0.1:{port}/api"
    start(
        name,
        [sys.executable, "-m", "stack.sqlite_server", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        folder,
        {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **environment,
            "PREFECT_API_URL": url,
        },
        ready=lambda: answers(f"{url}/health"),
    )
    return url


def _note(folder: Path, name: str) -> Path:
    return folder / f"{name}.pid.json"


def _started(pid: int) -> str:
    """When the process began, as `ps` says it; empty for one that has ended, reaped or not."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.split()
    return " ".join(answer[1:]) if answer and not answer[0].startswith("Z") else ""


def _group_lives(pid: int) -> bool:
    """Whether anybody of the group still runs; the dead whom nobody has reaped yet do not count."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    if not _signal(pid, 0):
        return False
    members = subprocess.run(
        ["ps", "-A", "-o", "pgid=", "-o", "stat="], capture_output=True, text=True
    ).stdout.splitlines()
    return any(group == str(pid) and not state.startswith("Z") for group, state in map(str.split, members))


def _signal(pid: int, number: int) -> bool:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
