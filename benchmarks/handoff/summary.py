"""Medians, p95 and the targets, from raw rows. Pure functions: the same results always give the same tables."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks import extract, increments

Json = dict[str, Any]

PRELOADED = "Airflow, dbt preloaded"
VARIANTS = (
    "ours triggered",
    "ours imperative",
    "ours launch-and-leave",
    "stock Prefect",
    "stock Prefect tuned",
    "Airflow tuned",
    PRELOADED,
    "Dagster tuned",
)
STAGES = ("event", "created", "taken", "first_line", "queryable")
CRON_SECONDS = 300.0
"""Between the two schedules of a pair, as in the post that this replaces."""


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between the two nearest values, as numpy and DuckDB's quantile_cont have it."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True)
class Chaining:
    """One variant: seconds from the event, CPU seconds a hand-off without the idle rate, and medians of each stage."""

    variant: str
    number: int
    first_line: float
    first_line_p95: float
    queryable: float
    queryable_p95: float
    cpu: float
    stages: tuple[float, ...]
    """Median seconds of each stage, STAGES[1:]."""


def chainings(handoffs: Json) -> dict[str, Chaining]:
    """By variant, in the order of VARIANTS; only those that were measured."""
    found = {}
    for variant in VARIANTS:
        rows = [row for row in handoffs["handoffs"] if row["variant"] == variant]
        if not rows:
            continue
        idle = handoffs["idle"].get(rows[0]["system"], {}).get("cores", 0.0)
        first = [row["first_line"] - row["event"] for row in rows]
        queryable = [row["queryable"] - row["event"] for row in rows]
        found[variant] = Chaining(
            variant=variant,
            number=len(rows),
            first_line=statistics.median(first),
            first_line_p95=percentile(first, 0.95),
            queryable=statistics.median(queryable),
            queryable_p95=percentile(queryable, 0.95),
            cpu=statistics.median(row["cpu"] - idle * row["seconds"] for row in rows),
            stages=tuple(statistics.median(row[end] - row[begin] for row in rows) for begin, end in pairwise(STAGES)),
        )
    return found


def together(earlier: Json, measured: Json, add: bool) -> Json:
    """What was measured, with the hand-offs of systems that were not measured this time; with all earlier ones if
    they are added to."""
    systems = {row["system"] for row in measured["handoffs"]}
    kept = [row for row in earlier.get("handoffs", []) if add or row["system"] not in systems]
    return {
        "handoffs": [*kept, *measured["handoffs"]],
        "idle": earlier.get("idle", {}) | measured["idle"],
        "memory": earlier.get("memory", {}) | measured["memory"],
    }


@dataclass(frozen=True)
class Target:
    """A figure, the most that it may be, and what was measured; None where it was not."""

    figure: str
    most: float
    measured: float | None
    shown_as: str = "{:.2f}"

    @property
    def holds(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.most

    def cells(self) -> tuple[str, str, str, str]:
        """For a table: figure, target, measured, whether it holds."""
        if self.measured is None:
            return self.figure, "≤ " + self.shown_as.format(self.most), "not measured", ""
        answer = "yes" if self.holds else "no"
        return self.figure, "≤ " + self.shown_as.format(self.most), self.shown_as.format(self.measured), answer


def targets(results: dict[str, Json]) -> list[Target]:
    """Every target beside what was measured, from whatever parts of the benchmark there are."""
    found = chainings(results["handoffs"]) if "handoffs" in results else {}
    idle = results.get("handoffs", {}).get("idle", {})
    burst = results.get("burst", {}).get("ours")
    read = extract.medians(results["extract"]["rows"]) if "extract" in results else {}
    held = increments.medians(results["increments"]["rows"]) if "increments" in results else {}

    def ratio(field: str, other: str) -> float | None:
        if "ours triggered" not in found or other not in found:
            return None
        return float(getattr(found["ours triggered"], field) / getattr(found[other], field))

    def read_ratio(name: str, above: tuple[int, str], below: tuple[int, str]) -> float | None:
        return read[above][name] / read[below][name] if above in read and below in read else None

    # Against the cheaper of the two stock Prefects.
    cpu = [value for other in ("stock Prefect", "stock Prefect tuned") if (value := ratio("cpu", other)) is not None]
    million, ten_thousand = 1_000_000, 10_000
    return [
        Target("first line: ours triggered / stock Prefect tuned", 0.12, ratio("first_line", "stock Prefect tuned")),
        Target("first line: ours triggered / Airflow tuned", 1.8, ratio("first_line", "Airflow tuned")),
        Target("first line: ours triggered / Dagster tuned", 0.4, ratio("first_line", "Dagster tuned")),
        Target("data queryable: ours triggered / Airflow tuned", 0.5, ratio("queryable", "Airflow tuned")),
        Target("data queryable: ours triggered / Airflow, dbt preloaded", 0.75, ratio("queryable", PRELOADED)),
        Target("data queryable: ours triggered / stock Prefect", 0.25, ratio("queryable", "stock Prefect")),
        Target("CPU seconds a hand-off: ours triggered / Airflow tuned", 0.65, ratio("cpu", "Airflow tuned")),
        Target("CPU seconds a hand-off: ours triggered / stock Prefect", 0.35, max(cpu, default=None)),
        Target("burst of 50, all of them processed: dbt builds", 5, builds(burst), "{:.0f}"),
        Target(
            "extract of 1,000,000 records: ours / bare loop, CPU",
            0.45,
            read_ratio("cpu", (million, "ours"), (million, "bare")),
        ),
        Target(
            "extract of 1,000,000 records: ours / dlt's REST client, CPU",
            0.35,
            read_ratio("cpu", (million, "ours"), (million, "dlt")),
        ),
        Target(
            "extract: peak memory at 1,000,000 / at 10,000 records",
            1.2,
            read_ratio("peak_mb", (million, "ours"), (ten_thousand, "ours")),
        ),
        Target(
            "transform of an increment of 100 rows: 1,000 / 10 batches held",
            1.3,
            held[1000]["seconds"] / held[10]["seconds"] if {10, 1000} <= held.keys() else None,
        ),
        Target("idle CPU of the whole stack, share of a core", 0.08, idle.get("ours", {}).get("cores")),
    ]


def builds(burst: Json | None) -> float | None:
    """dbt builds of a burst; infinite if one of its batches was not processed."""
    if burst is None:
        return None
    return float(burst["dbt_builds"]) if burst["processed"] == burst["size"] else float("inf")
