"""An object store on loopback that speaks S3: localbucket, which keeps objects as files and checks no credentials."""

import sys
from collections.abc import Mapping
from pathlib import Path

from stack.local.processes import answers, free_port, start

BUCKET = "baton"


def start_object_store(folder: Path, environment: Mapping[str, str]) -> str:
    """Starts it with an empty bucket `baton`, its files below the folder; returns its URL, for AWS_ENDPOINT_URL."""
    (folder / "objects" / BUCKET).mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "localbucket", str(folder / "objects"), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    start("object-store", command, folder, environment, ready=lambda: answers(f"{url}/{BUCKET}?list-type=2&max-keys=1"))
    return url
