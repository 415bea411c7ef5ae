"""Whatever dlt can read: the records of a dlt resource, landed as every other source's. Needs `pip install .[dlt]`."""

from itertools import islice

import dlt

from flows.sources.reader.python_sources import Context, Pages, table


@dlt.resource
def numbers():  # type: ignore[no-untyped-def]
    """Stands for any resource, such as one of a verified source of dlt's."""
    yield from ({"id": n, "square": n * n} for n in range(2500))


@table(primary_key="id")
def squares(context: Context) -> Pages:
    records = iter(numbers())
    while page := list(islice(records, context.page_size)):
        yield page
