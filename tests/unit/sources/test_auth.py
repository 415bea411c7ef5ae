"""Every kind of auth gets through, asks no other host, and is in no message."""

import base64
import json
import logging
from pathlib import Path

import pytest
import requests

from flows.errors import ApiError, BatonError, InvalidInputError
from flows.sources.reader.http import PoliteAdapter
from flows.sources.reader.reading import read_source
from flows.sources.reader.secrets import Secrets
from tests.support.api import Answer, Asked, api, declared

CANARY = "canary-5ecret-value"
SINGLE = """
base_url: URL
AUTH
tables:
  rows: {primary_key: id, paginator: {type: single_page}}
"""
BASIC = base64.b64encode(f"me:{CANARY}".encode()).decode()


def python_auth(secret: object) -> requests.auth.AuthBase:
    """As a project would write it."""

    class Signed(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["X-Signature"] = secret("CANARY")[::-1]  # type: ignore[operator]
            return request

    return Signed()


KINDS = {
    "bearer": ("auth: {type: bearer, token: {env: CANARY}}", "authorization", f"Bearer {CANARY}"),
    "http_basic": (
        "auth: {type: http_basic, username: me, password: {env: CANARY}}",
        "authorization",
        f"Basic {BASIC}",
    ),
    "api_key": ("auth: {type: api_key, name: X-Api-Key, api_key: {env: CANARY}}", "x-api-key", CANARY),
    "a block": ("auth: {type: bearer, token: {block: shop-token}}", "authorization", f"Bearer {CANARY}"),
    "a header": ("headers: {X-Token: {env: CANARY}, Accept: application/json}", "x-token", CANARY),
    "python": ("auth: {python: 'tests.unit.sources.test_auth:python_auth'}", "x-signature", CANARY[::-1]),
}


@pytest.mark.parametrize(("auth", "header", "value"), KINDS.values(), ids=KINDS.keys())
def test_each_kind_of_auth_gets_through_and_is_in_no_message(
    auth: str,
    header: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    caplog.set_level(logging.DEBUG)
    secrets = Secrets(lambda block: {"shop-token": CANARY}[block])

    def answer(asked: Asked) -> Answer:
        """An API that shows what it was given when it refuses, as some do."""
        if asked.headers.get(header) == value:
            return [{"id": 1}]
        return 403, {}, json.dumps({"you_sent": asked.headers, "for": CANARY}).encode()

    def echoing(asked: Asked) -> Answer:
        return 403, {}, json.dumps({"bad token": CANARY, "sent": asked.headers.get(header)}).encode()

    with api(answer) as url:
        source = declared(tmp_path, SINGLE.replace("AUTH", auth), url)["shop.rows"]
        assert len(list(read_source(source, secrets=secrets))) == 1
    with api(echoing) as url:
        source = declared(tmp_path, SINGLE.replace("AUTH", auth), url)["shop.rows"]
        with pytest.raises(ApiError, match="got 403") as error:
            list(read_source(source, secrets=secrets))
    if "python" not in auth:
        assert CANARY not in everything(error.value)
        assert value not in everything(error.value)
    assert CANARY not in caplog.text


def everything(error: BaseException | None) -> str:
    """The error and all that a traceback would show with it."""
    texts = []
    while error is not None:
        texts.append(repr(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)


IN_QUERY = "auth: {type: api_key, name: key, api_key: {env: CANARY}, location: query}"


def test_a_key_in_the_query_is_in_no_message_whatever_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    caplog.set_level(logging.INFO)
    text = SINGLE.replace("AUTH", IN_QUERY)
    with api(lambda _: (503, {}, b"")) as url:
        shown = [str(failure(tmp_path, text, url))]
    shown.append(str(failure(tmp_path, text, url)))  # Nobody listens there any more.
    with api(lambda _: (200, {"Content-Length": "100", "Connection": "close"}, b"[")) as url:
        shown.append(str(failure(tmp_path, text, url)))
    with api(
        lambda asked: (302, {"Location": f"http://other.example/{asked.query['key']}?key={asked.query['key']}"}, b"")
    ) as url:
        shown.append(str(failure(tmp_path, text, url)))
        assert "a redirect to another host, other.example; if" in shown[-1]
    assert CANARY not in "\n".join([*shown, caplog.text])


def failure(folder: Path, text: str, url: str) -> BaseException:
    with pytest.raises(ApiError) as error:
        list(read_source(declared(folder, text, url)["shop.rows"], retries=1))
    assert CANARY not in everything(error.value)
    return error.value


def test_a_key_in_the_query_is_there_once_even_if_a_link_brings_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    text = SINGLE.replace("AUTH", IN_QUERY).replace("single_page", "header_link")
    seen: list[dict[str, str]] = []

    def answer(asked: Asked) -> Answer:
        seen.append(asked.query)
        link = {} if "page" in asked.query else {"Link": f'<?page=2&key={asked.query["key"]}&b=>; rel="next"'}
        return 200, link, json.dumps([{"id": len(seen)}]).encode()

    with api(answer) as url:
        assert len(list(read_source(declared(tmp_path, text, url)["shop.rows"]))) == 2
    assert seen == [{"key": CANARY}, {"page": "2", "key": CANARY}]


OAUTH = (
    "auth: {type: oauth2_client_credentials, access_token_url: URL/token, client_id: me, client_secret: {env: CANARY}}"
)


def test_a_token_of_client_credentials_is_fetched_and_fetched_again_before_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    asked: list[str] = []

    def answer(request: Asked) -> Answer:
        asked.append(request.path)
        if request.path == "/token":
            assert request.method == "POST"
            assert "x-not-for-others" not in request.headers
            assert f"client_secret={CANARY}" in request.body and "grant_type=client_credentials" in request.body
            # The first one lives for a minute, which is too short to be used twice.
            return {"access_token": f"t{len(asked)}", "expires_in": 60 if len(asked) == 1 else 3600}
        assert request.headers["authorization"] in ("Bearer t1", "Bearer t3")
        number = int(request.query["page"])
        return [{"id": number}] if number < 3 else []

    headers = "headers: {X-Not-For-Others: {env: CANARY}}\n"
    text = SINGLE.replace("AUTH", headers + OAUTH).replace("single_page", "page_number, base_page: 0")
    with api(answer) as url:
        assert len(list(read_source(declared(tmp_path, text, url)["shop.rows"]))) == 4
    assert asked == ["/token", "/rows", "/token", "/rows", "/rows", "/rows"]


def test_a_token_that_is_not_given_says_so_without_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    text = SINGLE.replace("AUTH", OAUTH)
    for given in ((401, {}, f'{{"error": "{CANARY}"}}'.encode()), (200, {}, b"{}"), (302, {"Location": "/x"}, b"")):

        def answer(_: Asked, given: Answer = given) -> Answer:
            return given

        with api(answer) as url:
            error = failure(tmp_path, text, url)
        assert "expected an access_token, got" in str(error)


def test_a_secret_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANARY", raising=False)
    with pytest.raises(InvalidInputError, match="the environment variable CANARY: expected a secret in it"):
        list(read_source(declared(tmp_path, SINGLE.replace("AUTH", KINDS["bearer"][0]))["shop.rows"]))
    with pytest.raises(BatonError, match="the Prefect Secret block shop-token can only be read in a flow"):
        list(read_source(declared(tmp_path, SINGLE.replace("AUTH", KINDS["a block"][0]))["shop.rows"]))


def test_a_wait_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answers = [(429, {"Retry-After": "0.05"}, b"")] * 3 + [(503, {}, b"")]
    text = SINGLE.replace("AUTH", "").replace("single_page", "page_number, base_page: 0")

    def answer(asked: Asked) -> Answer:
        return answers.pop() if answers else [{"id": 1}][: 1 - int(asked.query["page"])]

    with api(answer) as url:
        list(read_source(declared(tmp_path, text, url)["shop.rows"]))
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert "/rows: 429 Too Many Requests; asking again in" in caplog.text


def test_only_requests_that_may_be_repeated_are() -> None:
    asked: list[str] = []

    def answer(request: Asked) -> Answer:
        asked.append(request.method)
        return 503, {}, b""

    with api(answer) as url, requests.Session() as session:
        session.mount("http://", PoliteAdapter(logging.getLogger(), retries=1))
        assert session.post(url).status_code == session.get(url).status_code == 503
    assert asked == ["POST", "GET", "GET"]
