"""The tool's folder is complete: it installs, runs and is tested by itself, and knows what Prefect sends."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import prefect
import pytest
import yaml

from automations.prefect_automations import __version__
from automations.prefect_automations.cli import app, main
from automations.prefect_automations.editor_schema import editor_schema
from automations.prefect_automations.known_events import OTHERS, is_listed, kinds_of
from flows.settings import PROJECT
from tests.unit.automations.support import Small, automation, run_deployment

TOOL = PROJECT / "automations" / "prefect_automations"
MODULES = sorted(TOOL.glob("*.py"))


def copied(folder: Path) -> Path:
    """The folder as another project would have it."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    return Path(shutil.copytree(TOOL, folder / "prefect_automations", ignore=ignored))


def test_it_imports_nothing_of_the_others_and_the_server_in_one_module() -> None:
    assert MODULES
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                assert name.split(".")[0] not in ("automations", "flows", "stack", "tests"), module
                assert not name.startswith("prefect.server") or module.name == "prefect_server.py", module


def test_each_import_of_the_server_says_what_to_do_when_it_goes() -> None:
    lines = (TOOL / "prefect_server.py").read_text().splitlines()
    imports = [number for number, line in enumerate(lines) if line.startswith("from prefect.")]
    assert imports
    for number in imports:
        above = next(line for line in reversed(lines[:number]) if not line.startswith("from prefect."))
        assert above.startswith("#"), lines[number]
    comments = " ".join(line.lstrip("# ") for line in lines if line.startswith("# "))
    assert comments.count("Without") >= 6


def test_a_copy_passes_its_own_tests(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    environment = {"PATH": os.environ["PATH"], "PREFECT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def test_a_copy_in_another_project_reads_that_project(small: Small, tmp_path: Path) -> None:
    other = tmp_path / "tools"
    other.mkdir()
    copied(other)
    small.write("one", automation(trigger__expect=["prefect.work-pool.ready"], actions=run_deployment(table="x")))
    command = [sys.executable, "-m", "prefect_automations", "validate"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(other)}
    done = subprocess.run(command, cwd=small.folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1 automation, 0 errors, 0 warnings\n"), done.stderr


def test_the_version_of_the_folder_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_every_event_that_prefect_sends_is_known() -> None:
    """Every text in Prefect's own sources that is the name of an event; a name that is built there is not seen."""
    package = Path(prefect.__file__).parent
    sources = [package / "flow_engine.py", package / "flow_runs.py", package / "concurrency"]
    sources += [package / "workers", package / "runner", package / "server" / "models", package / "deployments"]
    files = [file for source in sources for file in (source.rglob("*.py") if source.is_dir() else [source])]
    text = "\n".join(file.read_text() for file in files)
    found = set(re.findall(r"event=f?\"(prefect\.[a-z-]+\.[A-Za-z.-]+)\"", text))
    assert len(found) > 10
    unknown = {name for name in found if is_listed(name) and not kinds_of(name)}
    assert unknown == set()
    assert not any(name.startswith(OTHERS) and kinds_of(name) for name in found)


def test_the_schema_for_editors_has_prefects_keys_and_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(editor_schema()))
    run = printed["$defs"]["RunDeployment"]
    assert {"deployment", "deployment_id", "parameters", "source"} <= run["properties"].keys()
    assert run["additionalProperties"] is False
    assert {"former_names", "adopts", "name", "trigger"} <= printed["properties"].keys()


def test_the_schema_for_editors_takes_what_validate_takes_and_refuses_a_misspelt_key(small: Small) -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(editor_schema())
    shipped = sorted((PROJECT / "automations").glob("*.yaml"))
    for file in [*shipped, *(TOOL / "examples" / "automations").glob("*.yaml"), *(TOOL / "patterns").glob("*.yaml")]:
        text = file.read_text().replace("DEPLOYMENT", "load/nightly")
        errors = [error.message for error in validator.iter_errors(yaml.safe_load(text))]
        assert errors == [], file
    assert list(validator.iter_errors(automation(trigger__withn=5)))
    assert list(validator.iter_errors(automation(nam="x")))


def test_the_workflow_calls_commands_that_exist() -> None:
    text = (TOOL / "examples" / "github_workflow.yaml").read_text()
    steps = yaml.safe_load(text)["jobs"]["automations"]["steps"]
    called = re.findall(r"prefect-automations (\w+)((?: --[\w-]+)*)", "\n".join(step.get("run", "") for step in steps))
    assert {command for command, _ in called} == {"validate", "test", "plan", "apply"}
    for command, options in called:
        known = {name for argument in app[command].assemble_argument_collection() for name in argument.names}
        assert set(options.split()) <= known


def test_without_a_pattern_init_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    printed = capsys.readouterr().out
    for file in (TOOL / "patterns").glob("*.yaml"):
        assert re.search(rf"^{file.stem} +\w", printed, re.MULTILINE)


def test_init_takes_the_first_deployment_and_overwrites_nothing(small: Small) -> None:
    before = (small.folder / "prefect.yaml").read_text()
    assert small.run("init", "run_after_event")[0] == 0
    assert "deployment: load/nightly" in (small.automations / "run_after_event.yaml").read_text()
    assert (small.folder / "prefect.yaml").read_text() == before
    code, printed = small.run("init", "run_after_event")
    assert (code, "already there; nothing was written" in printed) == (1, True)
    assert small.run("init", "no_such_pattern")[0] == 1
