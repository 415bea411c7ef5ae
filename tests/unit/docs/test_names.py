"""What the pages tell a reader to type, set, open or look for exists; and what exists is on a page."""

import importlib
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from automations.prefect_automations.cli import app as automations_app
from flows.orchestrate import extract_deployment
from flows.settings import PROJECT, Settings
from stack.doctor import CHECKS
from tests.support.pages import code_blocks, headings, links, pages, without_blocks

README = PROJECT / "README.md"
CONFIGURATION = (PROJECT / "docs" / "configuration.md").read_text()
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()
PROSE_PAGES = [page for page in pages() if page.name != "CHANGELOG.md"]
"""The changelog names what is no more."""
ALL = "\n".join(page.read_text() for page in PROSE_PAGES)
MAKEFILE = (PROJECT / "Makefile").read_text()
PREFECT_YAML = yaml.safe_load((PROJECT / "prefect.yaml").read_text())


def typed(text: str) -> Iterator[str]:
    """Every command line of a page: in inline code, and after `$` in a block."""
    for line in re.findall(r"`([^`\n]+)`", without_blocks(text)):
        yield line
    for _, block in code_blocks(text):
        for line in re.findall(r"^ *\$ (.*)$", block, re.M):
            yield from re.split(r" && |; ", re.sub(r"\s+#.*", "", line))


COMMANDS = sorted({re.sub(r"^\.venv/bin/", "", line) for page in PROSE_PAGES for line in typed(page.read_text())})


def snippet(page: Path, containing: str) -> str:
    """The one code block of a page with this text in it."""
    (found,) = [text for _, text in code_blocks(page.read_text()) if containing in text]
    return textwrap.dedent(found)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_to_a_file_and_its_heading(page: Path) -> None:
    for link in links(page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target.read_text()), link


def test_every_page_is_linked_to_from_another() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in pages() for link in links(page.read_text())}
    assert set(pages()) - linked - {README} == set()


def test_every_make_target_is_on_a_page_and_every_target_there_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M))
    named = {line.split()[1] for line in COMMANDS if re.match(r"make [a-z]", line)}
    assert named == targets - {"help"}


def test_every_variable_that_is_given_to_make_is_one() -> None:
    given = {name for line in COMMANDS if line.startswith("make ") for name in re.findall(r"\b([A-Z]+)=", line)}
    assert given
    assert {name for name in given if f"$({name})" not in MAKEFILE and f"$(or $({name})" not in MAKEFILE} == set()


def command_line() -> Any:
    """The application behind the console script `baton`."""
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    return importlib.import_module(scripts["baton"].partition(":")[0]).app


def commands_of(app: Any) -> set[str]:
    return {name for name in app if not name.startswith("-")}


def command(app: Any, name: str) -> Any:
    """The command of that name; of `baton automations` the program behind it, to which it passes its arguments on."""
    return automations_app if name == "automations" else app[name]


def leaves(app: Any, name: str = "") -> Iterator[str]:
    """Every command that does something, with the names that lead to it."""
    for below in sorted(commands_of(app)):
        yield from leaves(command(app, below), f"{name} {below}".strip())
    if not commands_of(app):
        yield name


def fault(app: Any, words: list[str]) -> str:
    """What is not right about a command line; empty if nothing is."""
    while words and words[0] != "COMMAND" and (below := commands_of(app)):
        if words[0] not in below:
            return f"no such command: {words[0]}"
        app, words = command(app, words[0]), words[1:]
    if commands_of(app):
        return ""
    options = {name for argument in app.assemble_argument_collection() for name in argument.names}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    return f"no such option: {sorted(given - options)}" if given - options else ""


def test_every_baton_command_on_a_page_exists_with_its_options() -> None:
    named = [shlex.split(line)[1:] for line in COMMANDS if line.startswith("baton ")]
    assert named
    assert {" ".join(words): said for words in named if (said := fault(command_line(), words))} == {}


def test_every_baton_command_is_on_a_page() -> None:
    assert [name for name in leaves(command_line()) if f"baton {name}" not in ALL] == []


def test_every_script_and_module_that_is_run_on_a_page_exists() -> None:
    run = re.findall(r"python (-m )?([\w./]+)", " ; ".join(COMMANDS))
    for module, name in run:
        if name in {"server.py"}:  # The engine's own page, from its folder.
            continue
        path = PROJECT / name if not module else PROJECT / name.replace(".", "/")
        assert path.exists() or path.with_suffix(".py").exists(), name


def test_every_deployment_on_a_page_is_in_prefect_yaml_and_can_be_run() -> None:
    deployed = {f"{flow_name(one)}/{one['name']}" for one in map(with_entrypoint, PREFECT_YAML["deployments"])}
    named = {words.split()[0] for words in re.findall(r"prefect deployment run ([^\n`]+)", ALL)}
    elsewhere = {"extract/helpdesk-tickets", "extract/one-file"}  # The reader's own, and the one file's.
    assert named - elsewhere - deployed == set()
    assert {name for name in deployed if name not in ALL} == set()


def with_entrypoint(deployment: dict[str, Any]) -> dict[str, Any]:
    return {"entrypoint": PREFECT_YAML["definitions"]["extract"]["entrypoint"]} | deployment


def flow_name(deployment: dict[str, Any]) -> str:
    """Prefect's name of a flow: its function's, with dashes."""
    return str(deployment["entrypoint"]).rpartition(":")[2].replace("_", "-")


def test_every_automation_on_a_page_exists() -> None:
    shipped = {path.stem for path in (PROJECT / "automations").glob("*.yaml")}
    named = set(re.findall(r"\b((?:transform|orchestrate|crash|notify)_(?:when|runs)_\w+)\b", ALL))
    assert named == shipped


def test_every_file_that_a_page_names_in_code_exists() -> None:
    rooms = "flows|automations|dbt|stack|tests|benchmarks|docs"
    made_by_a_run = re.compile(r"^dbt/(target|logs)")
    readers_own = {"flows/sources/helpdesk.yaml"}
    for page in PROSE_PAGES:
        for name in re.findall(rf"`((?:{rooms})/[\w./-]*)`", without_blocks(page.read_text())):
            if not made_by_a_run.match(name) and name not in readers_own:
                assert (PROJECT / name).exists() or (page.parent / name).exists(), f"{page.name}: {name}"


def test_every_setting_is_on_the_page_about_configuration_and_every_setting_on_a_page_exists() -> None:
    known = {f"BATON_{name.upper()}" for name in Settings.model_fields} | read_elsewhere()
    assert known - variables("BATON", CONFIGURATION) == set()
    assert variables("BATON", ALL) - known == set()


def read_elsewhere() -> set[str]:
    """Our variables that dbt and the stack read by name."""
    found = set()
    for folder, ending in (("dbt", "*.sql"), ("dbt", "*.yml"), ("stack", "*.py"), ("flows", "*.py")):
        for path in (PROJECT / folder).rglob(ending):
            if "target" not in path.parts:
                found |= set(re.findall(r"[\"'](BATON_[A-Z]+(?:_[A-Z]+)*)[\"']", path.read_text()))
    return found


def variables(prefix: str, text: str) -> set[str]:
    return set(re.findall(rf"\b{prefix}(?:_[A-Z]+)+\b", text))


def test_every_prefect_setting_on_a_page_is_one() -> None:
    redis = {name for name in variables("PREFECT", ALL) if name.startswith("PREFECT_REDIS_MESSAGING_")}
    assert variables("PREFECT", ALL) - redis - _get_valid_setting_names(PrefectSettings) == set()


def test_every_check_of_the_doctor_is_on_the_page_about_operations() -> None:
    section = OPERATIONS.partition("## Health check")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in row.split("`")[1::2]} == {check.name for check in CHECKS}


def test_every_state_of_ours_is_in_the_glossary() -> None:
    flows = "\n".join(path.read_text() for path in (PROJECT / "flows").rglob("*.py"))
    names = set(re.findall(r"Completed\(\s*name=\"(\w+)\"", flows))
    glossary = (PROJECT / "docs" / "glossary.md").read_text()
    assert names
    assert {name for name in names if f"| {name} |" not in glossary} == set()


def test_the_automation_on_the_page_is_the_one_that_is_shipped() -> None:
    shipped = yaml.safe_load((PROJECT / "automations" / "transform_when_extract_finishes.yaml").read_text())
    shown = yaml.safe_load(snippet(PROJECT / "docs" / "architecture.md", "expect: [extract.finished]"))
    assert shown["actions"] == shipped["actions"]
    assert shown["trigger"] == shipped["trigger"]


def test_the_deployment_of_the_readme_is_the_one_that_the_orchestrator_looks_for() -> None:
    assert extract_deployment("helpdesk.tickets") in snippet(README, "prefect deployment run extract/helpdesk")


def test_ci_runs_every_python_that_the_project_promises() -> None:
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yaml").read_text())
    job = workflow["jobs"]["test"]
    assert job["steps"][-1]["run"] == ".ci/run"
    assert (PROJECT / ".ci" / "run").stat().st_mode & 0o111
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pythons = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert job["strategy"]["matrix"]["python"] == pythons
    assert project["requires-python"] == f">={pythons[0]}"


def test_the_hooks_call_what_make_lint_calls() -> None:
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = {tool for hook in hooks for tool in re.findall(r"\.venv/bin/(\w+)", hook["entry"])}
    assert {tool for tool in tools if f"$(BIN)/{tool}" not in MAKEFILE} == set()
