"""Checks of what has failed: runs since the last success, builds, marts that could not be published, late sources."""

from collections.abc import Iterator
from datetime import UTC, datetime

from flows.errors import counted
from flows.server.project_facts import read_facts
from flows.status.collect import collect
from flows.status.words import as_time
from stack.doctor.findings import Finding, Level
from stack.doctor.target import Target

LEVELS: dict[str, Level] = {"run": "error", "build": "error", "marts": "warning", "late": "warning"}
"""Of the problems that the status knows; other checks say more of the others."""


def failures(target: Target) -> Iterator[Finding]:
    """No run has failed since the last success of its source or flow, no build either, and no source is late."""
    now = datetime.now(UTC)
    with target.client() as client:
        status = collect(target.baton, read_facts(client, now), now)
    found = [problem for problem in status.problems if problem.kind in LEVELS]
    for problem in found:
        since = f", since {as_time(problem.since)}" if problem.since else ""
        yield Finding("failures", LEVELS[problem.kind], f"{problem.subject}: {problem.what}{since}", problem.next_step)
    if status.warehouse_problem:
        yield Finding("failures", "skipped", "builds, marts and ages were not checked: the warehouse cannot be read")
    elif not found:
        number = counted(len(status.sources), "source", "sources")
        yield Finding("failures", "ok", f"{number}, none late; no run failed since the last success")
