"""On which Pythons, systems and versions of Prefect this runs: `python -m benchmarks.versions`.

Two tables in docs/versions.md, from results/versions.json. The first is by resolution: uv looks for a wheel of every
package, for each Python and each system, and says which package has none. The second is by running: for each
interpreter at hand and each version of Prefect a clone of the last commit is installed, and its demo checks every
number. Takes about five minutes for each row of the second; `--only resolution` leaves it out.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.handoff.report import commit, table
from flows.settings import PROJECT

RESULTS = Path(__file__).parent / "results" / "versions.json"
PAGE = PROJECT / "docs" / "versions.md"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PREFECTS = ("3.8.8", "3.9.1")
SYSTEMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "macOS arm64": "aarch64-apple-darwin",
    "macOS x86-64": "x86_64-apple-darwin",
    "Linux with musl, x86-64": "x86_64-unknown-linux-musl",
}
"""By the names that uv has for them. Windows is not among them: `make` and the stack need a POSIX system."""
NO_WHEEL = re.compile(r"([A-Za-z0-9._-]+)==\S+ has no usable wheels")
DEMO_HOLDS = "3 chainings, 0 faults"


def main() -> int:
    """1 if a demo did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["resolution", "demo", "page"], help="one of the tables; or no measurement")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if arguments.only in (None, "resolution"):
        results["resolution"] = {
            system: {each: resolve(each, target) for each in PYTHONS} for system, target in SYSTEMS.items()
        }
    if arguments.only in (None, "demo"):
        results["demo"] = []
        for python in [each for each in PYTHONS if shutil.which(f"python{each}")]:
            for prefect in PREFECTS if python == PYTHONS[0] else PREFECTS[-1:]:
                results["demo"].append(run_demo(python, prefect))
                print(results["demo"][-1], flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(drawn(PAGE.read_text(), results))
    return int(any(row["outcome"] != "holds" for row in results.get("demo", [])))


def resolve(python: str, target: str) -> str:
    """Empty if every package of every extra has a wheel; or what uv says is missing."""
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", "pyproject.toml", "--all-extras", "--constraint", "constraints.txt", "--no-build"]
    where = ["--python-version", python, "--python-platform", target]
    done = subprocess.run([*command, *where, "--quiet"], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    found = NO_WHEEL.findall(" ".join(done.stderr.split()))
    return ", ".join(sorted(set(found))) or done.stderr.strip()[-300:]


def run_demo(python: str, prefect: str) -> dict[str, str]:
    """Installs a clone and runs its demo there: what ran, and whether every number held."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "BATON_", "PYTHON"))}
    with tempfile.TemporaryDirectory(prefix="baton-versions-") as made:
        clone, began = Path(made) / "baton", time.monotonic()
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
        constraints = clone / "constraints.txt"
        pinned = [line for line in constraints.read_text().splitlines() if not line.startswith("prefect==")]
        if prefect != PREFECTS[0]:  # The exact versions are those of the first.
            pinned = []
        constraints.write_text("\n".join([*pinned, f"prefect=={prefect}"]) + "\n")
        command = ["make", "demo", f"PYTHON=python{python}"]
        done = subprocess.run(command, cwd=clone, env=clean, capture_output=True, text=True)
        return {
            "python": subprocess.run(
                [clone / ".venv" / "bin" / "python", "-c", "import platform; print(platform.python_version())"],
                capture_output=True,
                text=True,
            ).stdout.strip(),
            "prefect": prefect,
            "system": f"{platform.system()} {platform.machine()}",
            "commit": commit(),
            "outcome": "holds" if DEMO_HOLDS in done.stdout else (done.stdout + done.stderr).strip()[-2000:],
            "seconds": f"{time.monotonic() - began:.0f}",
        }


def drawn(page: str, results: dict[str, Any]) -> str:
    """The page with its two tables."""
    resolution = results.get("resolution", {})
    rows = [(system, *(found[each] or "yes" for each in PYTHONS)) for system, found in resolution.items()]
    demos = [
        (row["prefect"], row["python"], row["system"], "holds" if row["outcome"] == "holds" else "fails")
        for row in results.get("demo", [])
    ]
    parts = {
        "resolution": table(("", *(f"Python {each}" for each in PYTHONS)), rows),
        "demo": table(("Prefect", "Python", "system", "demo"), demos),
    }
    for name, text in parts.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        page = marked.sub(lambda found, text=text: found[1] + text + found[2], page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    sys.exit(main())
