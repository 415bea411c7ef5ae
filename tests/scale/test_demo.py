"""The demo on the scale profile: the same table and the same checks, and nothing of it is left."""

from pathlib import Path

import redis

from stack.local import stores
from tests.scale.conftest import execute
from tests.support.demo import run_demo


def test_the_demo_runs_the_three_chainings_and_leaves_nothing_behind(
    tmp_path: Path, postgres: str, redis_url: str
) -> None:
    output = run_demo(tmp_path, "--profile", "scale")
    made = next(line for line in output.splitlines() if "postgresql://" in line).split()[-2:]
    assert len(made) == 2
    names = ", ".join(f"'{name.strip(',')}'" for name in made)
    assert execute(f"select datname from pg_database where datname in ({names})") == []
    line = next(line for line in output.splitlines() if "redis://" in line).split()[-1]
    with redis.Redis.from_url(stores.with_path(redis_url, line.rpartition("/")[2])) as database:
        assert database.dbsize() == 0
