"""The command line: its help, what it imports, and its exit codes."""

import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from flows.settings import PROJECT
from stack.cli import app, run

COMMANDS = [name for name in app if not name.startswith("-")]


def test_help_names_every_command_and_does_not_import_prefect() -> None:
    code = "import sys; from stack.cli import run; run(['--help']); print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert set(re.findall(r"^│ ([a-z]+) ", done.stdout, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "Unknown command"),
        (["doctor", "--profile", "cloud"], "one-machine"),
        (["prune"], "--days"),
        (["replay", "dummyjson.products", "../../x"], "batch_id: expected an id such as"),
        (["replay", "products", "20261124T000000Z-0123456789ab"], "source: expected a name such as"),
        (["drop", "products", "20261124T000000Z-0123456789ab"], "source: expected a name such as"),
        (["publish", "--to", "yesterday"], "run: expected the id of a transform's flow run, got 'yesterday'"),
        (["maintain"], "expected BATON_TARGET=lake"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""


def test_a_setting_that_cannot_be_read_ends_with_2_and_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATON_API_URLS", "dummyjson=http://x")
    assert run(["quarantine"]) == 2
    assert "BATON_API_URLS: expected JSON" in capsys.readouterr().err


def test_what_goes_wrong_ends_with_1_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATON_LANDING_ROOT", str(tmp_path / "landing"))
    monkeypatch.setenv("BATON_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "dummyjson").symlink_to(tmp_path)
    assert run(["prune", "--days", "0"]) == 1
    assert re.fullmatch(r"error: .*landing.*\n", capsys.readouterr().err)


def test_the_console_script_and_the_module_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("baton")
    outputs = [
        subprocess.run([*command, "down", "--help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        for command in ([script], [sys.executable, "-m", "stack"])
    ]
    assert outputs[0] == outputs[1]
    assert "Usage: baton down" in outputs[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_130_after_it_has_cleaned_up(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
import os, time, stack.cli
@stack.cli.app.command
def wait():
    try:
        os.kill(os.getpid(), {int(number)})
        time.sleep(60)
    finally:
        print("cleaned up")
import sys
sys.argv = ["baton", "wait"]
sys.exit(stack.cli.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        # Tests that run in the background of a shell ignore SIGINT, and what they start would, too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout) == (130, "cleaned up\n"), done.stderr
