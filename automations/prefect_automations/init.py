"""A first file from a choice of patterns, with what it needs beside it."""

import json
from pathlib import Path

from .editor_schema import COMMENT, FILE, editor_schema
from .errors import FileExistsAlreadyError, ProjectError
from .project import Project, read_project

PATTERNS = Path(__file__).parent / "patterns"
PLACEHOLDER = "DEPLOYMENT"
EVENT = {
    "event": {
        "id": "0193579f-0000-7000-8000-00000000000e",
        "occurred": "2026-01-01T00:00:00Z",
        "event": "data.landed",
        "resource": {"prefect.resource.id": "shop.orders", "prefect.resource.name": "shop.orders"},
        "related": [],
        "payload": {"rows": 100},
    }
}


def pattern_names() -> dict[str, str]:
    """Name -> first line of each pattern."""
    return {
        file.stem: file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        for file in sorted(PATTERNS.glob("*.yaml"))
    }


def write_first(pattern: str, deployment: str | None, project: Path, folder: Path) -> list[Path]:
    """The pattern as a file, a sample of its event, the editor's schema; a prefect.yaml with a name if none is there.

    FileExistsAlreadyError if the file is there already; ProjectError if there is no such pattern.
    """
    if pattern not in pattern_names():
        raise ProjectError(f"{pattern}: is no pattern; expected one of {', '.join(pattern_names())}")
    file = folder / f"{pattern}.yaml"
    if file.exists():
        raise FileExistsAlreadyError(f"{file}: already there; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    text = (PATTERNS / f"{pattern}.yaml").read_text(encoding="utf-8")
    name = deployment or first_deployment(read_project(project))
    file.write_text(f"{COMMENT}{FILE}\n{text.replace(PLACEHOLDER, name)}", encoding="utf-8")
    made = [file]
    made += write_new(folder / FILE, json.dumps(editor_schema(), indent=2) + "\n")
    if "data.landed" in text:
        sample = EVENT | {"expect": {pattern: "starts the clock" if "Proactive" in text else "fires"}}
        made += write_new(folder / "samples" / "data.landed.json", json.dumps(sample, indent=2) + "\n")
    # The name is part of the tag by which this project's automations are known; a folder's name may change.
    made += write_new(project / "prefect.yaml", f"name: {json.dumps(project.resolve().name)}\n")
    return made


def first_deployment(project: Project) -> str:
    """The first that prefect.yaml has, or words in its place."""
    return next(iter(project.deployments), "my-flow/my-deployment")


def write_new(file: Path, text: str) -> list[Path]:
    """The file, if it was not there."""
    if file.exists():
        return []
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return [file]
