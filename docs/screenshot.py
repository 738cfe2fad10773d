"""Makes docs/page.png: the page over `lampwork demo --broken`, drawn by headless Chromium.

With `--all FOLDER` every view is drawn there, wide and narrow, light and dark, in both languages,
to be looked at.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VIEWS = ("overview", "layers", "pictures", "data", "initialisation", "compare")
LAYER = "layers?layer=3&kind=grad_output"
WIDTHS = {"wide": 1280, "narrow": 360}


def demo(folder: Path, *options: str) -> None:
    """Train the demo into a folder of runs."""
    command = [sys.executable, "-m", "lampwork", "demo", "--dir", str(folder), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def viewing(folder: Path) -> Iterator[str]:
    """`lampwork view` over a folder, and its address."""
    command = [sys.executable, "-m", "lampwork", "view", "--no-browser", "--port", "0"]
    with subprocess.Popen(
        [*command, "--dir", str(folder)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        yield found[0]
        server.terminate()


@contextmanager
def browsing() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("LAMPWORK_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        sys.exit("no chromium to draw the page with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def shot(
    browser: Any, address: str, file: Path, *, width: int, scheme: str = "light",
    language: str = "en", height: int = 860, whole: bool = True, sharp: float = 1.0,
) -> None:  # fmt: skip
    """One view as a picture, when everything in it is drawn."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=sharp,
        locale="zh-CN" if language == "zh" else "en-US",
    )  # fmt: skip
    page = context.new_page()
    page.goto(address)
    page.locator("main .panel, main .empty").first.wait_for()
    page.wait_for_timeout(1200)
    page.screenshot(path=file, full_page=whole)
    context.close()


def main() -> None:
    """As the docstring of this file tells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", metavar="FOLDER", type=Path)
    folder = parser.parse_args().all
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / "runs"
        demo(runs, "--broken")
        if folder is not None:
            demo(runs, "--epochs", "10")
        with viewing(runs) as home, browsing() as browser:
            if folder is None:
                page = HERE / "page.png"
                shot(
                    browser,
                    f"{home}#/demo-broken/{LAYER}",
                    page,
                    width=1280,
                    height=1010,
                    whole=False,
                )
                print(page)
                return
            folder.mkdir(parents=True, exist_ok=True)
            for view in VIEWS:
                run = "demo-broken" if view in ("overview", "compare") else "demo"
                path = LAYER if view == "layers" else view
                for size, width in WIDTHS.items():
                    for scheme, language in (("light", "en"), ("dark", "zh")):
                        file = folder / f"{view}-{size}-{scheme}-{language}.png"
                        shot(browser, f"{home}#/{run}/{path}", file, width=width, scheme=scheme,
                             language=language)  # fmt: skip
                        print(file)


if __name__ == "__main__":
    main()
