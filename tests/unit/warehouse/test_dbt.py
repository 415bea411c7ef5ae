"""What reaches dbt's command line was checked before, and a changed project is noticed."""

from pathlib import Path

import pytest

from flows.warehouse import dbt


def test_selectors_and_full_refresh_become_arguments() -> None:
    assert dbt.arguments("run", "stg_dummyjson__products+ tag:daily", True) == [
        "run",
        "--select",
        "stg_dummyjson__products+",
        "tag:daily",
        "--full-refresh",
    ]
    assert dbt.arguments("test", None, False) == ["test"]


@pytest.mark.parametrize("select", ["--full-refresh", "a --vars", "-s", "a\x00b", " ", ""])
def test_a_selector_that_dbt_would_take_for_an_option_is_refused(select: str) -> None:
    with pytest.raises(ValueError, match="select: expected dbt selectors"):
        dbt.arguments("build", select, False)


@pytest.mark.parametrize("command", ["clean", "run-operation", "--version", "", "build --full-refresh"])
def test_a_command_that_is_not_offered_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="command: expected one of build, run"):
        dbt.arguments(command, None, False)


def test_full_refresh_of_a_test_is_refused() -> None:
    with pytest.raises(ValueError, match="full_refresh: goes with build, run, seed, not with test"):
        dbt.arguments("test", None, True)


def test_the_fingerprint_follows_what_dbt_reads_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "a.sql"
    model.write_text("select 1")
    first = dbt.fingerprint(tmp_path)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "manifest.json").write_text("{}")
    assert dbt.fingerprint(tmp_path) == first
    model.write_text("select 2")
    assert dbt.fingerprint(tmp_path) != first
