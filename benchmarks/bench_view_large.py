"""Question: how soon does the page show a run of 2,000 tensors and 100,000 recorded steps?

The record is that of `bench_record_zoom`. `HTTP` is one answer of `lampwork view` over loopback,
as the page asks for it. `browser` is what a user waits for in headless Chromium: from the address
to the drawn canvas, in a fresh profile each time, and from the key that zooms to the drawn canvas;
`answers` is when the last byte for it was there, the rest is drawing. Each round has a server of
its own, which knows nothing of the run yet.
Layers is the heaviest of the views: the tree of all 2,000 tensors and a map of 400 of them. The
zoom is measured from the present range to a quarter of it, the map and the curve and histogram of
a chosen tensor together. The verdict is that of a run that still goes on, so that all rules are
applied to the whole record; a run that has ended has told its own.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench_record_zoom import STEPS, TENSORS, build
from ratios import write
from turns import options

DRAWN = """name => new Promise(done => {
  const look = () => document.querySelector(`[data-testid=${name}]`)?.dataset.steps
    ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""
CHART = """() => new Promise(done => {
  const look = () => document.querySelector('.u-wrap canvas')
    ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""
VERDICT = """() => new Promise(done => {
  const look = () => document.querySelector('.verdict')
    ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""
ZOOMED = """([key, names]) => new Promise(done => {
  const all = names.map(name => document.querySelector(`[data-testid=${name}]`));
  const before = all.map(one => one.dataset.steps);
  const began = performance.now();
  document.querySelector('[data-testid=heat] ~ canvas')
    .dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  const times = names.map(() => null);
  const look = () => {
    all.forEach((one, i) => {
      if (one.dataset.steps !== before[i]) times[i] ??= performance.now() - began;
    });
    if (times.includes(null)) return requestAnimationFrame(look);
    const asked = performance.getEntriesByType('resource').filter(one => one.startTime >= began);
    done([...times, Math.max(0, ...asked.map(one => one.responseEnd - began))]);
  };
  look();
})"""
REPORT = (sys.executable, "-m", "lampwork", "report")


@contextmanager
def viewing(folder: Path) -> Iterator[int]:
    """`lampwork view` over a folder, and its port."""
    command = [sys.executable, "-m", "lampwork", "view", "--no-browser", "--port", "0", "--dir"]
    with subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", server.stdout.readline())
        assert found
        try:
            yield int(found[1])
        finally:
            server.terminate()


def asked(port: int, path: str) -> tuple[float, int]:
    """Milliseconds and bytes of one answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    taken = (time.perf_counter() - began) * 1e3
    assert answer.status == 200, body[:200]
    connection.close()
    return taken, len(body)


def over_http(port: int, steps: int, one: int) -> dict[str, float]:
    part = f"from={steps // 4}&to={steps // 2}"
    paths = {
        "HTTP overview": "overview",
        "HTTP scalars": "scalars?points=600",
        "HTTP timing": "timing?points=400",
        "HTTP list of tensors": "tensors",
        "HTTP map of a kind": "heat?kind=output&statistic=rms&points=400",
        "HTTP zoom: the map": f"heat?kind=output&statistic=rms&points=400&{part}",
        "HTTP zoom: a curve": f"tensors/{one}?points=600&{part}",
        "HTTP zoom: histograms": f"tensors/{one}/histogram?points=300&{part}",
        "HTTP histograms, whole run": f"tensors/{one}/histogram?points=300",
    }
    return {name: asked(port, f"/api/runs/long/{path}")[0] for name, path in paths.items()}


def in_browser(port: int, one: int) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("LAMPWORK_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        sys.exit("no chromium: apt-get install chromium")
    home = f"http://127.0.0.1:{port}/"
    found: dict[str, float] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )

        def opened(view: str) -> Any:
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(f"{home}#/long/{view}", wait_until="commit")
            return page

        page = opened("overview")
        found["browser overview: first curve"] = page.evaluate(CHART)
        found["browser overview: verdict"] = page.evaluate(VERDICT)
        page.context.close()
        page = opened("layers")
        found["browser layers: first map"] = page.evaluate(DRAWN, "heat")
        page.context.close()
        page = opened(f"layers?layer=layers.{one}.linear")
        page.evaluate(DRAWN, "histogram")
        page.wait_for_timeout(700)
        for key, way in (("+", "in"), ("Escape", "out")):
            heat, histogram, answers = page.evaluate(ZOOMED, [key, ["heat", "histogram"]])
            found[f"browser zoom {way}: answers"] = answers
            found[f"browser zoom {way}: the map"] = heat
            found[f"browser zoom {way}: histograms too"] = histogram
            page.wait_for_timeout(300)
        browser.close()
    return found


def main() -> None:
    quick = options(__doc__).quick
    steps, tensors, times = (5000, 500, 2) if quick else (STEPS, TENSORS, 5)
    one = tensors // 10
    rounds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "long"
        folder.mkdir()
        build(folder, steps, tensors)
        for _ in range(times):
            for ask in (partial(over_http, steps=steps, one=one), partial(in_browser, one=one)):
                with viewing(folder.parent) as port:
                    for name, ms in ask(port).items():
                        rounds.setdefault(name, []).append(ms)
        found = {name: statistics.median(values) for name, values in rounds.items()}
        started = time.perf_counter()
        html = Path(place) / "long.html"
        subprocess.run([*REPORT, str(folder), "--html", str(html)], check=True)
        found["report --html, whole process"] = (time.perf_counter() - started) * 1e3
        size = html.stat().st_size
    for name, ms in found.items():
        print(f"{name:36} {ms:8.1f} ms")
    if not quick:
        write(
            "view_large",
            __doc__,
            {},
            goals={
                "browser overview: first curve, ms": "≤ 1000",
                "browser layers: first map, ms": "≤ 1000",
                "browser zoom in: the map, ms": "≤ 100",
                "browser zoom in: histograms too, ms": "≤ 100",
            },
            facts={f"{name}, ms": round(ms, 1) for name, ms in found.items()}
            | {"report --html, bytes": size},
        )


if __name__ == "__main__":
    main()
