"""A Prefect server with this project's deployments, files to apply, and what stands between the two."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun

from automations.prefect_automations.cli import main
from flows.landing.batch import Manifest
from flows.server import events
from flows.settings import PROJECT
from stack.local.processes import wait_until

SECONDS = 120.0
SHIPPED = sorted(path.stem for path in (PROJECT / "automations").glob("*.yaml"))


@dataclass
class Here:
    """A Prefect server with this project's deployments, and files to apply."""

    url: str
    folder: Path
    capsys: pytest.CaptureFixture[str]
    sent: int = field(default=0)

    @property
    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(self.url)

    def file(self, name: str, **changes: Any) -> Path:
        """A shipped automation, as it is but for these changes (`trigger__within=10`)."""
        data = yaml.safe_load((PROJECT / "automations" / f"{name}.yaml").read_text())
        for path, value in changes.items():
            *way, key = path.split("__")
            inner = data
            for step in way:
                inner = inner[step]
            inner[key] = value
        made = self.folder / f"{name}.yaml"
        made.write_text(yaml.safe_dump(data))
        return made

    def run(self, command: str, *arguments: object, project: Path = PROJECT) -> tuple[int, str]:
        """The exit code and the output of a command."""
        self.capsys.readouterr()
        code = main([command, *map(str, arguments), "--project", str(project)])
        output = self.capsys.readouterr()
        return code, output.out + output.err

    def plan(self, *files: Path, prune: bool = False) -> tuple[int, dict[str, dict[str, Any]]]:
        """The exit code and the changes by automation."""
        options = ["--json", "--detailed-exitcode", *(["--prune"] if prune else [])]
        code, output = self.run("plan", *files, *options)
        return code, {change["automation"]: change for change in json.loads(output)["changes"]}

    def automations(self) -> dict[str, dict[str, Any]]:
        """Every automation on the server by name; a name that is there twice fails the test."""
        with self.client as client:
            found = client.request("POST", "/automations/filter", json={"limit": 200}).json()
        assert len({each["name"] for each in found}) == len(found)
        return {each["name"]: each for each in found}

    def edit(self, automation: str, **changes: Any) -> None:
        """What the UI does: the whole automation, changed."""
        raw = self.automations()[automation]
        body = {key: value for key, value in raw.items() if key not in ("id", "created", "updated")}
        with self.client as client:
            client.request("PUT", "/automations/{id}", path_params={"id": raw["id"]}, json=body | changes)

    def extract_finished(self, source: str, handoff: events.Handoff = "event") -> Manifest:
        """Sends the event of a batch that nobody has landed."""
        manifest = Manifest(
            source=source,
            batch_id=f"20260101T{self.sent:06d}Z-{uuid4().hex[:12]}",
            rows=1,
            bytes=1,
            sha256="0" * 64,
            total=1,
            extracted_at=datetime.now(UTC),
            flow_run_id=uuid4(),
        )
        self.sent += 1
        events.send([events.extract_finished(manifest, handoff)])
        return manifest

    def send(self, event: str, payload: dict[str, Any]) -> None:
        """Sends an event that no flow of ours sends."""
        resource = {"prefect.resource.id": "tests.any"}
        body = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "event": event, "resource": resource}
        with self.client as client:
            client.request("POST", "/events", json=[body | {"payload": payload}])

    def runs(self, flow: str) -> list[FlowRun]:
        """The runs of a flow that an automation has started."""
        with self.client as client:
            found = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
        return [run for run in found if run.created_by and run.created_by.type == "AUTOMATION"]


def deploy(url: str) -> None:
    """`prefect deploy --all`, as a user types it."""
    command = [sys.executable, "-m", "prefect", "deploy", "--all"]
    subprocess.run(command, cwd=PROJECT, env=os.environ | {"PREFECT_API_URL": url}, check=True, capture_output=True)


@contextmanager
def without_deployment(here: Here, name: str) -> Iterator[None]:
    """The deployment is gone for as long as the block runs, and is then made anew, with another id."""
    with here.client as client:
        was = client.request("GET", f"/deployments/name/{name}").json()  # type: ignore[arg-type]
        client.delete_deployment(UUID(was["id"]))
    try:
        yield
    finally:
        kept = ("name", "flow_id", "work_pool_name", "work_queue_name", "entrypoint", "path", "parameters")
        body = {key: was[key] for key in (*kept, "parameter_openapi_schema")}
        with here.client as client:
            client.request("POST", "/deployments/", json=body)


def until(condition: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(condition()), what, SECONDS)


class listening:
    """An HTTP server on loopback: it says its version, has nothing of what it is asked for, keeps what was posted."""

    def __init__(self, status: int, version: str = "3.8.8") -> None:
        received: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if length:
                    received.append(json.loads(self.rfile.read(length)))
                body = json.dumps(version if self.path.endswith("/version") else []).encode()
                self.send_response(404 if "/csrf-token" in self.path else status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> tuple[str, list[dict[str, Any]]]:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}", self.received

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class webhook:
    """The notification block that the shipped automations name, for as long as the block runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        body = {"subject": "{{subject}}", "body": "{{body}}"}
        block = CustomWebhookNotificationBlock(
            name="baton", url=self.url, method="POST", json_data=body, headers=None, cookies=None
        )
        block.save("baton-alerts", overwrite=True)

    def __exit__(self, *_: object) -> None:
        CustomWebhookNotificationBlock.delete("baton-alerts")


class Proxy:
    """Stands before a server: counts the requests, can change an answer, and can be cut off."""

    def __init__(self, url: str, change: Callable[[str, Any], Any] = lambda _, answer: answer) -> None:
        proxy = self
        self.requests: list[str] = []
        self.after: int | None = None
        """After so many changes the line is cut."""

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                proxy.requests.append(f"{self.command} {self.path}")
                if proxy.is_cut:
                    self.connection.close()
                    return
                keep = {key: value for key, value in self.headers.items() if key.lower() in ("content-type", "accept")}
                answer = httpx.request(
                    self.command, url.removesuffix("/api") + self.path, content=body, headers=keep, timeout=30
                )
                content = answer.content
                if answer.headers.get("Content-Type", "").startswith("application/json"):
                    content = json.dumps(change(f"{self.command} {self.path}", answer.json())).encode()
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def is_cut(self) -> bool:
        """Whether the line is cut: the request that is one too many is not answered, nor any after it."""
        changes = [each for each in self.requests if each.startswith("POST /api/automations/") and "filter" not in each]
        return self.after is not None and len(changes) > self.after

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/api"
