"""Forks flow runs from a process that has imported everything already: `python server.py SOCKET [PREPARE.py ...]`.

`client.py` connects to the socket in place of starting an interpreter. Each connection gets two processes: one that
becomes the flow run, and its parent, which passes signals on and says how it ended. Neither needs this process once
it is forked. See README.md.
"""

import contextlib
import gc
import importlib
import io
import logging
import os
import runpy
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LAZY_IMPORTS = (
    "anyio._backends._asyncio",
    "prefect.artifacts",
    "prefect.deployments.flow_runs",
    "prefect.deployments.steps.core",
    "prefect.flow_engine",
    "prefect.runner",
    "prefect.utilities.visualization",
)
"""What a flow run imports of Prefect, most of it when it is first needed."""
STARTED_WITH = dict(os.environ)
READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OPENSSL_")
"""Beginnings of the variables that an interpreter and its libraries read when they start, and never again."""


@dataclass(frozen=True)
class Request:
    """What a process gets from the one that starts it."""

    module: list[str]
    """The name of the module to run, and its arguments."""
    folder: str
    umask: int
    environment: dict[str, str]


class Refused(Exception):
    """A fork would not be what a fresh interpreter is; the message says why."""


def main(path: Path, preparations: list[str]) -> None:
    """Prepares and serves until a signal ends it; in each fork that it serves, runs a module."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    make_folder(path.parent)
    prepare(path.parent, preparations)
    with listening(path) as listener:
        print(f"ready after {time.monotonic() - began:.1f} s with {len(sys.modules)} modules: {path}", flush=True)
        request = serve(listener)
    become(request)
    runpy.run_module(request.module[0], run_name="__main__", alter_sys=True)


def make_folder(folder: Path) -> None:
    """A folder that only this user can enter; SystemExit if it is there and others can."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise SystemExit(f"{folder}: expected a folder of this user with mode 0700")


def prepare(home: Path, preparations: list[str]) -> None:
    """Imports Prefect's engine and runs the preparation files; SystemExit if that left a thread or a process running.

    A fork has only the thread that called it: a lock that another one holds at that moment would be held for ever. Of
    processes it has none, and no pipe to them.
    """
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]  # Prefect's settings are each run's own, and no profile's of whoever started this.
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_PROFILES_PATH": os.devnull}
    for name in LAZY_IMPORTS:
        importlib.import_module(name)
    for file in preparations:
        runpy.run_path(file)
    if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
        raise SystemExit(f"{threads} threads run after {preparations}; forks would lack all but one")
    if children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        raise SystemExit(f"processes {', '.join(children)} run after {preparations}; forks would not be their parents")
    # What there is now stays: not looking at it again keeps its memory shared with the forks.
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that only this user can connect to; SystemExit if another engine has it."""
    with contextlib.chdir(path.parent):  # The address of a socket has room for 107 bytes.
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(path.name)
            raise SystemExit(f"{path}: another engine answers there")
        Path(path.name).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        umask = os.umask(0o177)
        listener.bind(path.name)
        os.umask(umask)
    listener.listen(128)
    owner = os.getpid()
    try:
        yield listener
    finally:
        if os.getpid() == owner:
            path.unlink(missing_ok=True)


def serve(listener: socket.socket) -> Request:
    """Forks for each connection; returns in the processes that are to become flow runs, and in no other.

    Nothing is read here, so no client can make another one wait.
    """
    signal.signal(signal.SIGCHLD, reap)
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):  # No process to be had: the client sees that we hang up.
            if os.fork() == 0:
                listener.close()
                return start(connection)


def reap(*_: object) -> None:
    """Leaves no zombie, and takes the runs' CPU time into this process's books: ignoring them, it would be lost."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def start(connection: socket.socket) -> Request:
    """Forks the process of one flow run, in which this returns, and watches over it in the process that called."""
    os.setsid()  # Whoever ends the engine by its process group does not end the runs.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        request = receive(connection)
        refuse_what_a_fork_cannot_be(request)
        connection.sendall(b"ready\n")
        streams = receive_streams(connection)
    except Refused as reason:
        connection.sendall(f"{reason}\n".encode())
        os._exit(0)
    except (OSError, ValueError):  # The client did not wait so long and has gone another way, or it is not one.
        os._exit(1)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
        return request
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(OSError):
        watch(connection, child)
    os._exit(0)


def receive(connection: socket.socket) -> Request:
    """What the client sends; OSError or ValueError if it does not send all of it."""
    with connection.makefile("rb") as file:
        parts = file.read(int.from_bytes(file.read(8), "big")).split(b"\0")
    folder, umask, count, *rest = [os.fsdecode(part) for part in parts]
    module, variables = rest[: int(count)], rest[int(count) :]
    environment = dict(variable.split("=", 1) for variable in variables)
    return Request(module, folder, int(umask), environment)


def receive_streams(connection: socket.socket) -> list[int]:
    """Waits for the word to go and returns what comes with it: input, output and error output."""
    _, descriptors, *_ = socket.recv_fds(connection, 1, 3)
    if len(descriptors) != 3:
        raise ValueError(f"expected three streams, got {len(descriptors)}")
    return descriptors


def refuse_what_a_fork_cannot_be(request: Request) -> None:
    """Refused if a fresh interpreter, started with the request, would not be what this one is."""
    asked, ours = read_at_start(request.environment), read_at_start(STARTED_WITH)
    if differing := sorted(name for name in asked | ours if asked.get(name) != ours.get(name)):
        raise Refused(f"the engine was started with another {', '.join(differing)}")
    for folder in first_folders(request):
        for name in importable(folder):
            origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None)
            if origin and not origin.startswith(folder + os.sep):
                raise Refused(f"the engine has imported {name} from {origin}, the run would from {folder}")


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that cannot be changed in an interpreter that runs. PYTHONPATH can, unless we had one."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and (name != "PYTHONPATH" or name in STARTED_WITH)
    }


def first_folders(request: Request) -> list[str]:
    """The folders that come before all others when the run imports something."""
    folders = ["", *request.environment.get("PYTHONPATH", "").split(os.pathsep)]
    return list(dict.fromkeys(str(Path(request.folder, folder)) for folder in folders))


def importable(folder: str) -> Iterator[str]:
    """Names of the modules and packages in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py") and entry.name != "__main__.py":
                yield entry.name.removesuffix(".py")
            elif Path(entry.path, "__init__.py").exists():
                yield entry.name


def watch(connection: socket.socket, child: int) -> None:
    """Passes the client's signals on to the child and the child's end to the client; a lost client ends the child."""
    connection.sendall(b"%d\n" % child)
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(connection, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == ended:
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                connection.sendall(b"exit %d\n" % code if code >= 0 else b"signal %d\n" % -code)
                return
            numbers = connection.recv(64)
            if not numbers:
                os.killpg(child, signal.SIGKILL)
                return
            for number in numbers:
                os.kill(child, number)


def become(request: Request) -> None:
    """Makes this process what `python -m MODULE` is at the module's first line, but for what is imported already."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.write_through:
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.environ.clear()
    os.environ.update(request.environment)
    os.umask(request.umask)
    os.chdir(request.folder)
    ours = {str(Path(__file__).parent), *STARTED_WITH.get("PYTHONPATH", "").split(os.pathsep)}
    sys.path[:] = [*first_folders(request), *(entry for entry in sys.path if entry not in ours)]
    sys.argv, sys.orig_argv = ["", *request.module[1:]], [sys.executable, "-m", *request.module]
    sys.modules.pop(request.module[0], None)
    importlib.invalidate_caches()
    time.tzset()
    if "numpy" in sys.modules:  # Python's own generators seed themselves anew in a fork.
        sys.modules["numpy"].random.seed()
    become_prefect()


def become_prefect() -> None:
    """Settings, profile, logging and plugins of this run's environment, as importing Prefect anew would give them."""
    import prefect.context

    ours = logging_settings()
    del prefect.context.GLOBAL_SETTINGS_CONTEXT  # Or the profile would be looked for where the old settings say.
    prefect.context.refresh_global_settings_context()
    # To set up the same logging again would take as long as all else here.
    if logging_settings() != ours or any(name.startswith("PREFECT_LOGGING_") for name in os.environ):
        set_up_logging()
    prefect._initialize_plugins()


def logging_settings() -> list[object]:
    """What Prefect's logging depends on, beside variables that change a line of its configuration."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    file = settings.logging.config_path
    levels = settings.logging.model_copy(update={"config_path": None}), settings.server.logging_level
    return [*levels, settings.internal.logging_level, file.read_bytes() if file and file.exists() else None]


def set_up_logging() -> None:
    """As importing Prefect does it."""
    from prefect.logging.configuration import PROCESS_LOGGING_CONFIG, setup_logging

    for name in ["", *PROCESS_LOGGING_CONFIG["loggers"]]:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET if name else logging.WARNING)
        logger.propagate = True
    PROCESS_LOGGING_CONFIG.clear()
    setup_logging()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
