"""Forks flow runs from a process that has imported everything already: `python server.py SOCKET [PREPARE.py ...]`.

`worker.py` and `client.py` connect to the socket in place of starting an interpreter. Each connection gets two
processes: one becomes the flow run; the other, its parent, passes signals on and reports how the run ended. Both
survive this process. See README.md.
"""

import contextlib
import functools
import gc
import importlib
import io
import logging
import os
import runpy
import select
import signal
import socket
import ssl
import stat
import sys
import time
import types
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
"""The modules of Prefect that a flow run imports, most of them at first use."""
GO_ON_ALONE = b"\1"
FLOW_FOLDER, FLOW_ENTRYPOINT = "PREFORK_FLOW_FOLDER", "PREFECT__FLOW_ENTRYPOINT"
"""How the worker says where a run's flow is."""
STARTED_WITH = dict(os.environ)
READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OPENSSL_")
"""Prefixes of the variables that an interpreter and its libraries read only when they start."""


@dataclass(frozen=True)
class Request:
    """What a process inherits from the one that starts it."""

    module: list[str]
    """The name of the module to run, and its arguments."""
    folder: str
    umask: int
    environment: dict[str, str]


class Refused(Exception):
    """A fork would differ from a fresh interpreter; the message says how."""


def main(path: Path, preparations: list[str]) -> None:
    """Prepares, then serves until SIGTERM comes or its input, if that is a pipe, closes; a fork runs its module."""
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
    """Makes a folder that only this user can enter; SystemExit if it exists and others can."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise SystemExit(f"{folder}: expected a folder of this user with mode 0700")


def prepare(home: Path, preparations: list[str]) -> None:
    """Imports Prefect's engine and runs the preparation files; SystemExit if they leave a thread or a process.

    A fork has only the thread that called it: a lock that another thread held would never be released. It has no child
    processes, and no pipe to them.
    """
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]  # Each run brings its own Prefect settings.
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_PROFILES_PATH": os.devnull}
    for name in LAZY_IMPORTS:
        importlib.import_module(name)
    share_tls_contexts()
    complete_models()
    for file in preparations:
        runpy.run_path(file)
    if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
        raise SystemExit(f"{threads} threads run after {preparations}; forks would lack all but one")
    if children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        raise SystemExit(f"processes {', '.join(children)} run after {preparations}; forks would not be their parents")
    # The garbage collector would write to these objects, and their memory would no longer be shared with the forks.
    gc.collect()
    gc.freeze()


def share_tls_contexts() -> None:
    """Makes one TLS context for each file of certificates; Prefect makes one for each client, 25 ms of a processor.

    A flow run has half a dozen clients, and with a server on plain HTTP none of them uses its context.
    """
    import certifi
    import prefect.client.orchestration

    shared = types.ModuleType("ssl")
    shared.__dict__.update(ssl.__dict__)
    shared.__dict__["create_default_context"] = functools.lru_cache(ssl.create_default_context)
    shared.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
    prefect.client.orchestration.ssl = shared  # type: ignore[attr-defined]


def complete_models() -> None:
    """Builds the validators of Prefect's models, which pydantic otherwise builds at their first use: in each run."""
    from pydantic import BaseModel
    from pydantic.errors import PydanticUndefinedAnnotation

    known = [BaseModel]
    for model in known:
        known += (each for each in model.__subclasses__() if each not in known)
        if not model.__pydantic_complete__ and model.__module__.startswith("prefect."):
            with contextlib.suppress(PydanticUndefinedAnnotation):  # It refers to what is not imported yet.
                model.model_rebuild()


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
    """Forks for each connection; returns only in the processes that become flow runs.

    Reads nothing, so no client can block another.
    """
    signal.signal(signal.SIGCHLD, collect_children)
    engine = os.getpid()
    of_parent = [0] if stat.S_ISFIFO(os.fstat(0).st_mode) else []
    while True:
        ready, _, _ = select.select([listener, *of_parent], [], [])
        if listener not in ready:
            sys.exit(0)  # The worker is gone; its runs go on.
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):  # If the fork fails, the client sees the connection close.
            if os.fork() == 0:
                listener.close()
                return start(connection, engine)


def collect_children(*_: object) -> None:
    """Waits for ended children, so that no zombie is left and their CPU time counts as this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def start(connection: socket.socket, engine: int) -> Request:
    """Forks the process of one flow run and returns in it; the calling process watches it and exits."""
    os.setsid()  # A signal to the engine's process group does not reach the runs.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        request = receive(connection)
        refuse_what_differs(request)
        connection.sendall(b"ready\n")
        mode, streams = receive_go(connection)
    except Refused as reason:
        connection.sendall(f"{reason}\n".encode())
        os._exit(0)
    except (OSError, ValueError):  # The client timed out, or is no client.
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
        watch(connection, child, engine, goes_on_alone=mode == GO_ON_ALONE)
    os._exit(0)


def receive(connection: socket.socket) -> Request:
    """The client's request; OSError or ValueError if it is incomplete."""
    with connection.makefile("rb") as file:
        parts = file.read(int.from_bytes(file.read(8), "big")).split(b"\0")
    folder, umask, count, *rest = [os.fsdecode(part) for part in parts]
    module, variables = rest[: int(count)], rest[int(count) :]
    environment = dict(variable.split("=", 1) for variable in variables)
    return Request(module, folder, int(umask), environment)


def receive_go(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Waits for GO or GO_ON_ALONE; it and the descriptors that come with it: input, output and error output."""
    mode, descriptors, *_ = socket.recv_fds(connection, 1, 3)
    if len(descriptors) != 3:
        raise ValueError(f"expected three streams, got {len(descriptors)}")
    return mode, descriptors


def refuse_what_differs(request: Request) -> None:
    """Refused if a fresh interpreter, started with the request, would differ from this one."""
    asked, ours = read_at_start(request.environment), read_at_start(STARTED_WITH)
    if differing := sorted(name for name in asked | ours if asked.get(name) != ours.get(name)):
        raise Refused(f"the engine was started with another {', '.join(differing)}")
    for folder in first_folders(request):
        for name in importable(folder):
            origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None)
            if origin and not origin.startswith(folder + os.sep):
                raise Refused(f"the engine has imported {name} from {origin}, the run would from {folder}")


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a running interpreter cannot change. PYTHONPATH can change, unless the engine had one."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and (name != "PYTHONPATH" or name in STARTED_WITH)
    }


def first_folders(request: Request) -> list[str]:
    """The folders that the run searches first for an import."""
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


def watch(connection: socket.socket, child: int, engine: int, goes_on_alone: bool) -> None:
    """Passes signals to the child and its exit to who started it.

    A lost client kills the child. A lost worker does not, as long as the engine is there: where both are gone, somebody
    has stopped all of it.
    """
    connection.sendall(b"%d\n" % child)
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(connection, select.POLLIN)
    detached = False
    while True:
        if detached and os.getppid() != engine:
            os.killpg(child, signal.SIGKILL)
        for descriptor, _ in poll.poll(1000 if detached else None):
            if descriptor == ended:
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                connection.sendall(b"exit %d\n" % code if code >= 0 else b"signal %d\n" % -code)
                return
            try:
                numbers = connection.recv(64)
            except ConnectionError:
                numbers = b""
            if not numbers and goes_on_alone:
                poll.unregister(connection)
                detached = True
            elif not numbers:
                os.killpg(child, signal.SIGKILL)
                return
            for number in numbers:
                os.kill(child, number)


def become(request: Request) -> None:
    """Makes this process what `python -m MODULE` is at the module's first line, with the imports already done."""
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
    if "numpy" in sys.modules:  # Python's own generators reseed themselves in a fork.
        sys.modules["numpy"].random.seed()
    become_prefect()


def become_prefect() -> None:
    """Loads settings, profile, logging and plugins from this run's environment, as a fresh import of Prefect does."""
    import prefect.context

    ours = logging_settings()
    del prefect.context.GLOBAL_SETTINGS_CONTEXT  # Otherwise the old settings say where the profile is.
    prefect.context.refresh_global_settings_context()
    # Setting up the same logging again would take as long as everything else here.
    if logging_settings() != ours or any(name.startswith("PREFECT_LOGGING_") for name in os.environ):
        set_up_logging()
    prefect._initialize_plugins()
    if folder := os.environ.pop(FLOW_FOLDER, None):
        load_flow_from(folder)


def load_flow_from(folder: str) -> None:
    """Has Prefect's engine enter the folder and load the flow there that the worker has named.

    The name is then taken out of the environment: what the flow starts is not for it.
    """
    import prefect.flow_engine

    load_flow = prefect.flow_engine.load_flow

    def load(flow_run: object) -> object:
        os.chdir(folder)
        try:
            return load_flow(flow_run)  # type: ignore[arg-type]
        finally:
            del os.environ[FLOW_ENTRYPOINT]

    prefect.flow_engine.load_flow = load  # type: ignore[assignment]


def logging_settings() -> list[object]:
    """The settings that Prefect's logging depends on, apart from variables for single lines of its configuration."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    file = settings.logging.config_path
    levels = settings.logging.model_copy(update={"config_path": None}), settings.server.logging_level
    return [*levels, settings.internal.logging_level, file.read_bytes() if file and file.exists() else None]


def set_up_logging() -> None:
    """Sets up logging as the import of Prefect does."""
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
