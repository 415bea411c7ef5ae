"""A CSV file, in full. Its values stay the texts that they are, so nothing is rounded on the way."""

import csv
import os
from itertools import islice

from flows.sources.reader.python_sources import Context, Pages, table


@table(primary_key=["order_id", "line"])
def order_lines(context: Context) -> Pages:
    with open(os.environ["ORDER_LINES_CSV"], newline="", encoding="utf-8-sig") as file:  # noqa: PTH123
        rows = csv.DictReader(file, strict=True)
        while page := list(islice(rows, context.page_size)):
            yield page
