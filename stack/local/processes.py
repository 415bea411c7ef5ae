"""Background processes: each in its own process group, with a log and a note of it in a folder.

The note outlives the process that wrote it, so `baton down` ends what `baton up` started. It holds the process's
start time beside its id, so that no signal goes to another process that got the same id later.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from flows.errors import BatonError
from flows.settings import PROJECT

ERROR_LINE = re.compile(
    r"^(?:ERROR: +)?(?:[A-Za-z_][\w.]*\.)?\w*(?:Error|Exception)\b.*: .+|^Port \d+ is already in use.*"
)
"""How an exception's last line, and Prefect's own complaint, begin in a log; lines of a traceback are indented."""
SAY_EVERY_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 900.0
START_TOLERANCE_SECONDS = 2.0
"""The system reckons start times from its clock; a small correction of the clock moves them."""


class StackError(BatonError):
    """A part of the stack did not start, or runs already; the message says what to do."""


def on_linux() -> bool:
    """Whether the system is Linux. What needs it asks here: flow runs that are forked, and reading another process's
    environment."""
    return sys.platform == "linux"


def free_port() -> int:
    """A TCP port on loopback that no process listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server can listen on a TCP port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # One that has just ended still has connections.
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], bool], what: str, seconds: float, every: float = 0.1) -> None:
    """Returns as soon as the condition holds; StackError with `what` in it if it does not within `seconds`.

    What is waited for is printed every ten seconds.
    """
    began = said = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now - began > seconds:
            raise StackError(f"{what}: not within {seconds:.0f} seconds")
        if now - said > SAY_EVERY_SECONDS:
            said = now
            print(f"waiting for {what}, {now - began:.0f} s so far", file=sys.stderr, flush=True)
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

    Waits as long as it works, because a busy machine takes minutes for what another does in seconds, and says so.
    Output goes to `<folder>/<name>.log`. StackError with what that log gives as the reason if it ends, or is not ready
    and has used no processor for `seconds`.
    """
    if name in running(folder):
        raise StackError(f"{name} already runs; `make down` ends it")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("ab") as output, interruptible():
        began_at = output.tell()  # What an earlier process of the name has logged is not its reason.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
        )
    note = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    _note(folder, name).write_text(json.dumps(note))

    try:
        _wait_until_ready(process, name, log, ready or (lambda: True), seconds)
    except BaseException as error:
        reason = _reason(log, began_at)  # Before it is ended, which it would log, too.
        stop(folder, name)
        if isinstance(error, StackError):
            raise StackError(f"{error}. {log} says:\n{reason}") from None
        raise
    return process.pid


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What is started in the block can be interrupted.

    A script's job in the background ignores SIGINT, and what it starts would, too. But Prefect's worker, when it gets a
    SIGTERM, ends itself by a SIGINT.
    """
    main = threading.current_thread() is threading.main_thread()  # Only there can a signal's handler be set.
    if not main or signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", name: str, log: Path, ready: Callable[[], bool], seconds: float
) -> None:
    began = worked = said = time.monotonic()
    used = 0.0
    while True:
        if process.poll() is not None:
            raise StackError(f"{name} ended with exit code {process.returncode}")
        if ready():
            return
        now = time.monotonic()
        if (cpu := _cpu_seconds(process.pid)) > used + 1:
            used, worked = cpu, now
        if now - worked > seconds or now - began > LONGEST_WAIT_SECONDS:
            raise StackError(f"{name} was not ready after {now - began:.0f} seconds")
        if now - said > SAY_EVERY_SECONDS:
            said = now
            print(f"waiting for {name}, {now - began:.0f} s so far; its log is {log}", file=sys.stderr, flush=True)
        time.sleep(0.1)


def _cpu_seconds(pid: int) -> float:
    """What the process has used of a processor; 0 if it has gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _reason(log: Path, began_at: int) -> str:
    """Why a process failed: the errors that its log names since it began, or else the log's end."""
    lines = log.read_bytes()[began_at:].decode(errors="replace").splitlines()
    errors = [line for line in lines if ERROR_LINE.match(line) and "CancelledError" not in line]
    return "\n".join(errors[-3:] or lines[-15:])


def running(folder: Path) -> dict[str, int]:
    """Name and process id of every noted process that still runs, oldest first."""
    found = {}
    for note in sorted(folder.glob("*.pid.json"), key=lambda path: path.stat().st_mtime_ns):
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError, psutil.Error):
            noted = json.loads(note.read_text())
            process = psutil.Process(noted["pid"])
            same = abs(process.create_time() - noted["started"]) < START_TOLERANCE_SECONDS
            if same and process.status() != psutil.STATUS_ZOMBIE:
                found[note.name.removesuffix(".pid.json")] = process.pid
    return found


def stop(folder: Path, name: str, seconds: float = 15) -> None:
    """Ends one process group: SIGTERM, then SIGKILL for what is left of it after `seconds`."""
    pid = running(folder).get(name)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        with contextlib.suppress(StackError):
            wait_until(lambda: not _group_runs(pid), f"{name} to end", seconds, every=0.05)
        _signal(pid, signal.SIGKILL)
        wait_until(lambda: not _group_runs(pid), f"{name} to end after SIGKILL", seconds, every=0.05)
    _note(folder, name).unlink(missing_ok=True)


def stop_all(folder: Path) -> list[str]:
    """Ends every noted process, the youngest first; returns the names."""
    names = list(reversed(running(folder)))
    for name in names:
        stop(folder, name)
    for note in folder.glob("*.pid.json"):
        note.unlink()
    return names


def run(environment: Mapping[str, str], module: str, *arguments: str) -> str:
    """The output of a command-line module, run in the project's folder; StackError if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=PROJECT, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"{module} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def prefect_server(folder: Path, environment: Mapping[str, str] | None = None, port: int = 0) -> Iterator[str]:
    """A Prefect server with its own home under the folder, for the duration of the block; yields its API URL."""
    own = {**os.environ, **(environment or {}), "PREFECT_HOME": str(folder / "prefect")}
    url = start_prefect_server(folder, own, port or free_port())
    try:
        yield url
    finally:
        stop(folder, "server")


def start_prefect_server(folder: Path, environment: Mapping[str, str], port: int, name: str = "server") -> str:
    """Starts `prefect server start` on loopback, waits for its health check and returns its API URL."""
    url = f"http://127.0.0.1:{port}/api"
    options = ["--host", "127.0.0.1", "--port", str(port)]
    start(
        name,
        [sys.executable, "-m", "stack.local.sqlite_server", "server", "start", *options],
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


def _group_runs(pid: int) -> bool:
    """Whether a process of the group runs; those that have ended and wait for their parent do not count."""
    if not _signal(pid, 0):
        return False
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _signal(pid: int, number: int) -> bool:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
