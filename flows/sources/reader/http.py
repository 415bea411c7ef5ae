"""HTTP as a guest: waits and asks again where that helps, says so once, and never shows a secret."""

import contextlib
import logging
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_netrc_auth
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from flows.errors import ApiError
from flows.sources.reader.secrets import Secrets, bare_url, same_host

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
RETRIES = 6
RETRIED = (429, 502, 503, 504)
"""500 is not among them: it says that the request itself breaks the server."""
RETRY_AFTER_MAX_SECONDS = 60.0
"""An API that asks for an hour is tried again after this."""
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


class PoliteAdapter(HTTPAdapter):
    """Waits and tries again on 429, 502, 503, 504 and broken connections, as `Retry-After` says.

    With six retries and a doubling pause it gives an API about 30 seconds to come back; what takes longer is for the
    run's own retries.
    """

    def __init__(self, log: Logger, retries: int = RETRIES) -> None:
        super().__init__()
        self._log, self._retries, self._said = log, retries, False

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, *, timeout: object = None, **options: object
    ) -> requests.Response:
        """One answer, read to its end; the last one if all were refusals."""
        for tried in range(self._retries + 1):
            last = tried == self._retries or request.method not in ("GET", "HEAD")
            try:
                response = super().send(request, timeout=timeout or (CONNECT_SECONDS, READ_SECONDS), **options)  # type: ignore[arg-type]
                _ = response.content  # A connection may break on the way.
            except BROKEN:
                if last:
                    raise
                time.sleep(pause(tried, None))
                continue
            if last or response.status_code not in RETRIED:
                break
            seconds = pause(tried, response.headers.get("Retry-After"))
            self._say(response, seconds)
            time.sleep(seconds)
        return response

    def _say(self, response: requests.Response, seconds: float) -> None:
        if not self._said and seconds:
            self._said = True
            self._log.warning(
                "GET %s: %d %s; asking again in %g s, and whenever it comes again",
                bare_url(response.url),
                response.status_code,
                response.reason,
                seconds,
            )


def pause(tried: int, retry_after: str | None) -> float:
    """Seconds to wait after so many tries: what the server asks for, up to a minute, else 0, 1, 2, 4, 8, ..."""
    if retry_after:
        with contextlib.suppress(InvalidHeader):
            return min(float(Retry().parse_retry_after(retry_after)), RETRY_AFTER_MAX_SECONDS)
    return 0.5 * 2**tried if tried else 0.0


class OneHostSession(requests.Session):
    """A session that follows no redirect to another host: credentials in headers or the query would go along."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where the answer sends us, if anywhere."""
        target = super().get_redirect_target(resp)
        if target is not None:
            absolute = requests.compat.urljoin(resp.url, target)
            if not same_host(resp.url, absolute):
                raise ApiError(
                    f"GET {bare_url(resp.url)}: expected an answer, got a redirect to another host, "
                    f"{urlsplit(absolute).hostname}; if that is right, make it the base_url"
                )
        return target


@contextlib.contextmanager
def polite_session(
    base_url: str | None = None, log: Logger | None = None, retries: int = RETRIES
) -> Iterator[requests.Session]:
    """A session with time-outs and patience; with a base URL, one that stays on its host."""
    made = OneHostSession() if base_url else requests.Session()
    with made:
        for scheme in ("http://", "https://"):
            made.mount(scheme, PoliteAdapter(log or logging.getLogger(__name__), retries))
        if base_url:
            _read_environment_once(made, base_url)
        yield made


def _read_environment_once(http: requests.Session, base_url: str) -> None:
    """Proxies, certificates and .netrc as the environment has them now. Requests looks them up again for every
    request, which costs about as much as parsing 20 records.
    """
    for name, value in http.merge_environment_settings(base_url, {}, None, None, None).items():
        setattr(http, name, value)
    http.auth = get_netrc_auth(base_url)
    http.trust_env = False


def reason(error: requests.RequestException, secrets: Secrets) -> str:
    """What broke, without the URL that requests puts into its messages."""
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", None) or cause
    return secrets.redact(f"{type(error).__name__}: {cause}")


def excerpt(response: requests.Response, secrets: Secrets) -> str:
    """How an answer begins."""
    # Redacted before it is cut, so that no secret is cut in two.
    text = " ".join(secrets.redact(response.content[:4000].decode("utf-8", "replace")).split())
    return repr(text[:200]) if text else "an empty body"
