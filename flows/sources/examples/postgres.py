"""A table of a Postgres database, by changes. POSTGRES_DSN is its address, such as postgresql://user:password@host/db."""

import psycopg
from psycopg.rows import dict_row

from flows.sources.reader.python_sources import Context, Pages, table


@table(primary_key="order_id", cursor_path="updated_at", initial_value="2026-01-01T00:00:00Z", lag="5m")
def orders(context: Context) -> Pages:
    # A cursor with a name is read page by page.
    with (
        psycopg.connect(context.secret("POSTGRES_DSN"), row_factory=dict_row) as database,
        database.cursor("changed_orders") as rows,
    ):
        between = [context.since, context.until or "infinity"]
        rows.execute("select * from orders where updated_at between %s and %s", between)
        while page := rows.fetchmany(context.page_size):
            yield page
