"""`python -m flows quarantine | replay | prune | maintain`: what a person does with batches and the lake by hand."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from flows import lake, landing, ledger, turns
from flows.landing import BatchError, check_batch_id, landed
from flows.settings import Settings, split_source


def quarantine(settings: Settings) -> int:
    """Lists the batches that were set aside, each with the reason."""
    with ledger.opened(settings) as connection:
        rows = ledger.quarantined(connection)
    for source, batch_id, reason, at in rows:
        print(f"{at:%Y-%m-%d %H:%M} UTC  {source}  {batch_id}\n  {reason}")
    print(f"{len(rows)} batches set aside")
    return 0


def replay(settings: Settings, source: str, batch_id: str) -> int:
    """Makes a batch pending again; the next transform takes it."""
    split_source(source)
    check_batch_id(batch_id)
    with ledger.opened(settings) as connection:
        if not ledger.release(connection, (source, batch_id)):
            print(f"{source} {batch_id} is not set aside; `python -m flows quarantine` lists what is", file=sys.stderr)
            return 1
    print(f"{source} {batch_id} is pending again; the next transform takes it")
    return 0


def prune(settings: Settings, days: float, dry_run: bool) -> int:
    """Removes landed batches that the ledger holds and that were extracted more than `days` ago, never others.

    A full refresh rebuilds from the landing, so it can only bring back what has not been pruned.
    """
    # A full refresh reads what would be removed here.
    with turns.alone(settings):
        return remove(settings, datetime.now(UTC) - timedelta(days=days), dry_run)


def remove(settings: Settings, cutoff: datetime, dry_run: bool) -> int:
    """Removes, and names, each batch that was extracted before the cutoff and that the ledger holds."""
    processed = ledger.read(settings).processed
    removed = 0
    for batch in landed(settings.landing_root):
        if batch.key not in processed:
            continue
        try:
            extracted_at = batch.manifest().extracted_at
        except BatchError as error:
            print(f"kept, its age is not known: {error}", file=sys.stderr)
            continue
        if extracted_at < cutoff:
            removed += 1
            print(f"{'would remove' if dry_run else 'removed'} {batch.folder}")
            if not dry_run:
                landing.remove(batch)
    if not dry_run and (leftovers := landing.remove_leftovers(settings.landing_root, older_than_seconds=86400)):
        print(f"removed {leftovers} objects that killed extracts left")
    print(f"{removed} batches extracted before {cutoff:%Y-%m-%d %H:%M} UTC {'would be ' if dry_run else ''}removed")
    return 0


def maintain(settings: Settings, days: float) -> int:
    """DuckLake's own upkeep: small files are put together, and what only old snapshots need is removed."""
    if not settings.on_lake:
        print("maintain: expected BATON_TARGET=lake; a DuckDB file needs no upkeep", file=sys.stderr)
        return 2
    # DuckLake does not notice when merging meets deleting (https://github.com/duckdb/ducklake/issues/1094).
    with turns.alone(settings), ledger.opened(settings) as connection:
        lake.maintain(connection, days)
    print(f"files merged, snapshots older than {days:g} days expired, their files removed")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 1 nothing of that name, 2 wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("quarantine", help="list the batches that were set aside, and why")
    replaying = commands.add_parser("replay", help="make a batch that was set aside pending again")
    replaying.add_argument("source", help="for example dummyjson.products")
    replaying.add_argument("batch_id")
    pruning = commands.add_parser("prune", help="remove old landed batches that the ledger holds")
    pruning.add_argument("--days", type=float, required=True, help="keep what was extracted within so many days")
    pruning.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    maintaining = commands.add_parser("maintain", help="DuckLake only: merge small files, expire old snapshots")
    maintaining.add_argument("--days", type=float, default=7.0, help="keep the snapshots of so many days")
    arguments = parser.parse_args(argv)
    settings = Settings()
    try:
        if arguments.command == "quarantine":
            return quarantine(settings)
        if arguments.command == "replay":
            return replay(settings, arguments.source, arguments.batch_id)
        if arguments.command == "maintain":
            return maintain(settings, arguments.days)
        return prune(settings, arguments.days, arguments.dry_run)
    except (ValueError, ConnectionError, ledger.WarehouseBusy, landing.LandingError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
