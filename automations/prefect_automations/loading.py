"""Files, project and samples, read and checked together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .checks import check
from .errors import ProjectError
from .files import AutomationFile, read, read_one, yaml_files
from .problems import Problem
from .project import Project, read_project
from .samples import Sample, read_samples
from .schema import check_schema

DEFAULT_FOLDER = "automations"


@dataclass(frozen=True)
class Loaded:
    """What a command works with."""

    folder: Path
    project: Project
    automations: list[AutomationFile]
    others: list[AutomationFile]
    """Those of the folder that were not given."""
    samples: list[Sample]
    problems: list[Problem]


def load(
    files: Sequence[Path], project: Path, folder: Path | None = None, *, offline: bool = False
) -> tuple[list[AutomationFile], Project, list[Problem]]:
    """The automations of the files, or of the project's folder of automations; and everything that is wrong."""
    loaded = load_all(files, project, folder, offline=offline)
    return loaded.automations, loaded.project, loaded.problems


def load_all(
    files: Sequence[Path], project: Path | None = None, folder: Path | None = None, *, offline: bool = False
) -> Loaded:
    """As `load`, with all that was read. ProjectError if there is no project or no folder of automations."""
    known = read_project(project or Path())
    where = folder_of(project, folder)
    if not files and not where.is_dir():
        raise ProjectError(
            f"{where}: no folder of automations here; `init` makes one, or say where it is with --project or --dir"
        )
    beside = yaml_files(where)
    found = read(files or beside)
    given = {file.file.resolve() for file in found.automations}
    # A file of the same name that was given is another version of it.
    keys = {file.key for file in found.automations}
    others = [
        one
        for file in beside
        if file.resolve() not in given and (one := read_one(file)[0]) is not None and one.key not in keys
    ]
    samples, problems = read_samples(where / "samples")
    problems += found.problems
    for file in found.automations:
        problems += check_schema(file)
    problems += check(found.automations, known, samples, others, offline=offline)
    return Loaded(where, known, found.automations, others, samples, in_order(without_echoes(problems)))


def folder_of(project: Path | None, folder: Path | None) -> Path:
    """The folder of automations: the one that is given, or the project's."""
    return folder or (project or Path()) / DEFAULT_FOLDER


def without_echoes(problems: Sequence[Problem]) -> list[Problem]:
    """Without what is only wrong because a variable of the same line is missing."""
    missing = {(each.file, each.line) for each in problems if "the environment variable" in each.message}
    return [
        each for each in problems if (each.file, each.line) not in missing or "the environment variable" in each.message
    ]


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Each once, by file and line."""
    return sorted(set(problems), key=lambda problem: (problem.file, problem.line, problem.message))
