"""The loop that one would write without thinking of anything: every page into one compressed file of JSON lines."""

import gzip
import json
from pathlib import Path

import requests


def extract(base_url: str, file: Path, page_size: int, level: int) -> int:
    """Reads all products; how many there were."""
    rows, total = 0, 1
    with requests.Session() as session, gzip.open(file, "wt", compresslevel=level, encoding="utf-8") as lines:
        while rows < total:
            answer = session.get(f"{base_url}/products", params={"limit": page_size, "skip": rows}, timeout=30)
            answer.raise_for_status()
            body = answer.json()
            total = body["total"]
            for record in body["products"]:
                lines.write(json.dumps(record) + "\n")
            rows += len(body["products"])
    return rows
