"""A stand-in for dummyjson.com on loopback: the same envelope, limits and quirks, over made-up products.

Every value follows from the seed, the day and the product's id, so a page costs what it holds, whatever the total,
and is the same whenever it is asked for. Prices and stock change from day to day.
"""

import argparse
import contextlib
import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DEFAULT_LIMIT = 30
LONGEST_DELAY_MS = 5000

ADJECTIVES = ("Amber", "Brisk", "Calm", "Dusky", "Early", "Fleet", "Grand", "Hollow", "Ivory", "Jolly", "Keen", "Lucid")
NOUNS = ("Anchor", "Basket", "Candle", "Drawer", "Easel", "Funnel", "Goblet", "Hammer", "Inkwell", "Jacket", "Kettle")
BRANDS = ("Aldermoor", "Brightwell", "Corvane", "Dunmere", "Eastlight", "Fenwick & Day", "Gorsehill", "Harrowgate")
NAMES = ("Ada", "Bram", "Cleo", "Dara", "Elif", "Finn", "Gwen", "Hugo", "Ines", "Juno", "Kofi", "Lena", "Milo", "Nora")
CATEGORIES = tuple(
    f"{group}-{part}"
    for group in ("garden", "kitchen", "office", "outdoor", "studio", "workshop")
    for part in ("basics", "care", "lighting", "storage")
)
COMMENTS = ("Better than hoped", "Does what it says", "Broke after a week", "Would buy again", "Not worth the price")
STATUSES = ("In Stock", "Low Stock", "Out of Stock")


Answer = tuple[int, dict[str, str], bytes]
Intercept = Callable[[str, dict[str, str], int], Answer | str | None]
"""Called with path, query and the request's number from 1. None: answer as usual; "cut": close the connection."""


def fraction(*parts: object) -> float:
    """A number from 0 up to 1 that follows from the parts, and looks random."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def product(seed: int, day: date, number: int) -> dict[str, Any]:
    """One product as it is on a day. `brand` is missing in about half, a discount without cents is an int."""
    shown = {name: fraction(seed, number, name) for name in ("title", "noun", "brand", "price", "discount", "size")}
    today = {name: fraction(seed, number, name, day) for name in ("price", "stock", "rating")}
    price = round((1 + 400 * shown["price"] ** 2) * (0.9 + 0.2 * today["price"]), 2)
    discount = round(20 * shown["discount"], 2)
    stock = int(120 * today["stock"])
    title = f"{ADJECTIVES[int(12 * shown['title'])]} {NOUNS[int(11 * shown['noun'])]}"
    category = CATEGORIES[number % len(CATEGORIES)]
    made: dict[str, Any] = {
        "id": number,
        "title": title,
        "description": f"{title}: made to last, sold with care.",
        "category": category,
        "price": int(price) if price == int(price) else price,
        "discountPercentage": int(discount) if number % 7 == 0 else discount,
        "rating": round(2.5 + 2.5 * today["rating"], 2),
        "stock": stock,
        "tags": [category.split("-")[0], category.split("-")[1]],
        "brand": BRANDS[int(8 * shown["brand"])],
        "sku": f"{category[:3].upper()}-{seed}-{number:07d}",
        "weight": 1 + int(9 * shown["size"]),
        "dimensions": {name: round(5 + 25 * fraction(seed, number, name), 2) for name in ("width", "height", "depth")},
        "warrantyInformation": f"{1 + number % 5} year warranty",
        "shippingInformation": f"Ships in {1 + number % 7} days",
        "availabilityStatus": STATUSES[0 if stock > 10 else 1 if stock else 2],
        "reviews": [review(seed, number, position) for position in range(3)],
        "returnPolicy": f"{30 * (number % 3)} days return policy",
        "minimumOrderQuantity": 1 + number % 20,
        "meta": {
            "createdAt": "2025-04-30T09:41:02.053Z",
            "updatedAt": "2025-04-30T09:41:02.053Z",
            "barcode": f"{int(1e13 * fraction(seed, number, 'barcode')):013d}",
            "qrCode": "https://img.example.com/qr.png",
        },
        "images": [f"https://img.example.com/{number}/{position}.webp" for position in range(1, 2 + number % 4)],
        "thumbnail": f"https://img.example.com/{number}/thumbnail.webp",
    }
    if shown["brand"] * 8 % 1 < 0.47:
        del made["brand"]
    return made


def review(seed: int, number: int, position: int) -> dict[str, Any]:
    """One of a product's three reviews, with a person's name and e-mail address in it."""
    name = NAMES[int(len(NAMES) * fraction(seed, number, "reviewer", position))]
    return {
        "rating": 1 + int(5 * fraction(seed, number, "stars", position)),
        "comment": COMMENTS[int(len(COMMENTS) * fraction(seed, number, "comment", position))],
        "date": "2025-04-30T09:41:02.053Z",
        "reviewerName": f"{name} {NOUNS[(number + position) % len(NOUNS)]}",
        "reviewerEmail": f"{name.lower()}.{number}@mail.example.com",
    }


@dataclass
class SampleApi:
    """What is served, and how: any number of products, on a fixed day or (by default) on each request's own."""

    products: int = 194
    seed: int = 1
    day: date | None = None
    rate_limit: tuple[int, float] | None = None
    """So many requests within so many seconds; what comes above is answered 429."""
    intercept: Intercept | None = None
    requests: int = 0
    _recent: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, target: str) -> Answer | str:
        """The answer to a GET of the target (path and query)."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        with self._lock:
            self.requests += 1
            number, limited = self.requests, self._limited()
        if self.intercept and (intercepted := self.intercept(url.path, query, number)) is not None:
            return intercepted
        if limited:
            return problem(429, "Too many requests", {"Retry-After": f"{limited:.0f}"})
        return self._route(url.path.rstrip("/"), query)

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
        if path == "/products":
            return self._page(limit, skip, day, query.get("select"))
        if path.startswith("/products/") and path.rpartition("/")[2].isdigit():
            number = int(path.rpartition("/")[2])
            if 1 <= number <= self.products:
                return reply(200, product(self.seed, day, number))
            return problem(404, f"Product with id '{number}' not found")
        if path == "/test":
            return reply(200, {"status": "ok", "method": "GET"})
        if path.startswith("/http/") and path.rpartition("/")[2].isdigit():
            status = int(path.rpartition("/")[2])
            kind = "application/problem+json" if status >= 500 else "application/json"
            return reply(status, {"message": f"status {status}, as you asked"}, kind)
        html = f"<!DOCTYPE html><html><body><pre>Cannot GET {path}</pre></body></html>"
        return 404, {"Content-Type": "text/html; charset=utf-8"}, html.encode()

    def _page(self, limit: int, skip: int, day: date, select: str | None) -> Answer:
        last = self.products if limit == 0 else min(self.products, skip + limit)
        records = [product(self.seed, day, number) for number in range(skip + 1, last + 1)]
        if select:
            keys = {"id", *select.split(",")}
            records = [{key: value for key, value in record.items() if key in keys} for record in records]
        return reply(200, {"products": records, "total": self.products, "skip": skip, "limit": len(records)})


PAGING = (("limit", str(DEFAULT_LIMIT)), ("skip", "0"), ("delay", "0"))


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
            answer = api.answer(self.path)
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
            """A line a request is of no use to anybody."""

    made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    made.daemon_threads = True
    return made


@contextlib.contextmanager
def serving(
    products: int = 194,
    *,
    seed: int = 1,
    day: date | None = None,
    rate_limit: tuple[int, float] | None = None,
    intercept: Intercept | None = None,
) -> Iterator[str]:
    """The API in a thread of this process, on a free port, for as long as the block runs; yields its base URL."""
    running = server(SampleApi(products, seed, day, rate_limit, intercept))
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def main() -> None:
    """`python -m stack.sample_api`: prints its URL and serves until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m stack.sample_api", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--products", type=int, default=194)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--day", type=date.fromisoformat, default=None, help="YYYY-MM-DD; today by default")
    arguments = parser.parse_args()
    running = server(SampleApi(arguments.products, arguments.seed, arguments.day), arguments.port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=running.shutdown).start())
    print(f"http://127.0.0.1:{running.server_address[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        running.serve_forever(0.1)
    running.server_close()


if __name__ == "__main__":
    main()
