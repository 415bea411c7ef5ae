"""The small project of `support` as a fixture."""

from pathlib import Path

import pytest

from tests.unit.automations.support import Small, small_project


@pytest.fixture
def small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Small:
    return small_project(tmp_path, capsys)
