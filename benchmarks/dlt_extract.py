"""The same lines by dlt's REST client, which pages by itself: every page into one compressed file of JSON lines."""

import gzip
import json
from pathlib import Path

from dlt.sources.helpers.rest_client.client import RESTClient
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator


def extract(base_url: str, file: Path, page_size: int, level: int) -> int:
    """Reads all products; how many there were."""
    rows = 0
    paginator = OffsetPaginator(limit=page_size, offset_param="skip", total_path="total")
    with gzip.open(file, "wt", compresslevel=level, encoding="utf-8") as lines:
        for page in RESTClient(base_url, paginator=paginator, data_selector="products").paginate("products"):
            for record in page:
                lines.write(json.dumps(record) + "\n")
            rows += len(page)
    return rows
