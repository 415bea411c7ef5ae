"""How requests prove who asks: one `requests` auth for each kind that a declaration may name."""

import importlib
import time
from base64 import b64encode
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from flows.errors import ApiError, InvalidInputError
from flows.sources.reader import declaration
from flows.sources.reader.http import CONNECT_SECONDS, READ_SECONDS, excerpt, reason
from flows.sources.reader.secrets import Secrets, bare_url

RENEW_BEFORE_SECONDS = 60.0
LIFE_SECONDS = 300.0
"""Of a token that does not say when it expires."""


class InHeader(AuthBase):
    """A fixed header."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


class InQuery(AuthBase):
    """A fixed parameter; one of that name which a link to the next page brings along gives way."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        parts = urlsplit(request.url or "")
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != self._name]
        request.url = urlunsplit(parts._replace(query=urlencode([*query, (self._name, self._value)])))
        return request


class ClientCredentials(AuthBase):
    """OAuth 2: a token for the client's id and secret, fetched when it is needed and before it expires."""

    def __init__(self, auth: declaration.OAuth2ClientCredentials, secrets: Secrets) -> None:
        self._url, self._secrets = auth.access_token_url, secrets
        self._data = {
            "grant_type": "client_credentials",
            "client_id": secrets.value(auth.client_id),
            "client_secret": secrets.value(auth.client_secret),
            **auth.access_token_request_data,
        }
        self._token, self._expires = "", 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if time.monotonic() > self._expires - RENEW_BEFORE_SECONDS:
            self._fetch()
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _fetch(self) -> None:
        where = f"POST {bare_url(self._url)} (OAuth 2 client credentials)"
        broken = None
        try:
            # Not by the API's session, whose headers are not for this host. No redirect: the secret would go along.
            timeout = (CONNECT_SECONDS, READ_SECONDS)
            answer = requests.post(self._url, data=self._data, auth=_nothing, allow_redirects=False, timeout=timeout)
        except requests.RequestException as error:
            broken = reason(error, self._secrets)
        if broken is not None:
            raise ApiError(f"{where}: no answer: {broken}")
        try:
            body = answer.json() if answer.status_code == 200 else None
            token, life = body["access_token"], float(body.get("expires_in") or LIFE_SECONDS)  # type: ignore[index,union-attr]
        except (ValueError, TypeError, KeyError):
            raise ApiError(
                f"{where}: expected an access_token, got {answer.status_code} {answer.reason}: "
                f"{excerpt(answer, self._secrets)}"
            ) from None
        self._token, self._expires = self._secrets.keep(token), time.monotonic() + life


def _nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def make_auth(auth: declaration.Auth | None, secrets: Secrets) -> AuthBase | None:
    """The `requests` auth that the declaration asks for; secrets are looked up now."""
    match auth:
        case declaration.BearerAuth():
            return InHeader("Authorization", f"Bearer {secrets.value(auth.token)}")
        case declaration.HttpBasicAuth():
            username, password = secrets.value(auth.username), secrets.value(auth.password)
            secrets.keep(b64encode(f"{username}:{password}".encode()).decode())  # As the header has it.
            return HTTPBasicAuth(username.encode(), password.encode())
        case declaration.ApiKeyAuth(location="header"):
            return InHeader(auth.name, secrets.value(auth.api_key))
        case declaration.ApiKeyAuth():
            return InQuery(auth.name, secrets.value(auth.api_key))
        case declaration.OAuth2ClientCredentials():
            return ClientCredentials(auth, secrets)
        case declaration.PythonAuth():
            return _from_python(auth.python, secrets)
    return None


def _from_python(name: str, secrets: Secrets) -> AuthBase:
    module, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)(secrets.named)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(f"auth.python: {name}: cannot be imported: {error}") from error
    if not callable(made):
        raise InvalidInputError(f"auth.python: {name}: expected a requests auth, got {type(made).__name__}")
    return made  # type: ignore[no-any-return]
