"""The same on the lake: readers see views that are pinned to a snapshot, moved in one transaction."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.errors import InvalidInputError
from flows.processing import batches
from flows.settings import PROJECT, Settings
from flows.transform import transform
from flows.warehouse import dbt, publishing
from flows.warehouse.connection import connect
from tests.integration.test_publishing import exported, make_refused, publications, run
from tests.support.killed_transform import kill_at
from tests.support.lake_room import LakeRoom

pytestmark = pytest.mark.timeout(900)
"""A build on the lake takes a minute where other processes use the machine."""


def read(lake_room: LakeRoom, query: str) -> list[tuple[Any, ...]]:
    """What a reader sees now; `{}` is the schema."""
    return lake_room.rows(query.format("published"))


def test_views_show_what_passed_its_tests_and_a_build_that_fails_or_is_killed_moves_none(lake_room: LakeRoom) -> None:
    (first,) = lake_room.land("products")
    first_run = run()
    assert read(lake_room, "select count(*), any_value(_batch_id) from {}.dim_products") == [(12, first.batch_id)]
    assert exported(lake_room) == [(12, first.batch_id)]
    (bad,) = lake_room.land("products", products=13)
    make_refused(bad)
    state = transform(return_state=True)
    assert state.is_failed()
    assert lake_room.rows("select min(price) < 0 from marts.dim_products") == [(True,)]
    assert read(lake_room, "select count(*), any_value(_batch_id) from {}.dim_products") == [(12, first.batch_id)]
    assert read(lake_room, "select max(_batch_id) from {}.fct_product_snapshots") == [(first.batch_id,)]
    # Another source goes on, and its publication leaves what was refused where it is.
    (users,) = lake_room.land("users")
    dbt.run_dbt(["build", "--select", "source:dummyjson.users+"], Settings())
    publishing.publish_if_changed(Settings(), str(uuid4()))
    assert read(lake_room, "select distinct _batch_id from {}.dim_users") == [(users.batch_id,)]
    assert read(lake_room, "select count(*) from {}.dim_products where price < 0") == [(0,)]
    assert exported(lake_room) == [(12, first.batch_id)]
    assert len(publications()) == 2
    assert publications()[1] == (first_run, True)


def test_after_a_kill_between_two_marts_or_while_publishing_the_next_transform_publishes(lake_room: LakeRoom) -> None:
    (first,) = lake_room.land("products")
    run()
    (second,) = lake_room.land("products", products=13)
    for point in ('"marts"."category_summary"', "flows.warehouse.publishing:_record"):
        kill_at(point)
        assert read(lake_room, "select count(*), any_value(_batch_id) from {}.dim_products") == [(12, first.batch_id)]
        assert read(lake_room, "select sum(product_count) from {}.category_summary") == [(12,)]
    run()
    assert read(lake_room, "select count(*), any_value(_batch_id) from {}.dim_products") == [(13, second.batch_id)]
    assert read(lake_room, "select sum(product_count) from {}.category_summary") == [(13,)]
    assert exported(lake_room) == [(13, second.batch_id)]


def test_maintaining_the_lake_keeps_what_is_published_and_what_can_be_put_back(lake_room: LakeRoom) -> None:
    lake_room.patch.setenv("BATON_KEPT_PUBLICATIONS", "1")
    runs = []
    for products in (12, 13, 14):
        lake_room.land("products", products=products)
        runs.append(run())
    with connect(Settings()) as connection:
        pinned = publishing.pinned_snapshots(connection)
        # What is in the marts now, and not published, does not reach the readers.
        connection.execute("delete from marts.dim_products")
    assert len(pinned) == 2
    batches.maintain(Settings(), 0)
    snapshots = {row[0] for row in lake_room.rows("select snapshot_id from ducklake_snapshots('warehouse')")}
    assert pinned < snapshots
    assert len(snapshots) <= len(pinned) + 2
    for position, products in ((2, 14), (1, 13)):
        publishing.roll_back(Settings(), runs[position])
        assert read(lake_room, "select count(*) from {}.dim_products") == [(products,)]
        newest = "summary_date = (select max(summary_date) from {0}.category_summary)"
        summary = read(lake_room, f"select sum(product_count) from {{0}}.category_summary where {newest}")
        assert summary == [(products,)]
        assert exported(lake_room)[0][0] == products
    run()
    assert read(lake_room, "select count(*) from {}.dim_products") == [(13,)]
    lake_room.land("products", products=16)
    run()
    assert read(lake_room, "select count(*) from {}.dim_products") == [(16,)]
    with pytest.raises(InvalidInputError, match="expected that of a kept publication"):
        publishing.roll_back(Settings(), runs[0])


def test_of_a_thousand_reads_during_builds_and_publications_none_fails_and_each_is_of_one_moment(
    lake_room: LakeRoom, tmp_path: Path
) -> None:
    lake_room.land("products")
    run()
    program = [sys.executable, "-m", "tests.support.reader", "1000", str(tmp_path / "stop")]
    reader = subprocess.Popen(program, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for products in range(13, 16):
            lake_room.land("products", products=products)
            run()
        (tmp_path / "stop").touch()
        output, _ = reader.communicate(timeout=600)
    finally:
        reader.kill()
        reader.communicate()
    assert reader.returncode == 0, output
    reads, moments, in_order = output.split()[-3:]
    assert int(reads) >= 1000
    assert int(moments) >= 2
    assert in_order == "True"


PUBLISH = """
import sys
from flows.settings import Settings
from flows.warehouse import publishing
for line in sys.stdin:
    print(publishing.publish(Settings(), line.strip()).place, flush=True)
"""


def test_two_transforms_that_publish_at_once_both_do_and_the_record_is_what_the_views_say(lake_room: LakeRoom) -> None:
    lake_room.land("products", "users")
    run()
    both = [
        subprocess.Popen([sys.executable, "-c", PUBLISH], cwd=PROJECT, stdin=-1, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin
        process.stdin.write("".join(f"{uuid4()}\n" for _ in range(4)))
        process.stdin.flush()
    for process in both:
        output, errors = process.communicate(timeout=200)
        assert output.count("snapshot") == 4, errors
    assert len(publications()) == 9
    newest = publishing.list_publications(Settings())[0]
    views = lake_room.rows("select view_name, sql from duckdb_views() where schema_name = 'published'")
    assert views
    for view, sql in views:
        assert f"VERSION => {newest.marts[view].snapshot})" in sql


def test_switched_off_there_is_no_schema_for_readers(lake_room: LakeRoom) -> None:
    lake_room.patch.setenv("BATON_PUBLISHED_MARTS", "")
    (batch,) = lake_room.land("products")
    run()
    assert lake_room.rows("select schema_name from duckdb_schemas() where schema_name = 'published'") == []
    assert exported(lake_room) == [(12, batch.batch_id)]
