"""`python -m stack doctor`: what is right and what is wrong, line by line, and how to mend it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stack.doctor import data, server, work
from stack.doctor.findings import Finding, secrets_of, without_secrets
from stack.doctor.patient import Patient


@dataclass(frozen=True)
class Check:
    """One thing to look at, and what has to be right before one can."""

    name: str
    look: Callable[[Patient], Iterator[Finding]]
    needs: tuple[str, ...] = ()


ASKING = ("configuration", "API", "auth")
CHECKS = (
    Check("configuration", server.configuration),
    Check("processes", work.processes),
    Check("API", server.reachable, ("configuration",)),
    Check("other APIs", server.others_reachable, ("configuration", "API")),
    Check("auth", server.auth, ("configuration", "API")),
    Check("version", server.version, ASKING),
    Check("clock", server.clock, ASKING),
    Check("settings", server.settings, ASKING),
    Check("one stack", server.told_the_same),
    Check("databases", data.databases, ("configuration",)),
    Check("services", server.services, (*ASKING, "databases")),
    Check("work pool", work.work_pool, ASKING),
    Check("work queues", work.work_queues, (*ASKING, "work pool")),
    Check("turns", work.turns, ("configuration", "databases")),
    Check("workers", work.workers, (*ASKING, "work pool")),
    Check("heartbeats", work.heartbeats),
    Check("runs", work.runs, ASKING),
    Check("poll interval", work.poll),
    Check("engine", work.engine, (*ASKING, "work pool")),
    Check("deployments", work.deployments, ASKING),
    Check("automations", work.automations, ASKING),
    Check("landing", data.landing, ("configuration",)),
    Check("lake data", data.lake_data, ("configuration",)),
    Check("warehouse", data.warehouse, ("configuration", "lake data")),
    Check("ledger", data.in_step, ("configuration", "landing", "warehouse")),
)


def examine(patient: Patient) -> list[Finding]:
    """Everything there is to say. Looks only, but for a probe in the landing, and raises nothing."""
    findings: list[Finding] = []
    wrong: set[str] = set()
    for check in CHECKS:
        missing = [name for name in check.needs if name in wrong]
        if missing:
            said = [Finding(check.name, "skipped", f"cannot be looked at while {missing[0]} is wrong")]
        else:
            said = look(check, patient)
        if any(finding.level in ("wrong", "skipped") for finding in said):
            wrong.add(check.name)
        findings += said
    secrets = secrets_of([os.environ, patient.server_told, *patient.told.values()])
    return [without_secrets(finding, secrets) for finding in findings]


def look(check: Check, patient: Patient) -> list[Finding]:
    """What a check says; what it could not see is a finding, too."""
    said: list[Finding] = []
    try:
        said.extend(check.look(patient))
    except Exception as error:  # Whatever is so wrong that nobody thought of it is still one line.
        first_line = str(error).strip().partition("\n")[0]
        said.append(Finding(check.name, "wrong", f"could not be looked at: {type(error).__name__}: {first_line}"))
    return said
