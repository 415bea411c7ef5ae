"""The landing's place: every character of its path means itself, or the build says at once that it cannot."""

import shutil
from pathlib import Path

import duckdb
import pytest
from dbt.cli.main import dbtRunner

from flows.errors import InvalidInputError
from flows.settings import Settings
from tests.dbt.conftest import Place, day, product
from tests.dbt.test_batches import PRODUCTS

NAMES = [
    "data[1]",
    "st*r",
    "what?",
    "json=1",
    "batch_id=7/x=1",
    "it's",
    "50%",
    "%(name)s",
    "{braces}",
    "a b",
    "[!a]",
    "#1",
    "é",
]


def moved(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """The landing as it is, under another name that dbt gets."""
    root = place.landing.parent / "moved" / name / "landing"
    shutil.rmtree(root.parents[len(Path(name).parts)], ignore_errors=True)
    root.parent.mkdir(parents=True)
    shutil.copytree(place.landing, root)
    monkeypatch.setenv("BATON_LANDING_ROOT", str(root))
    # Where the landing is goes into what dbt has parsed of the source.
    monkeypatch.setattr(place, "manifest", None)
    return root


@pytest.mark.parametrize("name", NAMES)
def test_every_character_of_the_landing_root_means_itself(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    batch_id = place.land(PRODUCTS, [product(n) for n in range(1, 11)], day(1))
    root = moved(place, monkeypatch, name)
    # What a pattern would match as well.
    shutil.copytree(root, root.parent.parent / "data1" / "landing", dirs_exist_ok=True)
    assert place.dbt("run", "--select", "path:models/base/dummyjson", "--exclude", "*carts*", "*users*").success
    assert place.rows("select _batch_id, count(*), max(_row_number) from base.base_dummyjson__products group by 1") == [
        (batch_id, 10, 10)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_query_of_the_source_by_hand_reads_the_same(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place.land(PRODUCTS, [product(n) for n in range(1, 11)], day(1))
    moved(place, monkeypatch, name)
    query = place.compiled("select count(*) from {{ source('dummyjson', 'products') }}")
    assert duckdb.sql(query).fetchall() == [(10,)]


def test_a_landing_root_that_duckdb_cannot_read_is_refused_by_the_name_of_its_variable(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in ("/data\\landing", "s3://bucket/landing[1]", "s3://bucket/*"):
        monkeypatch.setenv("BATON_LANDING_ROOT", root)
        answer = dbtRunner().invoke(["parse", "--quiet", "--log-level", "none"])
        assert not answer.success
        assert "BATON_LANDING_ROOT: expected" in str(answer.exception)
        assert root in str(answer.exception)
        with pytest.raises(InvalidInputError, match="BATON_LANDING_ROOT: expected"):
            Settings()
