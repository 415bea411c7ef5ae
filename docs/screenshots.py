"""Makes the pictures of the documentation anew: `python docs/screenshots.py`, with Chromium installed.

A stack of its own reads four sources, and one reading fails, as at 3 a.m. Then a browser without a window opens
Prefect's UI and the status page. The pictures go to docs/images.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey  # noqa: E402
from prefect.client.schemas.objects import FlowRun  # noqa: E402
from prefect.client.schemas.sorting import ArtifactSort  # noqa: E402

from stack import demo  # noqa: E402
from stack.local import processes, up  # noqa: E402
from stack.local.profiles import Stack  # noqa: E402

IMAGES = PROJECT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = "1360,900"
RENDER_MILLISECONDS = 20_000


def take(browser: str, url: str, picture: str, folder: Path, size: str = SIZE) -> None:
    """One picture of a page, once its scripts have had time to draw it."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
    options += ["--force-prefers-reduced-motion", "--run-all-compositor-stages-before-draw"]
    options += [f"--window-size={size}", f"--virtual-time-budget={RENDER_MILLISECONDS}", f"--user-data-dir={folder}"]
    file = IMAGES / f"{picture}.png"
    command = [browser, *options, f"--screenshot={file}", url]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    print(f"wrote {file.relative_to(PROJECT)}")


def work(stack: Stack, folder: Path) -> dict[str, str]:
    """What the pictures show; picture -> page of the UI."""
    for deployment in ("dummyjson-products", "dummyjson-carts", "dummyjson-users", "shop-orders", "dummyjson-products"):
        start(stack, f"extract/{deployment}", "transform")
    start(stack, "extract/dummyjson-carts", "extract", "-p", "page_size=0")
    with up.client(stack) as api:
        automations = {each.name: each.id for each in api.read_automations()}
        written = ArtifactFilter(key=ArtifactFilterKey(any_=["baton-status"]))
        status = api.read_artifacts(artifact_filter=written, sort=ArtifactSort.UPDATED_DESC, limit=1)[0]
    newest = ended(stack, "transform")[-1]
    ui = stack.prefect_api.removesuffix("/api")
    return {
        "automation": f"{ui}/automations/automation/{automations['transform_when_extract_finishes']}",
        "transform-run": f"{ui}/runs/flow-run/{newest.id}?tab=Artifacts",
        "events": f"{ui}/events",
        "baton-status": f"{ui}/artifacts/artifact/{status.id}",
    }


def start(stack: Stack, deployment: str, until: str, *options: str) -> None:
    """A run of the deployment; returns when one more run of the flow `until` has ended."""
    before = len(ended(stack, until))
    command = [str(Path(sys.executable).with_name("prefect")), "deployment", "run", deployment, *options]
    subprocess.run(command, env=stack.environment, cwd=PROJECT, check=True, capture_output=True)
    processes.wait_until(lambda: len(ended(stack, until)) > before, f"a run of {until} after {deployment}", 180)


def ended(stack: Stack, flow: str) -> list[FlowRun]:
    """The runs of the flow that have ended, in the order of their start."""
    runs = [run for run in demo.runs_of(stack, flow) if run.state is not None and run.state.is_final()]
    return sorted(runs, key=lambda run: str(run.start_time))


def main() -> int:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print(f"expected a browser, found none of {', '.join(BROWSERS)}; on Debian: apt install chromium")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="baton-screenshots-") as temporary:
        folder = Path(temporary)
        stack = up.start_stack(folder / "stack", api=None, port=processes.free_port(), schedules=True, say=print)
        try:
            pages = work(stack, folder)
            page = folder / "status.html"
            baton = Path(sys.executable).with_name("baton")
            subprocess.run([baton, "status", "--html", page], env=stack.environment, cwd=PROJECT, capture_output=True)
            take(browser, page.as_uri(), "status", folder / "browser", "1360,1500")
            for picture, url in pages.items():
                take(browser, url, picture, folder / "browser")
        finally:
            processes.stop_all(folder / "stack")
    return 0


if __name__ == "__main__":
    sys.exit(main())
