"""The demo on the scale profile: the same table and the same checks, and nothing of it is left."""

import os
import subprocess
import sys
from pathlib import Path

import redis

from flows.settings import PROJECT
from stack.scale import stores
from tests.scale.conftest import execute


def test_the_demo_runs_the_three_chainings_and_leaves_nothing_behind(
    tmp_path: Path, postgres: str, redis_url: str
) -> None:
    ours = ("PREFECT_", "BATON_LANDING", "BATON_LAKE", "AWS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "stack", "demo", "--profile", "scale"],
        cwd=PROJECT,
        env=environment | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    for chaining, rows in (("triggered", "194"), ("imperative", "452"), ("launch-and-leave", "194")):
        assert lines[chaining][-2:] == [rows, rows]
    for source, rows in (("dummyjson.products", "194"), ("dummyjson.carts", "50"), ("dummyjson.users", "208")):
        assert lines[source][-4:] == [rows] * 4
    assert "3 chainings, 0 faults" in done.stdout
    assert list(tmp_path.glob("baton-demo-*")) == []
    assert str(tmp_path) not in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
    made = next(line for line in done.stdout.splitlines() if "postgresql://" in line).split()[-2:]
    assert len(made) == 2
    names = ", ".join(f"'{name.strip(',')}'" for name in made)
    assert execute(f"select datname from pg_database where datname in ({names})") == []
    said = next(line for line in done.stdout.splitlines() if "redis://" in line).split()[-1]
    with redis.Redis.from_url(stores.with_path(redis_url, said.rpartition("/")[2])) as database:
        assert database.dbsize() == 0
