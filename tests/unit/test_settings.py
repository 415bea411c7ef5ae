"""A variable that is not what it has to be is named in one line, with what was expected; an input is never repeated."""

from pathlib import Path

import pytest

from flows.errors import InvalidInputError
from flows.settings import Settings, check_prefect_api_url, split_source


@pytest.mark.parametrize(
    "value", ['{"dummyjson": ', "[1]", '{"dummyjson": 7}', '{"dummyjson": "dummyjson.com"}', '{"a": "http://h:x"}', ""]
)
def test_malformed_api_urls_get_one_line_that_shows_the_form(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_API_URLS", value)
    with pytest.raises(InvalidInputError) as raised:
        Settings()
    (line,) = str(raised.value).splitlines()
    assert line.startswith('BATON_API_URLS: expected JSON with http:// or https:// URLs, {"dummyjson": "https://')
    assert line.endswith(f"got {value!r}")


def test_a_password_in_malformed_api_urls_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_API_URLS", '{"dummyjson": "https://me:canary@dummyjson.com"')
    with pytest.raises(InvalidInputError) as raised:
        Settings()
    assert "canary" not in str(raised.value)


def test_every_variable_that_is_wrong_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_WAREHOUSE_WAIT_SECONDS", "a minute")
    monkeypatch.setenv("BATON_KEPT_PUBLICATIONS", "-1")
    with pytest.raises(InvalidInputError) as raised:
        Settings()
    names = [line.partition(":")[0] for line in str(raised.value).splitlines()]
    assert sorted(names) == ["BATON_KEPT_PUBLICATIONS", "BATON_WAREHOUSE_WAIT_SECONDS"]


@pytest.mark.parametrize("url", ["4200", "localhost:4200/api", "http://", "ftp://host/api", "http://host:port/api"])
def test_a_malformed_prefect_api_url_gets_one_line(url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^PREFECT_API_URL: expected a URL such as http://127.0.0.1:4200/api"):
        check_prefect_api_url(url)


@pytest.mark.parametrize("url", [None, "", "http://127.0.0.1:4200/api", "https://api.prefect.cloud/api/accounts/a"])
def test_a_prefect_api_url_that_can_be_used_or_none_is_no_error(url: str | None) -> None:
    check_prefect_api_url(url)


def test_a_megabyte_that_is_no_source_name_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ValueError, match="source: expected a name") as raised:
        split_source("x" * 1_000_000)
    assert len(str(raised.value)) < 300


def test_published_marts_are_beside_the_warehouse_unless_a_file_is_named_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = tmp_path / "here" / "warehouse.duckdb"
    monkeypatch.setenv("BATON_WAREHOUSE", str(warehouse))
    assert Settings().published_marts == tmp_path / "here" / "marts.duckdb"
    assert Settings().exports == tmp_path / "here"
    monkeypatch.setenv("BATON_PUBLISHED_MARTS", str(tmp_path / "m.duckdb"))
    assert Settings().published_marts == tmp_path / "m.duckdb"
    monkeypatch.setenv("BATON_PUBLISHED_MARTS", "")
    assert Settings().published_marts is None
    monkeypatch.setenv("BATON_PUBLISHED_MARTS", str(warehouse))
    with pytest.raises(InvalidInputError, match="BATON_PUBLISHED_MARTS: expected another file than BATON_WAREHOUSE"):
        Settings()
