"""The page about the architecture names what exists, all of it, and the times that are set."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml

from flows.settings import PROJECT
from tests.support.pages import code_blocks, without_blocks

PAGE = PROJECT / "docs" / "architecture.md"
TEXT = PAGE.read_text()
(ROOMS, LIFE) = [text for language, text in code_blocks(TEXT) if language == "mermaid"]
WITHOUT_PLACE = {"__pycache__", "target", "logs"}


def rooms() -> Iterator[Path]:
    """Every folder with code in it: the parts of the flows and of the stack, and the top of everything else."""
    yield from (PROJECT / name for name in ("automations", "dbt", "tests", "benchmarks"))
    for top in ("flows", "stack"):
        yield from (
            path for path in sorted((PROJECT / top).iterdir()) if path.is_dir() and path.name not in WITHOUT_PLACE
        )


def entrypoints() -> set[str]:
    """The files that prefect.yaml runs."""
    return set(re.findall(r"entrypoint: (flows/\w+\.py):", (PROJECT / "prefect.yaml").read_text()))


def test_every_room_is_in_the_table_and_every_place_in_it_exists() -> None:
    rows = [line.split("|")[1] for line in TEXT.partition("## The life")[0].splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert {name for name in named if not (PROJECT / name).exists()} == set()
    assert {f"{room.relative_to(PROJECT)}/" for room in rooms()} - named == set()
    assert entrypoints() <= named


def test_the_picture_of_the_rooms_has_each_of_them_and_nothing_else() -> None:
    label = re.compile(r"\[\"([^\"]+)\"\]")
    drawn = {name.strip() for text in label.findall(ROOMS) for name in text.split("·")}
    parts = {f"{room.name}/" for room in rooms() if room.name not in {"deploy", "tests", "benchmarks"}}
    files = {Path(name).name for name in entrypoints()} | {"settings.py", "errors.py", "demo.py", "cli.py"}
    assert drawn == parts | files


def test_the_picture_has_the_order_that_the_import_rules_have() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    ordered = [one for one in contracts if one["type"] == "layers" and "containers" in one]
    assert {one["containers"][0] for one in ordered} == {"flows", "stack"}
    for contract in ordered:
        layers = [re.findall(r"[a-z]\w+", layer) for layer in contract["layers"] if layer != "__main__"]
        places = [[place(name, contract["containers"][0]) for name in layer] for layer in layers]
        assert [min(layer) for layer in places] == sorted(min(layer) for layer in places), contract["name"]


def place(name: str, container: str) -> int:
    """Where the picture has a room or a file of that name first, in the part of flows or of stack."""
    part = ROOMS.partition(f"subgraph {container}\n")[2].partition("\n    end")[0]
    found = re.search(rf"[\" ]{name}(?:/|\.py)", part)
    assert found, name
    return found.start()


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:flows|automations|dbt|stack|tests|benchmarks)/[\w./-]*)`", without_blocks(TEXT)))
    assert named
    assert {name for name in named if not (PROJECT / name).exists()} == set()


def test_the_states_of_the_picture_are_those_of_the_table() -> None:
    drawn = set(re.findall(r"\b([a-z]+) -->|--> ([a-z]+)", LIFE))
    states = {state for pair in drawn for state in pair if state}
    table = TEXT.partition("| state |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| (\w+) \|", table, re.M)) == states


def test_the_times_in_the_table_of_crashes_are_those_that_are_set() -> None:
    crashes = TEXT.partition("## Crashes")[2]
    deployments = {one["name"]: one for one in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]}
    sweep = deployments["warehouse"]["schedules"][0]["interval"]
    zombies = deployments["zombies"]
    (automation,) = (PROJECT / "automations").glob("crash_runs_*.yaml")
    silence = yaml.safe_load(automation.read_text())["trigger"]["within"]
    assert f"every {sweep // 60} minutes" in crashes
    assert set(re.findall(r"at most (\d+) min(?= \||, t| *$)", crashes)) <= {
        f"{sweep // 60}",
        f"{zombies['schedules'][0]['interval'] // 60}",
    }
    assert f"every {zombies['schedules'][0]['interval'] // 60} minutes" in crashes
    assert zombies["parameters"]["silent_for"] == silence
    assert set(re.findall(r"(\d+) s(?=[\s.,;])", crashes.replace("5 to 12 s", ""))) == {f"{silence}"}


def test_every_place_where_the_chaos_tests_kill_is_in_the_table_of_crashes() -> None:
    from tests.chaos import points

    crashes = TEXT.partition("## Crashes")[2]
    killed = {row.split()[0] for row in re.findall(r"^\| ([\w ]+?) \|", crashes, re.M)}
    places = {place.partition(".")[0].partition("_")[0] for place in points_of(points)}
    assert places
    assert places <= killed


def points_of(points: object) -> set[str]:
    return {
        place for name in ("EXTRACT", "TRANSFORM", "ORCHESTRATE", "FROM_OUTSIDE") for place in getattr(points, name)
    }
