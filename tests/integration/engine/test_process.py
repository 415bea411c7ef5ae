"""What the engine forks behaves as a fresh interpreter does: in what it finds, in how it ends, in whom it obeys."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from benchmarks.handoff import accounting
from stack.local import processes
from tests.integration.engine.conftest import ENGINE, SECONDS, Engine, start_engine

REPORT = """
import json, locale, logging, os, random, signal, sys, threading, time
import prefect.flow_engine, prefect.logging.configuration
from prefect.context import get_settings_context


def logger(name):
    found = logging.getLogger(name)
    return [found.level, found.propagate, found.disabled, [[type(h).__name__, h.level] for h in found.handlers]]


context = get_settings_context()
print(json.dumps({
    "arguments": [os.path.basename(sys.argv[0]), *sys.argv[1:], *sys.orig_argv[1:]],
    "main": [sys.modules["__main__"] is sys.modules[__name__], __spec__.name],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "path": sys.path,
    "umask": os.umask(0),
    "open files": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
    "streams": [[s.encoding, s.errors, s.line_buffering, s.isatty()] for s in (sys.stdin, sys.stdout, sys.stderr)],
    "signals": {s.name: str(signal.getsignal(s)) for s in signal.valid_signals() if isinstance(s, signal.Signals)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "threads": [thread.name for thread in threading.enumerate()],
    "zone": time.tzname,
    "encodings": [sys.getfilesystemencoding(), locale.getpreferredencoding(), str(locale.getlocale())],
    "input": sys.stdin.read(),
    "settings": context.settings.model_dump(mode="json"),
    "profile": [context.profile.name, {str(k.name): v for k, v in context.profile.settings.items()}],
    "logging": prefect.logging.configuration.PROCESS_LOGGING_CONFIG,
    "loggers": {
        name: logger(name)
        for name in ["", "mine", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect._internal", "uvicorn"]
    },
}))
"""
HOLD = """
import signal, sys
print("holding", flush=True)
signal.pause()
"""


def module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


def children(pid: int) -> list[int]:
    """The process id of every child, also of one that has ended and waits for its parent."""
    return [child.pid for child in psutil.Process(pid).children()]


def grandchild(client: "subprocess.Popen[str]", engine: Engine) -> int:
    """The process that the client's module runs in, once it says that it holds."""
    assert client.stdout is not None
    assert client.stdout.readline() == "holding\n"
    (watcher,) = children(engine.pid)
    (child,) = children(watcher)
    return child


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"A_VARIABLE": "with = and \N{SNOWMAN}", "TZ": "Asia/Tokyo"},
        {
            "PREFECT_API_URL": "http://127.0.0.1:1/api",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_CLIENT_MAX_RETRIES": "1",
        },
        {"PREFECT_LOGGING_EXTRA_LOGGERS": "mine", "PREFECT_LOGGING_LOGGERS_UVICORN_LEVEL": "ERROR"},
        {"PREFECT_HOME": "{folder}/home", "PREFECT_PROFILE": "other"},
        {"PYTHONPATH": "{folder}/library:relative"},
    ],
    ids=["nothing", "variables", "settings", "logging", "profile", "pythonpath"],
)
def test_a_fork_finds_what_a_fresh_interpreter_finds(engine: Engine, folder: Path, environment: dict[str, str]) -> None:
    module(folder, "report", REPORT)
    (folder / "home").mkdir()
    (folder / "home" / "profiles.toml").write_text('[profiles.other]\nPREFECT_API_URL = "http://other/api"\n')
    given = {name: value.format(folder=folder) for name, value in environment.items()}

    def found(command: list[str]) -> dict[str, object]:
        done = subprocess.run(
            ["/bin/sh", "-c", 'umask 027; exec "$@"', "sh", *command, "report", "an argument"],
            cwd=folder,
            env={**os.environ, **given},
            input="some input",
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return dict(json.loads(done.stdout))

    fresh, forked = found([sys.executable, "-m"]), found(engine.command())
    assert forked == fresh


def test_nothing_of_a_run_is_found_by_the_next(engine: Engine, folder: Path) -> None:
    module(
        folder,
        "leave",
        """
        import logging, os, random, sys, tempfile
        import helper, prefect
        print(helper.VALUE, os.environ.get("LEFT"), "left" in sys.modules, "/left" in sys.path, os.getcwd())
        print(logging.getLogger("left").handlers, hasattr(prefect, "left"))
        print(random.random(), tempfile.mktemp())
        os.environ["LEFT"] = "1"; sys.modules["left"] = sys; sys.path.insert(0, "/left"); prefect.left = 1
        logging.getLogger("left").addHandler(logging.StreamHandler()); random.seed(1); os.chdir("/")
        """,
    )
    module(folder, "helper", "VALUE = 1")
    first = engine.run(folder, "leave").stdout.splitlines()
    module(folder, "helper", "VALUE = 22")
    second = engine.run(folder, "leave").stdout.splitlines()
    assert first[:2] == [f"1 None False False {folder}", "[] False"]
    assert second[:2] == [f"22 None False False {folder}", "[] False"]
    assert not set(first[2].split()) & set(second[2].split())


def test_the_engine_knows_nothing_of_this_projects_code(engine: Engine, folder: Path) -> None:
    module(folder, "known", "import sys; print([name for name in sys.modules if name in ('flows', 'stack', 'tests')])")
    assert engine.run(folder, "known").stdout == "[]\n"


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_an_exit_code_is_passed_on(engine: Engine, folder: Path, code: int) -> None:
    module(folder, "end", f"import sys; print('out'); print('err', file=sys.stderr); sys.exit({code})")
    done = engine.run(folder, "end")
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")


def test_an_error_ends_with_its_traceback(engine: Engine, folder: Path) -> None:
    module(folder, "fail", "raise RuntimeError('it broke')")
    done = engine.run(folder, "fail")
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: it broke\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_child_that_a_signal_ends_ends_the_client_by_the_same_signal(
    engine: Engine, folder: Path, number: signal.Signals
) -> None:
    module(folder, "end", f"import os; os.kill(os.getpid(), {int(number)})")
    assert engine.run(folder, "end").returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_client_reaches_the_child(engine: Engine, folder: Path, number: signal.Signals) -> None:
    module(
        folder,
        "obey",
        """
        import signal, sys
        for number in (1, 2, 10, 15):
            signal.signal(number, lambda got, _: sys.exit(100 + got))
        print("holding", flush=True)
        signal.pause()
        """,
    )
    with engine.start(folder, "obey") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "holding\n"
        client.send_signal(number)
        assert client.wait(SECONDS) == 100 + number


def test_a_client_that_is_killed_takes_its_child_along(engine: Engine, folder: Path) -> None:
    module(folder, "hold", HOLD)
    with engine.start(folder, "hold") as client:
        child = grandchild(client, engine)
        client.kill()
        client.wait(SECONDS)
    processes.wait_until(lambda: gone(child), "the child to be gone", SECONDS)


def test_a_client_whose_watcher_is_killed_takes_its_child_along_and_says_so_by_its_end(
    engine: Engine, folder: Path
) -> None:
    module(folder, "hold", HOLD)
    with engine.start(folder, "hold") as client:
        child = grandchild(client, engine)
        (watcher,) = children(engine.pid)
        os.kill(watcher, signal.SIGKILL)
        assert client.wait(SECONDS) == -signal.SIGKILL
    processes.wait_until(lambda: gone(child), "the child to be gone", SECONDS)


def test_a_run_outlives_the_engine_and_the_next_one_starts_its_own_interpreter(mortal: Engine, folder: Path) -> None:
    module(folder, "obey", "print('holding', flush=True); print(input())")
    with mortal.start(folder, "obey") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "holding\n"
        os.killpg(mortal.pid, signal.SIGKILL)
        os.waitpid(mortal.pid, 0)
        assert client.communicate("goes on\n", SECONDS) == ("goes on\n", "")
        assert client.returncode == 0
    module(folder, "end", "import sys; print('ran'); sys.exit(5)")
    done = mortal.run(folder, "end")
    assert (done.returncode, done.stdout) == (5, "ran\n")
    assert done.stderr.startswith(f"WARNING: no prefork engine, this run starts its own interpreter: {mortal.socket}: ")
    again = start_engine(mortal.log.parent)
    assert again.run(folder, "end").stderr == "", "an engine takes the place of one that was killed"


def test_an_engine_that_hangs_is_given_up_on_and_runs_nothing_when_it_wakes_up(mortal: Engine, folder: Path) -> None:
    module(folder, "count", "print('ran', file=open('runs', 'a'))")
    os.kill(mortal.pid, signal.SIGSTOP)
    done = mortal.run(folder, "count")
    os.kill(mortal.pid, signal.SIGCONT)
    assert done.returncode == 0
    assert "this run starts its own interpreter" in done.stderr
    assert mortal.run(folder, "count").stderr == ""
    processes.wait_until(lambda: children(mortal.pid) == [], "what was forked late to be gone", SECONDS)
    assert (folder / "runs").read_text() == "ran\nran\n"


def test_without_an_engine_the_client_becomes_an_interpreter(folder: Path) -> None:
    module(folder, "end", "import os, sys; print(os.environ['A'], sys.argv[1:]); sys.exit(5)")
    nowhere = Engine(0, folder / "nowhere" / "socket", folder)
    done = nowhere.run(folder, "end", "x", A="b")
    assert (done.returncode, done.stdout) == (5, "b ['x']\n")
    assert "No such file or directory" in done.stderr


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "PYTHONWARNINGS", "LD_PRELOAD_X", "LC_ALL"])
def test_what_an_interpreter_reads_when_it_starts_makes_it_start(engine: Engine, folder: Path, name: str) -> None:
    module(folder, "seed", f"import os; print(os.environ[{name!r}])")
    value = {"PYTHONHASHSEED": "1", "PYTHONWARNINGS": "ignore", "LC_ALL": "C"}.get(name, "x")
    done = engine.run(folder, "seed", **{name: value})
    assert done.stdout == f"{value}\n"
    assert f"the engine was started with another {name}" in done.stderr


def test_a_module_of_the_run_that_the_engine_has_from_elsewhere_makes_an_interpreter_start(
    engine: Engine, folder: Path
) -> None:
    module(folder, "requests", "VALUE = 'mine'")
    module(folder, "use", "import requests; print(requests.VALUE)")
    done = engine.run(folder, "use")
    assert done.stdout == "mine\n"
    assert "the engine has imported requests from " in done.stderr


def test_clients_are_served_side_by_side_and_leave_no_process_behind(engine: Engine, folder: Path) -> None:
    module(folder, "meet", "import os; print('holding', flush=True); print(input(), os.environ['NUMBER'])")
    clients = [engine.start(folder, "meet", NUMBER=str(number)) for number in range(12)]
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline() == "holding\n", "all of them run at the same time"
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda client: client.communicate("x\n", SECONDS), clients))
    assert said == [(f"x {number}\n", "") for number in range(12)]
    assert [client.returncode for client in clients] == [0] * 12
    processes.wait_until(lambda: children(engine.pid) == [], "no child, not even a zombie", SECONDS)


def test_the_cpu_of_a_run_that_has_ended_is_in_the_engines_books(engine: Engine, folder: Path) -> None:
    module(folder, "burn", "import time\nbegan = time.process_time()\nwhile time.process_time() - began < 0.5: pass")
    before = accounting.cpu_seconds(engine.pid)
    assert engine.run(folder, "burn").returncode == 0
    processes.wait_until(lambda: children(engine.pid) == [], "the run's processes to end", SECONDS)
    assert accounting.cpu_seconds(engine.pid) - before >= 0.5


def test_a_client_that_says_nothing_or_nonsense_stops_nobody(engine: Engine, folder: Path) -> None:
    module(folder, "end", "print('ran')")
    import socket

    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as mad:
        silent.connect(str(engine.socket))
        mad.connect(str(engine.socket))
        mad.sendall(b"\xff" * 20)
        mad.shutdown(socket.SHUT_WR)
        assert engine.run(folder, "end").stdout == "ran\n"
        assert mad.recv(100) == b""
    processes.wait_until(lambda: children(engine.pid) == [], "nothing to be left of them", SECONDS)


def test_only_its_owner_can_reach_the_socket(engine: Engine) -> None:
    assert oct(engine.socket.stat().st_mode)[-3:] == "600"
    assert oct(engine.socket.parent.stat().st_mode)[-3:] == "700"


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prefork").mkdir(mode=0o755)
    with pytest.raises(processes.StackError, match="expected a folder of this user with mode 0700"):
        start_engine(tmp_path)


def test_a_second_engine_leaves_the_first_its_socket(engine: Engine, folder: Path) -> None:
    command = [sys.executable, str(ENGINE / "server.py"), str(engine.socket)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "another engine answers there" in done.stderr
    module(folder, "end", "print('ran')")
    assert engine.run(folder, "end").stderr == ""


def test_a_preparation_that_leaves_a_thread_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    )
    with pytest.raises(processes.StackError, match="2 threads run after"):
        start_engine(tmp_path, tmp_path / "prepare.py")


def test_an_engine_that_is_told_to_end_takes_its_socket_with_it(tmp_path: Path) -> None:
    engine = start_engine(tmp_path)
    processes.stop(tmp_path, "engine")
    assert not engine.socket.exists()
    assert engine.log.read_text().count("\n") == 1, "it says that it is ready, and nothing else"


def test_a_socket_may_lie_deeper_than_its_address_has_room_for(tmp_path: Path, folder: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    engine = start_engine(deep)
    assert len(str(engine.socket)) > 108
    module(folder, "end", "print('ran')")
    done = engine.run(folder, "end")
    processes.stop(deep, "engine")
    assert (done.stdout, done.stderr) == ("ran\n", "")


def test_a_run_with_dbt_and_duckdb_ends_cleanly(engine: Engine, folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "one.sql").write_text("select 1 as one")
    (folder / "dbt_project.yml").write_text("name: small\nprofile: small\n")
    (folder / "profiles.yml").write_text(
        "small: {target: dev, outputs: {dev: {type: duckdb, path: small.duckdb, threads: 2}}}"
    )
    module(
        folder,
        "build",
        """
        import duckdb, sys
        from dbt.cli.main import dbtRunner
        result = dbtRunner().invoke(["--quiet", "--no-send-anonymous-usage-stats", "build"])
        print(result.success, duckdb.sql("select 42").fetchall(), duckdb.connect("other").sql("select 1").fetchall())
        """,
    )
    done = engine.run(folder, "build")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True [(42,)] [(1,)]\n", "")


@pytest.mark.parametrize(("insecure", "printed"), [("false", "True True"), ("true", "True False")])
def test_clients_of_a_run_share_what_they_check_certificates_with(
    engine: Engine, folder: Path, insecure: str, printed: str
) -> None:
    (folder / "contexts.py").write_text(
        "import ssl\n"
        "from prefect.client.orchestration import SyncPrefectClient\n"
        "first, second = (SyncPrefectClient('https://x/api')._client._transport._pool._ssl_context for _ in range(2))\n"
        "print(first is second, first.verify_mode == ssl.CERT_REQUIRED)\n"
    )
    done = engine.run(folder, "contexts", PREFECT_API_TLS_INSECURE_SKIP_VERIFY=insecure)
    assert (done.stdout, done.returncode) == (f"{printed}\n", 0), done.stderr


def test_an_engine_is_prepared_whatever_dbt_is_to_build_in_its_runs(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_TARGET", "prod")
    engine = start_engine(tmp_path / "engine", ENGINE / "prepare_dbt.py")
    try:
        (folder / "target.py").write_text("import os; print(os.environ['DBT_TARGET'])\n")
        assert engine.run(folder, "target").stdout == "prod\n"
    finally:
        processes.stop(tmp_path / "engine", "engine")
