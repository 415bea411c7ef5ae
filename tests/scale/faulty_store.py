"""A proxy that makes an object store fail, for tests."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fsspec
import pytest


@dataclass
class Proxy:
    """Stands before the store and passes requests on, but for those that it has to refuse or to keep."""

    store: str
    url: str = ""
    refuse: int = 0
    """How many requests are refused first."""
    error: tuple[int, str] = (503, "SlowDown")
    """With which status and code."""
    busy: bool = False
    """Whether every request is refused at this moment."""
    keep: str = ""
    """A PUT of a key that ends so is never passed on, and never answered while the proxy lives."""
    seen: list[str] = field(default_factory=list)
    """Every request, as `METHOD path?query`."""
    kept: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def proxy(store: str, patch: pytest.MonkeyPatch, **options: Any) -> Iterator[Proxy]:
    """A proxy that AWS_ENDPOINT_URL leads to from here on."""
    state = Proxy(store, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            state.seen.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if state.busy or len(state.seen) <= state.refuse:
                status, code = state.error
                return self.reply(status, {}, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())
            if state.keep and self.command == "PUT" and self.path.split("?")[0].endswith(state.keep):
                state.kept.set()
                state.ended.wait()
                return None
            request = urllib.request.Request(f"{store}{self.path}", body or None, method=self.command)
            for name, value in self.headers.items():
                if name.lower() not in ("host", "content-length", "connection"):
                    request.add_header(name, value)
            try:
                with urllib.request.urlopen(request) as found:
                    self.reply(found.status, dict(found.headers), found.read())
            except urllib.error.HTTPError as error:
                self.reply(error.code, dict(error.headers), error.read())
            return None

        def reply(self, code: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(code)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            kept = {
                n: v for n, v in headers.items() if n.lower() not in ("content-length", "connection", "date", "server")
            }
            for name, value in {**kept, "Content-Length": length}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    patch.setenv("AWS_ENDPOINT_URL", state.url)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        server.server_close()
        patch.setenv("AWS_ENDPOINT_URL", store)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
