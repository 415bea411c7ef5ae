"""Sample events: one a file, as the API gives it, with the flows that send it and what is expected of it.

A file is an event, or a mapping with `event` and, besides, `sent_by` (flows) and `expect` (automations). JSON or YAML.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .errors import EventError
from .known_events import example_events, is_listed
from .prefect_server import ReceivedEvent, matches
from .problems import Problem

OUTCOMES = ("fires", "counts", "starts the clock", "stops the clock", "nothing")
"""What an automation can make of an event."""


@dataclass(frozen=True)
class Expectation:
    """What one automation must make of an event."""

    outcome: str
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Sample:
    """An event as a server gives it, and the flows that send such events."""

    event: ReceivedEvent
    file: Path | None
    """None: made here, as Prefect sends it."""
    sent_by: tuple[str, ...] = ()
    expect: Mapping[str, Expectation] = field(default_factory=dict)

    @property
    def is_given(self) -> bool:
        """Whether somebody says that events are like this; what is made here lacks what only the server knows."""
        return self.file is not None


def sample_files(folder: Path) -> list[Path]:
    """The samples of a folder."""
    return sorted(file for pattern in ("*.json", "*.yaml", "*.yml") for file in folder.glob(pattern))


def read_samples(folder: Path) -> tuple[list[Sample], list[Problem]]:
    """Every sample of a folder, and the problems of files that are none."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    for file in sample_files(folder):
        try:
            samples += read_sample(file)
        except EventError as error:
            problems.append(Problem(file, getattr(error, "line", 1), str(error)))
    return samples, problems


def read_sample(file: Path) -> list[Sample]:
    """The samples of a file: several where its event has several names. EventError if there is none."""
    data = load(file)
    if not isinstance(data, dict):
        raise EventError(f"expected an event, found {type(data).__name__}")
    full = data if isinstance(data.get("event"), dict) else {"event": data}
    event = full["event"]
    names = event.get("event")
    try:
        events = [
            ReceivedEvent.model_validate({**event, "event": name})
            for name in (names if isinstance(names, list) else [names])
        ]
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise EventError(f"is no event of Prefect's: {reasons}") from error
    sent_by = full.get("sent_by", [])
    if not isinstance(sent_by, list) or not all(isinstance(flow, str) for flow in sent_by):
        raise EventError(f"sent_by: expected a list of flows, got {sent_by!r}")
    expect = read_expectations(full.get("expect", {}))
    return [Sample(each, file, tuple(sent_by), expect) for each in events]


def load(file: Path) -> Any:
    """The content of a JSON or YAML file; EventError, with its line, if it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise _at(error.lineno, f"not JSON: {error.msg}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _at(mark.line + 1 if mark else 1, f"not YAML: {getattr(error, 'problem', error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EventError(f"cannot be read: {error}") from error


def _at(line: int, message: str) -> EventError:
    error = EventError(message)
    error.line = line  # type: ignore[attr-defined]
    return error


def read_expectations(data: Any) -> dict[str, Expectation]:
    """`expect`: for each automation its outcome, or a mapping with `outcome` and `parameters`."""
    if not isinstance(data, dict):
        raise EventError(f"expect: expected a mapping with a key for each automation, got {data!r}")
    return {str(name): read_expectation(str(name), value) for name, value in data.items()}


def read_expectation(name: str, value: Any) -> Expectation:
    """One automation's."""
    given = value if isinstance(value, dict) else {"outcome": value}
    outcome, parameters = given.get("outcome", "fires"), given.get("parameters")
    if unknown := given.keys() - {"outcome", "parameters"}:
        raise EventError(f"expect, {name}: expected outcome and parameters, got {', '.join(sorted(map(str, unknown)))}")
    if outcome not in OUTCOMES:
        raise EventError(f"expect, {name}: expected one of {', '.join(OUTCOMES)}, got {outcome!r}")
    if parameters is not None and not isinstance(parameters, dict):
        raise EventError(f"expect, {name}: parameters: expected a mapping, got {parameters!r}")
    return Expectation(outcome, parameters)


def named(samples: Iterable[Sample], pattern: str) -> list[Sample]:
    """The samples of that event, `*` being several; of Prefect's own events, those that are made here."""
    given = [sample for sample in samples if matches(pattern, sample.event.event)]
    if given or not is_listed(pattern):
        return given
    return [Sample(event, None) for event in example_events(pattern)]
