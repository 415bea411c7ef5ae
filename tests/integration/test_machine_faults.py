"""A machine at its limits, for real: each fault says what it is, where and what to do, blames no batch, and ends by
itself when its cause ends."""

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect import State

from flows.extract import extract
from flows.landing.batch import Batch, list_batches
from flows.settings import Settings
from flows.transform import transform
from flows.warehouse import ledger
from tests.support.room import Room

LARGE = "100m"


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own in a folder; what it yields takes other mount options, such as another size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        yield lambda options: _mount_again(folder, options)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount_again(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def land(room: Room, products: int = 20) -> Batch:
    with room.api(products=products):
        state = extract(return_state=True, handoff="caller")
    assert state.is_completed(), state.message
    return list_batches(room.landing)[-1]


def said(state: State[Any]) -> str:
    assert state.is_failed(), state
    return str(state.message)


def nobody_is_blamed() -> bool:
    """Whether neither a failure was noted nor a batch quarantined; true of no warehouse."""
    snapshot = ledger.read(Settings())
    return not snapshot.failures and not snapshot.quarantined


def processed(batch: Batch) -> bool:
    return batch.key in ledger.read(Settings()).processed


@pytest.mark.parametrize("size", ["300k", "700k", "3m"])
def test_a_full_disk_of_the_warehouse(room: Room, tmp_path: Path, size: str) -> None:
    """The smallest fills while DuckDB checkpoints at its end, which leaves a log that it cannot replay."""
    batch = land(room, products=2000 if size == "3m" else 20)
    folder = tmp_path / "small"
    room.patch.setenv("BATON_WAREHOUSE", str(folder / "warehouse.duckdb"))
    with disk(folder, size) as mount:
        for _ in range(2):
            message = said(transform(return_state=True))
            assert "full" in message
            assert str(folder) in message
        mount(f"size={LARGE}")
        state = transform(return_state=True)
        assert state.is_completed(), state.message
        assert processed(batch)
        assert nobody_is_blamed()


def test_a_full_disk_of_the_landing(room: Room, tmp_path: Path) -> None:
    with disk(room.landing, "100k") as mount:
        with room.api(products=5000):
            message = said(extract(return_state=True, handoff="caller"))
        assert str(room.landing) in message
        assert "the disk is full" in message
        assert "Nothing was landed" in message
        assert list_batches(room.landing) == []
        mount(f"size={LARGE}")
        assert land(room).verify().rows == 20


@pytest.mark.parametrize("what", ["landing", "warehouse"])
def test_a_disk_that_can_only_be_read(room: Room, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "readable"
    with disk(folder, LARGE) as mount:
        room.patch.setenv("BATON_LANDING_ROOT" if what == "landing" else "BATON_WAREHOUSE", str(folder / "it"))
        if what == "landing":
            mount("ro")
            with room.api(products=3):
                message = said(extract(return_state=True, handoff="caller"))
        else:
            batch = land(room)
            mount("ro")
            message = said(transform(return_state=True))
        assert str(folder) in message
        assert "mount it for writing" in message
        mount("rw")
        if what == "warehouse":
            assert transform(return_state=True).is_completed()
            assert processed(batch)
            assert nobody_is_blamed()


def test_a_full_disk_of_dbts_own_files(room: Room, tmp_path: Path) -> None:
    batch = land(room)
    target = tmp_path / "target"
    with room.patch.context() as patch, disk(target, "100k"):
        patch.setenv("DBT_TARGET_PATH", str(target))
        message = said(transform(return_state=True))
        assert "the disk is full" in message
        assert str(target) in message
    assert transform(return_state=True).is_completed()
    assert processed(batch)
    assert nobody_is_blamed()


def test_too_little_memory(room: Room, tmp_path: Path) -> None:
    batch = land(room, products=3000)
    project = shutil.copytree(Settings().dbt_project, tmp_path / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    profiles = project / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("TimeZone: UTC", "TimeZone: UTC\n        memory_limit: 6MB"))
    with room.patch.context() as patch:
        patch.setenv("BATON_DBT_PROJECT", str(project))
        message = said(transform(return_state=True))
    assert "the memory did not suffice" in message
    assert transform(return_state=True).is_completed()
    assert processed(batch)
    assert nobody_is_blamed()


def test_files_may_not_be_so_large(room: Room) -> None:
    batch = land(room)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        message = said(transform(return_state=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in message
    assert transform(return_state=True).is_completed()
    assert processed(batch)
    assert nobody_is_blamed()
