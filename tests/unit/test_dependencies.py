"""What is imported is declared in pyproject.toml, and what is installed for it has its version in constraints.txt."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flows.settings import PROJECT

OURS = {"flows", "automations", "stack"}
DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def top_level_imports(packages: Iterable[str]) -> dict[str, set[str]]:
    """Name of an imported package -> the files that import it, also inside functions; examples need extras."""
    found: dict[str, set[str]] = {}
    files = (file for package in packages for file in (PROJECT / package).rglob("*.py"))
    for file in (file for file in files if not {"tests", "examples"} & set(file.parts)):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(str(file.relative_to(PROJECT)))
    return {name: files for name, files in found.items() if name not in sys.stdlib_module_names | OURS}


def test_every_import_is_of_a_declared_package() -> None:
    extras = DECLARED["optional-dependencies"]
    requirements = [*DECLARED["dependencies"], *extras["scale"], *extras["status"]]
    declared = {canonicalize_name(Requirement(text).name) for text in requirements}
    imports = top_level_imports(OURS)
    assert imports
    distributions = packages_distributions()
    undeclared = {
        name: files
        for name, files in imports.items()
        if declared.isdisjoint(canonicalize_name(each) for each in distributions.get(name, [name]))
    }
    assert undeclared == {}


def installed_for(texts: Iterable[str], found: dict[str, str]) -> dict[str, str]:
    """Name -> version of every installed distribution that these requirements need, directly or not."""
    for requirement in map(Requirement, texts):
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            needed = distribution(name)
        except PackageNotFoundError:
            continue
        if name in found and not requirement.extras:
            continue
        found[name] = needed.version
        with_extras = [r for r in needed.requires or [] if needs(Requirement(r), extras)]
        installed_for([re.sub(r";.*", "", text) for text in with_extras], found)
    return found


def needs(requirement: Requirement, extras: Iterable[str]) -> bool:
    return not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


def test_everything_that_is_installed_has_its_version_in_the_constraints() -> None:
    texts = [*DECLARED["dependencies"], *(t for each in DECLARED["optional-dependencies"].values() for t in each)]
    lines = [line for line in (PROJECT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    constraints = dict(line.split("==") for line in lines)
    pinned: dict[str, str] = {canonicalize_name(name): version for name, version in constraints.items()}
    installed = installed_for(texts, {})
    assert len(installed) > 100
    unpinned = {name: version for name, version in installed.items() if pinned.get(name) != version}
    assert unpinned.keys() <= {"setuptools", "pip"}, unpinned
