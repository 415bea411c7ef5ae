"""A real browser without a window: what it makes of a page, and what it says on its console."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Shown:
    """The document after its scripts, and the lines of the console."""

    document: str
    console: list[str]


def show(page: Path, home: Path, anchor: str = "", *, dark: bool = False) -> Shown:
    """Opens the page, with a home for the browser; skips the test where there is no browser, unless CI is set."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None and not os.environ.get("CI"):
        pytest.skip(f"no browser installed: none of {', '.join(BROWSERS)} found")
    assert browser, f"CI must have a browser: none of {', '.join(BROWSERS)} found"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=20000"]
    # No name is looked up, so a page that asks the network for something says so on the console.
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={home}"]
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom"]
    done = subprocess.run(
        [browser, *flags, page.as_uri() + anchor], capture_output=True, text=True, timeout=120, check=True
    )
    return Shown(done.stdout, re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr))
