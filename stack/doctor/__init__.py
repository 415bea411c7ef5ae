"""`baton doctor`: the health check. Each check yields findings, and each finding says how to fix what it found."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stack.doctor import data, failures, server, work
from stack.doctor.findings import Finding, secrets_of, without_secrets
from stack.doctor.target import Target


@dataclass(frozen=True)
class Check:
    """One check, and the checks that must pass before it makes sense."""

    name: str
    look: Callable[[Target], Iterator[Finding]]
    needs: tuple[str, ...] = ()


CLIENT = ("configuration", "API", "auth")
CHECKS = (
    Check("configuration", server.configuration),
    Check("processes", work.processes),
    Check("API", server.reachable, ("configuration",)),
    Check("other APIs", server.others_reachable, ("configuration", "API")),
    Check("auth", server.auth, ("configuration", "API")),
    Check("version", server.version, CLIENT),
    Check("clock", server.clock, CLIENT),
    Check("settings", server.settings, CLIENT),
    Check("one stack", server.same_environment),
    Check("databases", data.databases, ("configuration",)),
    Check("server limits", server.limits, CLIENT),
    Check("services", server.services, (*CLIENT, "databases")),
    Check("work pool", work.work_pool, CLIENT),
    Check("work queues", work.work_queues, (*CLIENT, "work pool")),
    Check("source locks", work.source_locks, ("configuration", "databases")),
    Check("workers", work.workers, (*CLIENT, "work pool")),
    Check("heartbeats", work.heartbeats),
    Check("runs", work.runs, CLIENT),
    Check("poll interval", work.poll),
    Check("engine", work.engine, (*CLIENT, "work pool")),
    Check("deployments", work.deployments, CLIENT),
    Check("automations", work.automations, CLIENT),
    Check("sources", work.sources, ("configuration",)),
    Check("landing", data.landing, ("configuration",)),
    Check("lake data", data.lake_data, ("configuration",)),
    Check("warehouse", data.warehouse, ("configuration", "lake data")),
    Check("ledger", data.in_step, ("configuration", "landing", "warehouse")),
    Check("failures", failures.failures, (*CLIENT, "lake data")),
)


def examine(target: Target) -> list[Finding]:
    """The findings of every check. Raises nothing, and writes nothing but a probe file that it removes."""
    findings: list[Finding] = []
    failed: set[str] = set()
    for check in CHECKS:
        missing = [name for name in check.needs if name in failed]
        if missing:
            new = [Finding(check.name, "skipped", f"not checked, because {missing[0]} has an error")]
        else:
            new = run_check(check, target)
        if any(finding.level in ("error", "skipped") for finding in new):
            failed.add(check.name)
        findings += new
    secrets = secrets_of([os.environ, target.server_environment, *target.environments.values()])
    return [without_secrets(finding, secrets) for finding in findings]


def run_check(check: Check, target: Target) -> list[Finding]:
    """The findings of one check; an exception becomes one, too."""
    findings: list[Finding] = []
    try:
        findings.extend(check.look(target))
    except Exception as error:  # A check that breaks must not hide the others.
        first_line = str(error).strip().partition("\n")[0]
        findings.append(Finding(check.name, "error", f"the check failed: {type(error).__name__}: {first_line}"))
    return findings
