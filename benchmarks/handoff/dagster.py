"""Dagster 1.13: an asset, an asset sensor with a minimum interval of 1 s, DefaultRunCoordinator, in-process executor.

The sensor daemon itself goes round every 5 s, which is a constant in its source and no setting. The code server is
a process of its own without a heartbeat, so that it is there whenever a run or a sensor wants it.
"""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.handoff import environments, venvs
from flows.settings import PROJECT
from stack.local.processes import answers, free_port, wait_until
from stack.local.processes import start as start_process

LOCATION = "chain"
INSTANCE = """
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
run_monitoring:
  enabled: false
telemetry:
  enabled: false
"""
LAUNCH = """mutation($job: String!) { launchRun(executionParams: {
    selector: {repositoryLocationName: "chain", repositoryName: "__repository__", jobName: $job}, runConfigData: {}
}) { __typename ... on PythonError { message } } }"""
NEWEST = """query { runsOrError(filter: {pipelineName: "transform"}, limit: 1) { ... on Runs {
    results { runId status creationTime } } } }"""
EVENTS = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    __typename ... on MessageEvent { timestamp } } } } }"""
MATERIALISED = """query { assetOrError(assetKey: {path: ["dummyjson", "products"]}) { ... on Asset {
    assetMaterializations(limit: 1) { timestamp } } } }"""


def start(folder: Path) -> dict[str, Any]:
    """Code server, daemon and webserver."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(INSTANCE)
    code, web = free_port(), free_port()
    workspace = folder / "workspace.yaml"
    workspace.write_text(f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {code}, location_name: {LOCATION}}}\n")
    environment = environments.of(folder) | {"DAGSTER_HOME": str(home)}
    environments.build_whole_project(environment)
    programs = venvs.folder("dagster") / "bin"
    environment["PATH"] = f"{programs}:{environment['PATH']}"

    def run(module: str, *arguments: str) -> list[str]:
        return [str(programs / "python"), "-m", module, *arguments]

    chain = str(PROJECT / "benchmarks" / "handoff" / "dagster_chain.py")
    serve = run("dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(code), "-f", chain, "-d", str(PROJECT))
    serve += ["--use-python-environment-entry-point"]
    start_process("code-server", serve, folder, environment)
    base = f"http://127.0.0.1:{web}"
    webserver = run("dagster_webserver", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(web))
    ready = {"base": base}
    start_process(
        "webserver", webserver, folder, environment, ready=lambda: answers(f"{base}/server_info"), seconds=180
    )
    start_process("daemon", [str(programs / "dagster-daemon"), "run", "-w", str(workspace)], folder, environment)
    wait_until(lambda: daemon_runs(ready), "Dagster's daemon", 180, every=1)
    return ready


def ask(ready: dict[str, Any], query: str, **variables: str) -> Any:
    """One GraphQL request."""
    request = urllib.request.Request(
        f"{ready['base']}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    if "errors" in answer:
        raise RuntimeError(answer["errors"])
    return answer["data"]


def daemon_runs(ready: dict[str, Any]) -> bool:
    """Whether the sensor daemon has been heard from, and the code is loaded."""
    answer = ask(
        ready,
        'query { instance { daemonHealth { sensors: daemonStatus(daemonType: "SENSOR") { healthy } } }'
        " repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }",
    )
    return bool(answer["instance"]["daemonHealth"]["sensors"]["healthy"] and answer["repositoriesOrError"]["nodes"])


def hand_off(ready: dict[str, Any], folder: Path, variant: str, seconds: float) -> dict[str, float]:
    """One run of the job extract, one of transform."""
    stamps = environments.Stamps(folder)
    asked = time.time()
    launched = ask(ready, LAUNCH, job="extract")["launchRun"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(launched)
    moments = stamps.until("queryable", variant, seconds)

    def run() -> dict[str, Any]:
        runs = ask(ready, NEWEST)["runsOrError"]["results"]
        return runs[0] if runs and runs[0]["creationTime"] >= asked else {}

    wait_until(lambda: run().get("status") == "SUCCESS", f"{variant}: a transform", seconds, every=1)
    found = run()
    (asset,) = ask(ready, MATERIALISED)["assetOrError"]["assetMaterializations"]
    events = ask(ready, EVENTS, run=found["runId"])["logsForRun"]["events"]
    taken = [float(event["timestamp"]) for event in events if event["__typename"] == "RunStartingEvent"]
    return moments | {
        "event": float(asset["timestamp"]) / 1000,
        "created": found["creationTime"],
        "taken": min(taken) / 1000,
    }
