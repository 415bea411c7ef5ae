"""`prefect server` with two delays of a hand-off taken out: `python -m stack.sqlite_server server start`.

Transactions lock SQLite when they begin. Prefect begins most of them DEFERRED. Such a one reads first, and if anybody
else has written before it writes, SQLite refuses it at once ("database is locked"; no time-out helps, because what it
has read is old). The API then answers 503 and Prefect's clients try again two seconds later: most of a hand-off, as the
action that creates the transform's run comes just when the extract's run is writing its end. A trigger that meets it
four times is dropped. One that begins IMMEDIATE waits for its turn, some milliseconds. PostgreSQL has nothing of this,
and Prefect Cloud neither.

The application is looked up once. Prefect looks it up again for each action of an automation, by a hash of all
settings, and sets up logging each time: 0.15 s in which the server does nothing else.
"""

import functools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import prefect.server.api.server
from prefect.cli import app
from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

begin = AioSqliteConfiguration.begin_transaction


@asynccontextmanager
async def begin_immediate(
    database: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = False
) -> AsyncGenerator[AsyncSessionTransaction, None]:
    """As `begin_transaction`, and always as if for an update.

    The mode holds for this transaction alone. Inside it Prefect may open a second session to read (when a work queue
    is paused, for instance), which would wait for the lock of the first one until both give up.
    """
    async with begin(database, session, with_for_update=True) as transaction:
        await session.connection()  # Only now does SQLAlchemy say BEGIN.
        token = SQLITE_BEGIN_MODE.set("DEFERRED")
        try:
            yield transaction
        finally:
            SQLITE_BEGIN_MODE.reset(token)


if __name__ == "__main__":
    AioSqliteConfiguration.begin_transaction = begin_immediate  # type: ignore[assignment]
    prefect.server.api.server.create_app = functools.cache(prefect.server.api.server.create_app)
    app()
