"""Replaces dummyjson.com on loopback: the same envelope, limits and quirks, over a made-up shop.

It serves /products, /carts and /users as they are on one day, which is the server's, the request's (`?day=`) or today.
Under /shop/v1 it also plays a second system, another kind of API (shop.py).
"""

import argparse
import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

from stack.sample_api import shop
from stack.sample_api.data import Entity, Shop
from stack.sample_api.orders import Orders

DEFAULT_LIMIT = 30
LONGEST_DELAY_MS = 5000

Answer = tuple[int, dict[str, str], bytes]
Intercept = Callable[[str, dict[str, str], int], Answer | str | None]
"""Called with path, query and the request's number from 1. None: answer as usual; "cut": close the connection."""


@dataclass
class SampleApi:
    """What is served, and how: a shop of any size, on a fixed day or (by default) on each request's own."""

    products: int = 194
    carts: int = 50
    users: int = 208
    seed: int = 1
    day: date | None = None
    rate_limit: tuple[int, float] | None = None
    """So many requests within so many seconds; further ones are answered 429."""
    intercept: Intercept | None = None
    requests: int = 0
    _recent: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, target: str, headers: Mapping[str, str] | None = None) -> Answer | str:
        """The answer to a GET of the target (path and query); header names are in lower case."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        with self._lock:
            self.requests += 1
            number, limited = self.requests, self._limited()
        if self.intercept and (intercepted := self.intercept(url.path, query, number)) is not None:
            return intercepted
        if limited:
            return problem(429, "Too many requests", {"Retry-After": f"{limited:.0f}"})
        path = url.path.rstrip("/")
        if path.startswith(f"{shop.PREFIX}/"):
            return self._shop(path.removeprefix(shop.PREFIX), query, headers or {})
        return self._route(path, query)

    def _shop(self, path: str, query: dict[str, str], headers: Mapping[str, str]) -> Answer:
        """The second system, as it is now, or at the end of the day that is asked for."""
        day = date.fromisoformat(query["day"]) if "day" in query else self.day
        end = datetime.combine(day + timedelta(days=1), time_of_day.min, UTC) if day else datetime.now(UTC)
        return shop.answer(Orders(end, self.seed), path, query, headers)

    def _limited(self) -> float:
        """Seconds to wait if the limit is reached, else 0."""
        if self.rate_limit is None:
            return 0
        most, seconds = self.rate_limit
        now = time.monotonic()
        self._recent = [moment for moment in self._recent if now - moment < seconds]
        if len(self._recent) >= most:
            return max(1.0, seconds)
        self._recent.append(now)
        return 0

    def _route(self, path: str, query: dict[str, str]) -> Answer:
        try:
            limit, skip, delay = (int(query.get(name, default)) for name, default in PAGING)
            day = date.fromisoformat(query["day"]) if "day" in query else self.day or datetime.now(UTC).date()
        except ValueError:
            return problem(400, "limit, skip and delay are numbers, day is a date")
        if min(limit, skip, delay) < 0:
            return problem(400, "limit, skip and delay are not negative")
        time.sleep(min(delay, LONGEST_DELAY_MS) / 1000)
        stock = Shop(day, self.seed, self.products, self.carts, self.users)
        for entity in get_args(Entity):
            if path == f"/{entity}":
                return page(stock, entity, limit, skip, query.get("select"))
            if path.startswith(f"/{entity}/") and path.rpartition("/")[2].isdigit():
                return single(stock, entity, int(path.rpartition("/")[2]))
        if path == "/test":
            return reply(200, {"status": "ok", "method": "GET"})
        if path.startswith("/http/") and path.rpartition("/")[2].isdigit():
            status = int(path.rpartition("/")[2])
            kind = "application/problem+json" if status >= 500 else "application/json"
            return reply(status, {"message": f"status {status}, as you asked"}, kind)
        html = f"<!DOCTYPE html><html><body><pre>Cannot GET {path}</pre></body></html>"
        return 404, {"Content-Type": "text/html; charset=utf-8"}, html.encode()


PAGING = (("limit", str(DEFAULT_LIMIT)), ("skip", "0"), ("delay", "0"))


def page(shop: Shop, entity: Entity, limit: int, skip: int, select: str | None) -> Answer:
    """Records by id, from `skip` on; all that are left for limit 0. `select` keeps the id and the keys it names."""
    ids = shop.ids(entity)
    records = [shop.record(entity, number) for number in ids[skip : skip + limit if limit else None]]
    if select:
        keys = {"id", *select.split(",")}
        records = [{key: value for key, value in record.items() if key in keys} for record in records]
    return reply(200, {entity: records, "total": len(ids), "skip": skip, "limit": len(records)})


def single(shop: Shop, entity: Entity, number: int) -> Answer:
    """The record with the id, if it is there on the day."""
    if number in shop.ids(entity):
        return reply(200, shop.record(entity, number))
    return problem(404, f"{entity.removesuffix('s').capitalize()} with id '{number}' not found")


def reply(status: int, body: Any, kind: str = "application/json", headers: dict[str, str] | None = None) -> Answer:
    """A JSON answer."""
    return status, {"Content-Type": f"{kind}; charset=utf-8", **(headers or {})}, json.dumps(body).encode()


def problem(status: int, message: str, headers: dict[str, str] | None = None) -> Answer:
    """An error, in the form that the real API gives it."""
    return reply(status, {"message": message}, headers=headers)


def server(api: SampleApi, port: int = 0) -> ThreadingHTTPServer:
    """An HTTP server on loopback that answers with the API; not started yet."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body leave in one packet; otherwise each keep-alive answer waits 40 ms for the client's ACK.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            answer = api.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            if isinstance(answer, str):
                self.close_connection = True
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Writes nothing: a line a request would hide the others."""

    made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    made.daemon_threads = True
    return made


@contextlib.contextmanager
def serving(
    products: int = 194,
    *,
    carts: int = 50,
    users: int = 208,
    seed: int = 1,
    day: date | None = None,
    rate_limit: tuple[int, float] | None = None,
    intercept: Intercept | None = None,
) -> Iterator[str]:
    """The API in a thread of this process, on a free port, for as long as the block runs; yields its base URL."""
    running = server(SampleApi(products, carts, users, seed, day, rate_limit, intercept))
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def main() -> None:
    """`python -m stack.sample_api.server`: prints its URL and serves until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m stack.sample_api.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--products", type=int, default=194)
    parser.add_argument("--carts", type=int, default=50)
    parser.add_argument("--users", type=int, default=208)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--day", type=date.fromisoformat, default=None, help="YYYY-MM-DD; today by default")
    arguments = parser.parse_args()
    api = SampleApi(arguments.products, arguments.carts, arguments.users, arguments.seed, arguments.day)
    running = server(api, arguments.port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=running.shutdown).start())
    print(f"http://127.0.0.1:{running.server_address[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        running.serve_forever(0.1)
    running.server_close()


if __name__ == "__main__":
    main()
