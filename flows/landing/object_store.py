"""Batches in an object store, through fsspec: published by one conditional PUT of the manifest. No rename, no lock.

The records are put first, under a name made from their content, then the manifest, if there is none yet
(`If-None-Match: *`, which the store must honour). A batch is there when its manifest is. So a writer that is killed
leaves records that nobody refers to, and of two writers of one batch the first to put its manifest stands, whole.

Credentials come from the environment that boto3 reads: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ….
A store that answers 503 is asked again by botocore (AWS_MAX_ATTEMPTS, 5 by default), for 5 to 12 seconds; if it says
`SlowDown`, by s3fs too, 25 times in 40 seconds.
"""

import contextlib
import tempfile
import time
from collections.abc import Collection, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from flows.errors import LandingError
from flows.landing.names import MANIFEST, RECORDS
from flows.settings import split_source

HINT = "look at BATON_LANDING_ROOT, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def records_name(sha256: str) -> str:
    """The name of the records' object in a batch."""
    return f"records-{sha256}.jsonl.gz"


def join(root: Path | str, *names: str) -> str:
    """A URL below the root."""
    return "/".join([str(root).rstrip("/"), *names])


@contextlib.contextmanager
def staging_folder(_root: Path | str, name: str) -> Iterator[Path]:
    """A folder on the local disk to write a batch in."""
    with tempfile.TemporaryDirectory(prefix=f"{name}.") as folder:
        yield Path(folder)


def publish(written: Path, batch: Path | str) -> bool:
    """Puts what was written; False if the batch has been published already, which then stands."""
    (records,) = written.glob("records*")
    with _store(batch) as (store, folder):
        store.put_file(str(records), f"{folder}/{records.name}")
        try:
            store.pipe_file(f"{folder}/{MANIFEST}", (written / MANIFEST).read_bytes(), mode="create")
        except OSError:  # FileExistsError, or what s3fs makes of 412, Precondition Failed.
            if not store.exists(f"{folder}/{MANIFEST}"):
                raise
            return False
    return True


def published(batch: Path | str) -> bool:
    """Whether a reader can see the batch."""
    with _store(batch) as (store, folder):
        return bool(store.exists(f"{folder}/{MANIFEST}"))


def batches(root: Path | str, sources: Collection[str] | None) -> Iterator[tuple[str, str, str]]:
    """Names of every `<name>/<name>/batch_id=<id>` that has a manifest; one request for each thousand objects."""
    with _store(root) as (store, folder):
        below = [""] if sources is None else ["/" + "/".join(split_source(source)) for source in sources]
        found = sorted(key for names in below for key in store.find(folder + names))
    for key in found:
        parts = key.removeprefix(f"{folder}/").split("/")
        if len(parts) == 4 and parts[3] == MANIFEST:
            yield parts[0], parts[1], parts[2]


@contextlib.contextmanager
def open_file(path: Path | str) -> Iterator[BufferedIOBase]:
    """A copy of an object, by one GET; FileNotFoundError if there is none, LandingError if the store cannot say."""
    with tempfile.NamedTemporaryFile() as copy:
        with _store(path, FileNotFoundError) as (store, key):
            store.get_file(key, copy.name)
        with Path(copy.name).open("rb") as file:
            yield file


def remove(batch: Path | str) -> None:
    """Removes a batch; the manifest goes first, because without it there is no batch to any reader."""
    with _store(batch) as (store, folder):
        store.rm_file(f"{folder}/{MANIFEST}")
        for key in store.find(folder):
            store.rm_file(key)


def remove_leftovers(root: Path | str, older_than_seconds: float) -> int:
    """Removes records without a manifest that are so old that nobody can be about to put it; how many."""
    with _store(root) as (store, folder):
        found = set(store.find(folder))
        unreferenced = [
            key
            for key in found
            if key.rpartition("/")[2].startswith(RECORDS.partition(".")[0] + "-")
            and f"{key.rpartition('/')[0]}/{MANIFEST}" not in found
            and store.modified(key).timestamp() < time.time() - older_than_seconds
        ]
        for key in unreferenced:
            store.rm_file(key)
    return len(unreferenced)


@contextlib.contextmanager
def _store(url: Path | str, *but_for: type[Exception]) -> Iterator[tuple[Any, str]]:
    """The store of a URL, and the URL's path in it; whatever goes wrong there, but for these, is a LandingError.

    A listing or a PUT is answered "not found" only where there is no bucket, which must not look like an empty one.
    """
    import fsspec

    passed_on: tuple[type[Exception], ...] = (LandingError, *but_for)
    try:
        # Listings are not kept: others write, too.
        store, path = fsspec.core.url_to_fs(str(url), use_listings_cache=False)
        yield store, path.rstrip("/")
    except passed_on:
        raise
    except Exception as error:
        raise LandingError(
            f"{url}: the object store could not be used: {type(error).__name__}: {error}; {HINT}"
        ) from error
