"""Machines with other habits than ours: each must run the project, or say in one message why it cannot."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.habits.clone import Clone, copy_project, few_descriptors, private_files

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="baton-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def made(place: Path) -> Iterator[Callable[..., Clone]]:
    """Makes clones in folders of these names; ends what runs in them, and checks that nothing is left."""
    clones: list[Clone] = []

    def make(name: str = "clone", **habits: object) -> Clone:
        copy_project(place / name)
        clones.append(Clone(place / name, **habits))  # type: ignore[arg-type]
        return clones[-1]

    yield make
    for clone in clones:
        if clone.folder.exists():
            clone.down()
    assert processes_in(place) == []


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes that have a file of the folder in them, or work there."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if str(folder) in command or str(folder) in process.cwd():
                found.append(command)
        except psutil.Error:
            continue
    return found


def test_the_demo_in_a_path_with_spaces_quotes_and_other_letters(made: Callable[..., Clone]) -> None:
    done = made("""it's "my" Bäton ☃""").type("stack", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 chainings, 0 faults" in done.stdout


@pytest.mark.parametrize("prepare", [few_descriptors, private_files])
def test_a_strict_machine(made: Callable[..., Clone], prepare: Callable[[], None]) -> None:
    clone = made(prepare=prepare)
    clone.up()
    clone.hand_off()


def test_a_path_that_is_longer_than_a_sockets_name_may_be(made: Callable[..., Clone], place: Path) -> None:
    temporary = place / ("t" * 120)
    temporary.mkdir()
    clone = made("a" * 120, environment={"TMPDIR": str(temporary)})
    clone.up()
    clone.hand_off()


def test_a_user_who_may_write_nowhere_but_in_the_clone(made: Callable[..., Clone], place: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user; whoever runs the tests is one already")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    python, libraries = python_for_everybody(place)
    own = {"HOME": "/", "PYTHONPATH": packages, "LD_LIBRARY_PATH": libraries}
    clone = made(user="nobody", python=python, environment=own)
    subprocess.run(["chown", "-R", "nobody:nogroup", clone.folder], check=True)
    clone.up()
    clone.hand_off()


def python_for_everybody(folder: Path) -> tuple[str, str]:
    """A copy of the interpreter, which may be where only root may look, and the folder of its libraries."""
    skipped = shutil.ignore_patterns("site-packages", "test", "__pycache__")
    copy = shutil.copytree(sys.base_prefix, folder / "python", symlinks=True, ignore=skipped)
    return str(copy / "bin" / Path(sys.executable).resolve().name), str(copy / "lib")


def test_a_users_own_prefect_settings(made: Callable[..., Clone], place: Path) -> None:
    profiles = place / "profiles.toml"
    profiles.write_text('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n')
    clone = made(
        environment={
            "PREFECT_PROFILES_PATH": str(profiles),
            "PREFECT_API_URL": "http://127.0.0.1:1/api",
            "PREFECT_API_KEY": "pnu_mine",
            "PREFECT_API_AUTH_STRING": "me:secret",
            "PREFECT_HOME": str(place / "home"),
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_SERVER_API_PORT": "1",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/mine.db",
        }
    )
    clone.up()
    clone.hand_off()
    assert not (place / "home" / "prefect.db").exists()


def test_two_clones_at_once(made: Callable[..., Clone]) -> None:
    clones = made("one"), made("two")
    with ThreadPoolExecutor() as together:
        list(together.map(Clone.up, clones))
        list(together.map(Clone.hand_off, clones))
    assert "worker" in clones[0].down()
    clones[1].hand_off()


def test_a_folder_that_is_moved_while_its_stack_runs(made: Callable[..., Clone]) -> None:
    clone = made()
    clone.up()
    clone.hand_off()
    clone.folder = clone.folder.rename(clone.folder.with_name("moved"))
    assert "worker" in clone.down()
    clone.up()
    clone.hand_off()


def test_a_process_id_that_is_somebody_elses_since_a_reboot(made: Callable[..., Clone]) -> None:
    clone = made()
    (clone.folder / "data").mkdir()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        for name in ("server", "worker", "sample-api"):
            note = {"pid": stranger.pid, "started": psutil.Process(stranger.pid).create_time() - 3600}
            (clone.folder / "data" / f"{name}.pid.json").write_text(json.dumps(note))
        assert "nothing was running" in clone.down()
        clone.up()
        clone.down()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


def test_a_port_that_another_program_has(made: Callable[..., Clone]) -> None:
    clone = made()
    with socket.socket() as other:
        other.bind(("127.0.0.1", clone.port))
        other.listen()
        done = clone.type("stack", "up", "--port", str(clone.port))
    assert done.returncode == 1
    assert f"port {clone.port}" in done.stderr
    assert "PORT=" in done.stderr
    assert "Traceback" not in done.stderr
    assert "nothing was running" in clone.down()
