"""What the examples' automations start."""

from prefect import flow


@flow
def load(table: str, rows: int = 0) -> None:
    """Loads one table."""
    print(f"{table}: {rows} rows")


@flow
def report(day: str = "yesterday") -> None:
    """Reports on a day."""
    print(f"report of {day}")
