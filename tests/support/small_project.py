"""The dbt project with the models of some sources only: most tests of the flows need one, and it builds sooner."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from flows.settings import PROJECT
from tests.support.room import Room

WORDS = {"users": "users", "carts": "cart", "shop": "shop"}
"""What is in the name, or the folder, of each model that needs such a table."""
SUMMARY = "category_summary"
"""Needs all tables of dummyjson."""


def small_project(folder: Path, *tables: str) -> Path:
    """A copy of the dbt project in which the models of products and of these tables are enabled; made once a folder."""
    made = folder / "-".join(["project", *tables])
    if made.exists():
        return made
    shutil.copytree(PROJECT / "dbt", made, ignore=shutil.ignore_patterns("target", "logs", "analyses", "exposures.yml"))
    settings = made / "dbt_project.yml"
    project = yaml.safe_load(settings.read_text())
    for model in sorted((made / "models").rglob("*.sql")):
        path = model.relative_to(made / "models").with_suffix("").parts
        if not set(needed_by("/".join(path))) <= set(tables):
            inner: dict[str, Any] = project["models"]["baton"]
            for part in path:
                inner = inner.setdefault(part, {})
            inner["+enabled"] = False
    settings.write_text(yaml.safe_dump(project))
    return made


def use_project(room: Room, session: Path, *tables: str) -> None:
    """The flows build with such a copy. One target folder a session: dbt then parses the project once."""
    project = small_project(session, *tables)
    room.patch.setenv("BATON_DBT_PROJECT", str(project))
    room.patch.setenv("DBT_TARGET_PATH", str(session / f"{project.name}-target"))
    room.patch.setenv("DBT_LOG_PATH", str(session / "dbt-logs"))


def needed_by(model: str) -> list[str]:
    """The tables besides products that a model needs."""
    return [table for table, word in WORDS.items() if word in model or (model.endswith(SUMMARY) and table != "shop")]
