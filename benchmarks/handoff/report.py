"""The results as text, as tables for README.md and as a picture. What stands there is always what was measured."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import increments
from benchmarks.extract import medians
from benchmarks.handoff.summary import CRON_SECONDS, STAGES, Chaining, chainings, targets

FOLDER = Path(__file__).resolve().parent.parent
RESULTS = FOLDER / "results"
PARTS = ("handoffs", "burst", "extract", "increments", "runs")
MARKED = re.compile(r"(<!-- results -->\n).*(<!-- /results -->)", re.S)
COLOURS = ("#b8c4d6", "#7d93b5", "#44618f", "#e0953c")
LEGEND = ("event → run created", "→ taken by a worker", "→ first line", "→ dbt done, queryable")

Json = dict[str, Any]


def about() -> dict[str, Any]:
    """When, on what machine and with which versions something is measured."""
    versions = {name: importlib.metadata.version(name) for name in ("prefect", "prefect-dbt", "dbt-core", "duckdb")}
    for name in ("airflow", "dagster"):
        pins = (FOLDER / f"{name}.txt").read_text().splitlines()
        versions |= dict(pin.split("==") for pin in pins if pin.split("==")[0] in ("apache-airflow", "dagster"))
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": versions,
    }


def commit() -> str:
    """That of the code as it is, with a plus sign if something in it has changed since."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True).stdout.strip()


def load() -> dict[str, Json]:
    """The parts that have been measured."""
    files = {part: RESULTS / f"{part}.json" for part in PARTS}
    return {part: json.loads(file.read_text()) for part, file in files.items() if file.exists()}


def write(results: dict[str, Json]) -> None:
    """The marked part of README.md, and the picture beside it."""
    readme = FOLDER / "README.md"
    readme.write_text(MARKED.sub(lambda found: found[1] + markdown(results) + found[2], readme.read_text()))
    if "handoffs" in results:
        (RESULTS / "handoffs.svg").write_text(picture(list(chainings(results["handoffs"]).values())))


def text(results: dict[str, Json]) -> str:
    """The targets, aligned for a terminal."""
    rows = [("figure", "target", "measured", "holds"), *(target.cells() for target in targets(results))]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in ([*zip(row, widths, strict=True)] for row in rows)
    )


def markdown(results: dict[str, Json]) -> str:
    """Every table, the parts that were not measured left out."""
    if not results:
        return "No whole run has been made of the code as it is, so there are no figures here yet.\n"
    parts = [table(("figure", "target", "measured", "holds"), [target.cells() for target in targets(results)])]
    if "handoffs" in results:
        parts += handoff_tables(results["handoffs"])
    if "burst" in results:
        parts.append(burst_text(results["burst"]))
    if "extract" in results:
        parts.append(extract_table(results["extract"]))
    if "increments" in results:
        parts.append(increments_table(results["increments"]))
    if "runs" in results:
        rows = [(f"{engine}", f"{number:.0f}") for engine, number in results["runs"]["a_minute"].items()]
        parts.append("### Flow runs a minute\n\n" + table(("engine", "extracts of 194 products a minute"), rows))
    return "\n".join(parts)


def handoff_tables(handoffs: Json) -> list[str]:
    """Latencies with CPU, then what each system costs when it has nothing to do."""
    found = chainings(handoffs)
    rows = [
        (
            chaining.variant,
            str(chaining.number),
            f"{chaining.first_line:.2f}",
            f"{chaining.first_line_p95:.2f}",
            f"{chaining.queryable:.2f}",
            f"{chaining.queryable_p95:.2f}",
            f"{chaining.cpu:.2f}",
        )
        for chaining in found.values()
    ]
    if build := min((c.stages[-1] for c in found.values()), default=None):
        cron = ("cron pair, 5 minutes apart (arithmetic)", "", f"{CRON_SECONDS:.0f}", "", f"{CRON_SECONDS + build:.0f}")
        rows.append((*cron, "", ""))
    header = ("hand-off", "n", "first line s", "p95", "queryable s", "p95", "CPU s")
    costs = [
        (name, f"{100 * idle['cores']:.1f} %", f"{memory['at_rest_mb']:.0f}", f"{memory['peak_mb']:.0f}")
        for name, idle in handoffs["idle"].items()
        if (memory := handoffs["memory"].get(name))
    ]
    machine = handoffs["machine"]
    commits = sorted({f"`{row['commit']}`" for row in handoffs["handoffs"] if "commit" in row})
    return [
        "### Hand-offs\n\nMedians and 95th percentiles, from the event; "
        f"{machine['processors']} cores, Python {machine['python']}, {handoffs['at']}; dbt nodes: "
        f"`dbt {' '.join(handoffs['dbt'])}`; commit {' and '.join(commits)}.\n\n" + table(header, rows),
        "![the stages of each hand-off](results/handoffs.svg)\n",
        "### At rest\n\nCPU of all processes of a system with nothing to do, and their memory (PSS) at rest and the "
        "most during a hand-off.\n\n" + table(("system", "one core", "MB at rest", "MB peak"), costs),
    ]


def burst_text(burst: Json) -> str:
    """Two sentences with the numbers."""
    ours, naive = burst["ours"], burst["naive"]
    return (
        f"### A burst of {ours['size']}\n\n{ours['size']} batches landed, and their events sent in one request. Ours: "
        f"all {ours['processed']} queryable after {ours['queryable_seconds']:.1f} s with {ours['dbt_builds']} dbt "
        f"builds; the last of the runs that found nothing to do ended after {ours['last_run_ended_seconds']:.1f} s.\n"
        f"One build an event, one after the other (stock Prefect tuned, {naive['measured_builds']} measured at "
        f"{naive['seconds_a_build']:.1f} s each, the rest by arithmetic): {naive['arithmetic_seconds']:.0f} s with "
        f"{ours['size']} builds.\n"
    )


def extract_table(extract: Json) -> str:
    """Ours beside the bare loop and dlt."""
    found = medians(extract["rows"])
    rows = []
    for records in sorted({records for records, _ in found}):
        ours, bare, dlt = (found[records, arm] for arm in ("ours", "bare", "dlt"))
        rows.append(
            (
                f"{records:,}",
                *(f"{one['seconds']:.2f}" for one in (bare, dlt, ours)),
                *(f"{one['cpu']:.2f}" for one in (bare, dlt, ours)),
                f"{ours['peak_mb']:.0f}",
            )
        )
    times = [f"{arm} {unit}" for unit in ("s", "CPU s") for arm in ("bare loop", "dlt", "extract flow")]
    return "### Extract\n\n" + table(("records", *times, "flow's peak MB"), rows)


def increments_table(measured: Json) -> str:
    """The transform of one more increment, by the number of batches held."""
    found = increments.medians(measured["rows"])
    rows = [(f"{held:,}", f"{row['seconds']:.2f}", f"{row['cpu']:.2f}") for held, row in found.items()]
    return "### One more increment of 100 rows\n\n" + table(("batches held", "transform s", "CPU s"), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def picture(found: Sequence[Chaining]) -> str:
    """One bar a hand-off, its stages stacked, in seconds."""
    longest = max(sum(chaining.stages) for chaining in found)
    left, width, height = 170, 560, 26
    scale = width / longest
    parts = []
    for position, chaining in enumerate(found):
        y, x = 40 + position * (height + 10), float(left)
        parts.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{chaining.variant}</text>')
        for seconds, colour, stage in zip(chaining.stages, COLOURS, STAGES[1:], strict=True):
            size = max(seconds, 0) * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" height="{height}" fill="{colour}">'
                f"<title>{chaining.variant}: {stage} {seconds:.2f} s</title></rect>"
            )
            x += size
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 17}">{sum(chaining.stages):.1f} s</text>')
    x = left
    for colour, name in zip(COLOURS, LEGEND, strict=True):
        parts.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="22">{name}</text>')
        x += 40 + 6 * len(name)
    total = 50 + len(found) * (height + 10)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 {total}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="820" height="{total}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
