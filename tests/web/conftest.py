"""A browser, a server and the runs that it shows, once for all tests of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lampwork._core.errors import InputError
from lampwork.view.server import built_page
from tests.view.conftest import Build

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SOUND, BROKEN, LIVE = "sound", "broken 50% größe", "live"
HOSTILE = "<img src=x onerror=alert(1)>"

TRAIN = """
import sys, time
from pathlib import Path
import torch
from torch import nn
import lampwork as lw

folder, stop = sys.argv[1], Path(sys.argv[2])
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y = torch.randn(64, 1, 8, 8), torch.randint(10, (64,))
plan = lw.init.plan(model, x)
plan.apply(seed=5)
plan.verify(x, y)
loader = lw.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
with lw.watch(model, dir=folder, name="live", every=2) as run:
    until = time.monotonic() + 300
    while not stop.exists() and time.monotonic() < until:
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(loss=loss)
            time.sleep(0.02)
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A runs folder: one sound run, one with a fault, and one that is being trained."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    stop = runs.parent / "stop"
    command = [sys.executable, "-c", TRAIN, str(runs), str(stop)]
    training = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _record(Build(runs / SOUND, steps=31, finished=True), fault=False)
    _record(Build(runs / BROKEN, steps=31, finished=True), fault=True)
    until = time.monotonic() + 60
    while not (runs / LIVE / "rank0.sqlite").exists() and time.monotonic() < until:
        time.sleep(0.05)
    yield runs
    stop.touch()
    try:
        training.wait(30)
    finally:
        training.kill()
        training.wait(30)


def _record(made: Build, *, fault: bool) -> None:
    """Four layers over four recorded steps, one of them called twice, with pictures."""
    rng = np.random.default_rng(0)
    for step in (0, 10, 20, 30):
        for i, name in enumerate(("net.a", "net.b", "net.c", HOSTILE)):
            output = rng.normal(0, 1 + i, (64, 5))
            if fault and step == 30 and i > 1:
                output[0] = np.nan
            for call in (1, 2) if name == "net.b" else (1,):
                made.add("output", name, step, output, call=call, units=5, module="Linear")
            made.add("grad_output", name, step, rng.normal(0, 0.1**i, (64, 5)))
            for kind, size in (("weight", 0.5), ("grad", 0.1), ("update", 1e-3)):
                values = rng.normal(0, size, (5, 5))
                made.add(kind, f"{name}.weight", step, values, module="Linear", optimized=True)
    for step in range(31):
        value = float("nan") if fault and step == 30 else 2 * float(np.exp(-step / 10))
        made.writer.scalar(step, "loss", value)
    stats = {"batches": 31, "samples": 1984, "wait_s": 1.5, "epoch_s": 6.0, "wait_share": 0.25}
    stats |= {"skipped": [[3, "bad"]], "engine": "arena", "bottleneck": "The loader is the limit."}
    made.writer.loader("Digits", stats)
    made.add_pictures().read()


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium for all tests; they are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("LAMPWORK_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no chromium to open the page with: apt-get install chromium")
    with api.sync_playwright() as playwright:
        # launch() makes a fresh folder for the user's data each time.
        running = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def home(folder) -> Iterator[str]:
    """The address of `lampwork view` over the folder."""
    try:
        built_page()
    except InputError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "lampwork", "view", "--no-browser", "--port", "0"]
    with subprocess.Popen(
        [*command, "--dir", str(folder)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        yield found[0]
        server.terminate()


@pytest.fixture
def open_page(browser, home):
    """`open_page(path, width=…, …)`: a page in a fresh profile; nothing may go wrong in it."""
    wrong: list[str] = []
    contexts = []

    def opened(path: str, *, width: int = 1280, scheme: str = "light", locale: str = "en-US"):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, locale=locale
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda r: r.url.startswith((home, "blob:")) or wrong.append(r.url))
        page.goto(home + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
