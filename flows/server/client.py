"""A client of the Prefect server, whose errors are ours.

What Prefect's client raises depends on the HTTP library that it is built on. It is translated here and nowhere else.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException

from flows.errors import NotFoundError, ServerError


@contextmanager
def translated_errors() -> Iterator[None]:
    """What Prefect's client raises in the block leaves it as ServerError, or NotFoundError for an unknown object."""
    try:
        yield
    except ObjectNotFound as error:
        raise NotFoundError(str(error) or repr(error)) from error
    except (httpx.HTTPError, PrefectException) as error:
        raise ServerError(repr(error)) from error


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """A client of the server that PREFECT_API_URL names; ServerError once it has tried several times."""
    with translated_errors(), get_client(sync_client=True) as client:
        yield client
