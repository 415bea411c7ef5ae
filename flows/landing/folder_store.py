"""Batches in a folder: written under `_incoming`, and published by the rename of the batch's folder."""

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from io import BufferedReader
from pathlib import Path

from flows.errors import LandingError
from flows.landing.names import NAME, RECORDS


def records_name(_sha256: str) -> str:
    """The records file's name in a batch."""
    return RECORDS


def join(root: Path | str, *names: str) -> Path:
    """A path below the root."""
    return Path(root, *names)


@contextlib.contextmanager
def staging_folder(root: Path | str, name: str) -> Iterator[Path]:
    """A folder of one's own to write a batch in; gone after the block, unless it was published.

    Also removes what killed writers left behind, and only that: a writer holds a lock on its folder for as long as it
    lives, and the system drops the lock when it dies.
    """
    waiting = Path(root, "_incoming")
    waiting.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # The lock on the parent keeps a sweep from taking a folder between its making and its locking.
        with _locked(waiting, wait=True):
            for leftover in waiting.iterdir():
                with contextlib.suppress(OSError), _locked(leftover):
                    shutil.rmtree(leftover, ignore_errors=True)
            # Not mkdtemp, whose mode 0700 stays: a transform of another user reads the published folder.
            folder = waiting / f"{name}.{secrets.token_hex(8)}"
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(_locked(folder))
        yield folder


def publish(written: Path, batch: Path | str) -> bool:
    """Renames what was written into place; False if the batch has been published already, which then stands."""
    batch = Path(batch)
    _fsync_folder(written)
    batch.parent.mkdir(parents=True, exist_ok=True)
    try:
        written.rename(batch)
    except OSError:
        if not published(batch):
            raise
        return False
    _fsync_folder(batch.parent)
    return True


def published(batch: Path | str) -> bool:
    """Whether a reader can see the batch."""
    return Path(batch, RECORDS).exists()


def batches(root: Path | str, sources: Collection[str] | None) -> Iterator[tuple[str, str, str]]:
    """Names of every folder `<name>/<name>/batch_id=<id>`, sorted; one listing a source, however many batches."""
    root = Path(root)
    for source in filter(NAME.fullmatch, _folders(root)):
        for table in filter(NAME.fullmatch, _folders(_no_link(root / source))):
            if sources is None or f"{source}.{table}" in sources:
                for batch in _folders(_no_link(root / source / table)):
                    yield source, table, batch


@contextlib.contextmanager
def open_file(path: Path | str) -> Iterator[BufferedReader]:
    """A file to read; OSError for a link, which may lead anywhere, and for what is no file."""
    path = Path(path)
    if path.parent.is_symlink():
        raise OSError(f"{path.parent} is a link, expected a folder")
    # Without O_NONBLOCK a named pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("expected a file")
        yield file


def remove(batch: Path | str) -> None:
    """Removes a batch; the records go first, because without them the folder is no batch to any reader."""
    Path(batch, RECORDS).unlink(missing_ok=True)
    shutil.rmtree(batch)


def remove_leftovers(_root: Path | str, _older_than_seconds: float) -> int:
    """The number of files that killed writers left and that were removed: none, every writer does that."""
    return 0


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LandingError(f"{path}: cannot be listed: {error}") from error


def _no_link(folder: Path) -> Path:
    """The folder itself. Its batches would be passed over in silence if a link were not an error."""
    if folder.is_symlink():
        raise LandingError(f"{folder}: is a link, expected a folder; only BATON_LANDING_ROOT itself may be one")
    return folder


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the folder's lock; unless it waits, BlockingIOError (an OSError) if a living process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
