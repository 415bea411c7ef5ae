"""`prefect server` with two delays of a hand-off taken out: `python -m stack.local.sqlite_server server start`.

Transactions lock SQLite when they begin. Prefect begins most of them DEFERRED: they read first, and if another
connection writes before they do, SQLite refuses their write at once ("database is locked"; no time-out helps, because
what they read is old). The API then answers 503, and Prefect's clients try again two seconds later. That is most of a
hand-off, because the transform's run is created just when the extract's run writes its last state. A trigger that is
refused four times is dropped. A transaction that begins IMMEDIATE waits for the lock, some milliseconds. PostgreSQL and
Prefect Cloud do not have the problem.

The application is looked up once. Prefect looks it up again for each action of an automation, by a hash of all
settings, and sets up logging each time. That takes 0.15 s, in which the server does nothing else.
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
    """Prefect's `begin_transaction`, always with the lock of an update.

    Only this transaction begins IMMEDIATE. Inside it Prefect may open a second session to read (when a work queue is
    paused, for instance), which would wait for the lock of the first until both time out.
    """
    async with begin(database, session, with_for_update=True) as transaction:
        await session.connection()  # SQLAlchemy sends BEGIN only now.
        token = SQLITE_BEGIN_MODE.set("DEFERRED")
        try:
            yield transaction
        finally:
            SQLITE_BEGIN_MODE.reset(token)


if __name__ == "__main__":
    AioSqliteConfiguration.begin_transaction = begin_immediate  # type: ignore[assignment]
    prefect.server.api.server.create_app = functools.cache(prefect.server.api.server.create_app)
    app()
