"""An API that costs next to nothing to serve: pages of products, put together from records made beforehand.

    python benchmarks/pages.py PORT RECORDS

The same envelope as stack/sample_api/server.py, which makes every record anew and would be slower than its reader.
"""

import re
import socket
import sys
import threading
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stack.sample_api.data import Shop, product
from stack.sample_api.server import reply

TARGET = re.compile(rb"GET /products\?(?=\S*limit=(\d+))(?=\S*skip=(\d+))")
BODIES = 10_000
"""So many different records; those beyond have the body of an earlier one, under an id of their own."""


def bodies(records: int) -> list[bytes]:
    """Records as JSON, from behind their id on."""
    shop = Shop(date(2026, 1, 1))
    made = [product(shop, number) for number in range(min(records, BODIES))]
    return [reply(200, record)[2].partition(b", ")[2] for record in made]


def page(made: list[bytes], records: int, limit: int, skip: int) -> bytes:
    """One page, as the API would send it."""
    last = min(records, skip + limit)
    lines = [b'{"id": %d, %s' % (number + 1, made[number % len(made)]) for number in range(skip, last)]
    envelope = b'{"products": [%s], "total": %d, "skip": %d, "limit": %d}'
    return envelope % (b", ".join(lines), records, skip, len(lines))


def answer(connection: socket.socket, made: list[bytes], records: int) -> None:
    """Every request of one connection, until it is closed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while received := connection.recv(65536):
        request += received
        if request.endswith(b"\r\n\r\n"):
            match = TARGET.match(request)
            body = page(made, records, int(match[1]), int(match[2])) if match else b"{}"
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            request = b""


def main() -> None:
    """Serves until it is ended."""
    port, records = map(int, sys.argv[1:3])
    made = bodies(records)
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=answer, args=(connection, made, records), daemon=True).start()


if __name__ == "__main__":
    main()
