"""Runs a module in a process forked by the prefork engine: `python -I -S client.py SOCKET prefect.engine`.

Replaces `python -m prefect.engine`: same output, same exit code, same signals. If the engine does not answer, or
refuses because a fork would differ from a fresh interpreter, this process becomes that interpreter.
"""

# Every flow run waits for the start of this program, so it imports only what is loaded already or written in C.
import _signal  # type: ignore[import-not-found]
import os
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

try:
    import _socket
except ImportError:
    _socket = None  # type: ignore[assignment]

ANSWER_SECONDS = 10.0
"""A forked process answers within milliseconds; an engine that hangs does not."""
FORWARDED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2)
GO = b"\0"
"""Starts a run that is killed when its client is."""
GO_ON_ALONE = b"\1"
"""Starts a run that goes on when its worker is killed, as those of Prefect's process worker do."""


class NoEngine(Exception):
    """The prefork engine cannot run this flow run; nothing of it was started."""


def main(path: str, module: "list[str]") -> "NoReturn":
    """Hands the run over and ends as it ends."""
    umask = os.umask(0o077)
    os.umask(umask)
    try:
        connection = hand_over(path, module, os.getcwd(), umask, posix.environ)
    except (NoEngine, OSError) as error:
        become_interpreter(module, f"{path}: {error or type(error).__name__}")
    go(connection, GO, (0, 1, 2))
    for number in FORWARDED:
        _signal.signal(number, lambda number, _: connection.send(bytes([number])))
    child = read_line(connection)
    ending, _, code = read_line(connection).partition(" ")
    if ending == "exit":
        os._exit(int(code))
    if not ending and child:  # The watcher was killed, and an unwatched run must not go on.
        try:
            os.kill(int(child), _signal.SIGKILL)
        except ProcessLookupError:
            pass
    end_by_signal(int(code or _signal.SIGKILL))


def hand_over(
    path: str, module: "list[str]", folder: str, umask: int, environment: "dict[bytes, bytes]"
) -> "_socket.socket":
    """A connection to a forked process that waits for GO to run the module, given as its name and arguments.

    NoEngine or OSError if there is none to be had; nothing of the run has happened then.
    """
    connection = connect(path)
    try:
        connection.settimeout(ANSWER_SECONDS)
        parts = [os.fsencode(part) for part in (folder, str(umask), str(len(module)), *module)]
        request = b"\0".join([*parts, *(name + b"=" + value for name, value in environment.items())])
        connection.sendall(len(request).to_bytes(8, "big") + request)
        answer = read_line(connection)
        if answer != "ready":
            raise NoEngine(answer or "the engine hung up")
    except BaseException:
        connection.close()
        raise
    return connection


def go(connection: "_socket.socket", mode: bytes, streams: "tuple[int, int, int]") -> None:
    """Starts the run, with its input, output and error output.

    An engine that answers only after the time-out finds the connection closed: a run starts here or not at all.
    """
    connection.settimeout(None)
    numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in streams)
    connection.sendmsg([mode], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])


def connect(path: str) -> "_socket.socket":
    """A connection to the engine; by its folder's descriptor, because a socket's address has room for 107 bytes."""
    if _socket is None or not hasattr(_socket, "AF_UNIX"):
        raise NoEngine("this platform has no Unix sockets")
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection


def read_line(connection: "_socket.socket") -> str:
    """The next line, without its end; empty if the connection is closed."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return ""
        line += byte
    return line[:-1].decode()


def end_by_signal(number: int) -> "NoReturn":
    """Ends this process by the signal that ended the run, so that the worker reports it."""
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def become_interpreter(module: "list[str]", reason: str) -> "NoReturn":
    """Replaces this process by the interpreter."""
    os.write(2, f"WARNING: no prefork engine, this run starts its own interpreter: {reason}\n".encode())
    os.execv(sys.executable, [sys.executable, "-m", *module])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
