"""The examples and the patterns are valid; runs in this folder, wherever it was copied: `pytest`."""

from pathlib import Path

import pytest

from ..cli import main
from ..editor_schema import COMMENT
from ..init import pattern_names
from ..known_events import all_names, example_events

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_examples_are_valid_and_do_what_their_samples_expect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_BLOCK", "slack-webhook/alerts")
    assert main(["validate", "--project", str(EXAMPLES)]) == 0
    assert capsys.readouterr().out == "3 automations, 0 errors, 0 warnings\n"
    assert main(["test", "--project", str(EXAMPLES)]) == 0
    assert "2 events, 4 expectations, 0 failures" in capsys.readouterr().out


@pytest.mark.parametrize("pattern", pattern_names())
def test_each_pattern_is_valid_in_an_empty_project(
    pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", pattern, "--deployment", "load/nightly", "--project", str(tmp_path)]) == 0
    file = tmp_path / "automations" / f"{pattern}.yaml"
    assert file.read_text().startswith(COMMENT)
    capsys.readouterr()
    assert main(["validate", "--project", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    # Only a server knows the deployment.
    assert [line for line in printed.err.splitlines() if "is not in prefect.yaml" not in line] == []
    assert main(["test", "--project", str(tmp_path)]) == 0
    assert main(["init", pattern, "--project", str(tmp_path)]) == 1


def test_every_event_that_is_listed_has_an_example() -> None:
    for name in all_names():
        assert [event.event for event in example_events(name)] == [name]
