"""What Prefect's client raises reaches nobody as such."""

import httpx
import pytest
from prefect.exceptions import FailedRun, ObjectNotFound

from flows.errors import NotFoundError, ServerError
from flows.server.client import translated_errors


@pytest.mark.parametrize(
    ("error", "translated"),
    [
        (httpx.ConnectError("no server"), ServerError),
        (
            httpx.HTTPStatusError("409", request=httpx.Request("GET", "http://x"), response=httpx.Response(409)),
            ServerError,
        ),
        (FailedRun("it failed"), ServerError),
        (ObjectNotFound(ValueError("404")), NotFoundError),
    ],
)
def test_the_clients_errors_become_ours_with_the_cause_kept(error: Exception, translated: type[Exception]) -> None:
    with pytest.raises(ServerError) as raised, translated_errors():
        raise error
    assert type(raised.value) is translated
    assert raised.value.__cause__ is error


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(KeyError), translated_errors():
        raise KeyError("x")
