"""A real HTTP server on loopback that answers with whatever a test's function gives."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flows.sources.reader.files import Source, load_file


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """By lower-case name."""
    body: str


Answer = tuple[int, dict[str, str], bytes] | Any
"""Status, headers and body, or what becomes the JSON of a 200."""


@contextlib.contextmanager
def api(answer: Callable[[Asked], Answer]) -> Iterator[str]:
    """The server for as long as the block runs; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            given = answer(Asked(self.command, url.path, dict(parse_qsl(url.query)), headers, body))
            if not (isinstance(given, tuple) and len(given) == 3):
                given = (200, {"Content-Type": "application/json"}, json.dumps(given).encode())
            self.send_response(given[0])
            for name, value in {"Content-Length": str(len(given[2])), **given[1]}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(given[2])

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """A line a request is of no use to anybody."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def declared(folder: Path, text: str, url: str = "https://api.example.com", system: str = "shop") -> dict[str, Source]:
    """The sources that a declaration makes, by name; URL in it is where the test's server is."""
    file = folder / f"{system}.yaml"
    file.write_text(text.replace("URL", url))
    return load_file(file)
