"""A warehouse whose ledger has many batches, written by one statement: what shows the status must bear them."""

from datetime import UTC, datetime
from pathlib import Path

from flows.settings import Settings
from flows.warehouse.connection import connect
from flows.warehouse.migrations import migrate

MANY = """
insert into ops.ledger by name
select
    format('system{:02d}.table_{:02d}', number % 12, number // 12) as source,
    strftime(landed_at, '%Y%m%dT%H%M%SZ') || '-' || format('{:012x}', number * 1000000 + batch) as batch_id,
    1000 * (1 + number % 7) + (hash(number, batch) % 100)::bigint as rows,
    'event' as handoff, uuid() as event_id, uuid() as extract_flow_run_id, uuid() as transform_flow_run_id, landed_at,
    landed_at + interval 200 milliseconds as event_at,
    landed_at + to_milliseconds(1200 + (hash(batch, number) % 1500)::bigint) as started_at,
    'project' as dbt_project,
    landed_at + to_milliseconds(4000 + (hash(batch, number, 1) % 6000)::bigint) as processed_at,
    true as announced
from range(?) sources(number), range(?) batches(batch),
    lateral (select ?::timestamptz - to_minutes(60 * (? - batch)) + to_seconds(number) as landed_at)
"""
QUARANTINED = """
insert into ops.quarantine (source, batch_id, reason, quarantined_at)
select source, left(max(batch_id), 17) || 'ffffffffffff', 'a test found 3 rows', max(processed_at)
from ops.ledger group by source order by source limit ?
"""
FAILED = """
insert into ops.failures (source, batch_id, reason, failed_at)
select 'system00.table_00', '20261101T000000Z-00000000000f', 'dbt build: 1 of 9 nodes failed', now()
"""
FRESHNESS = """
insert into ops.freshness
select source, 'pass', max(landed_at), to_minutes(? + (hash(source) % 400)::integer), to_hours(24), now()
from ops.ledger group by source
"""


def fill(folder: Path, sources: int, batches: int, *, bad: int = 0, due_minutes: int = 90) -> Settings:
    """Settings of a warehouse with so many sources, an hour between their batches; of some a batch is in quarantine."""
    settings = Settings(landing_root=folder / "landing", warehouse=folder / "warehouse.duckdb")
    with connect(settings) as connection:
        migrate(connection)
        connection.execute(MANY, [sources, batches, datetime.now(UTC), batches])
        connection.execute(FRESHNESS, [due_minutes])
        if bad:
            connection.execute(QUARANTINED, [bad])
            connection.execute(FAILED)
    return settings
