"""Records for the tests, made from arrays of which the tests know every number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lampwork._core.summary import BINS, COLUMN, EXPONENT_MIN, FIRST_BIN, empty_row
from lampwork.record.reader import Record
from lampwork.record.runs import database
from lampwork.record.schema import Tensor
from lampwork.record.writer import Writer


class Build:
    """Writes a record through the real writer; `read` closes and opens it.

    `arrays` keeps what was summarised, by (kind, name, step).
    """

    def __init__(self, folder: Path, **meta: object) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        facts = {"model": "Net", "parameters": 1234, "lampwork": "0.1.0", "torch": "2.13.0"}
        self.writer = Writer(database(folder, 0), {**facts, "every": 10, **meta})
        self.arrays: dict[tuple[str, str, int], np.ndarray] = {}
        self._ids: dict[tuple[str, str, int, int], int] = {}
        self._rows: dict[int, dict[int, np.ndarray]] = {}
        self._notes: dict[int, dict[str, object]] = {}

    def add(
        self, kind: str, name: str, step: int, array: np.ndarray, *,
        call: int = 1, part: int = 0, units: int = 0, dead: int = 0, **facts: object,
    ) -> None:  # fmt: skip
        """One tensor's values at one step."""
        array = np.asarray(array, dtype=np.float64)
        key = (kind, name, call, part)
        if key not in self._ids:
            number = self._ids[key] = len(self._ids)
            self.writer.tensor(
                Tensor(number, name, kind, call, part, array.shape, "float32", facts)
            )
        self.arrays[kind, name, step] = array
        self._rows.setdefault(step, {})[self._ids[key]] = row(array, units, dead)

    def note(self, step: int, **notes: object) -> None:
        """What the session says of a step that has rows."""
        self._notes.setdefault(step, {}).update(notes)

    def add_pictures(self) -> Build:
        """Every kind of picture at steps 0 and 30."""
        rng = np.random.default_rng(0)
        shapes = {
            "kernels": (16, 5, 5), "kernels_change": (16, 5, 5), "feature_maps": (16, 5, 5),
            "weights": (1, 9, 12), "weights_change": (1, 9, 12), "input": (2, 12, 12, 3),
            "grad_cam": (2, 12, 12), "saliency": (2, 12, 12), "attention": (4, 7, 7),
        }  # fmt: skip
        for step in (0, 30):
            for kind, shape in shapes.items():
                pixels = rng.integers(0, 256, shape, dtype=np.uint8)
                self.writer.picture(step, "a.conv", kind, shape, pixels.tobytes())
        return self

    def read(self) -> Record:
        for step, rows in sorted(self._rows.items()):
            notes = {"training": True, **self._notes.get(step, {})}
            self.writer.step(step, 0.5 * step, rows, notes)
        assert self.writer.close() is None
        return Record(self.folder)


def row(array: np.ndarray, units: int = 0, dead: int = 0) -> np.ndarray:
    """The row of statistics of an array, the obvious way."""
    found, kept = empty_row(), array[np.isfinite(array)]
    numbers = {
        "count": array.size, "sum": kept.sum(), "sumsq": (kept**2).sum(),
        "zeros": (kept == 0).sum(),
        "nan": np.isnan(array).sum(), "posinf": np.isposinf(array).sum(),
        "neginf": np.isneginf(array).sum(), "units": units, "dead": dead,
        "min": kept.min(initial=np.inf), "max": kept.max(initial=-np.inf),
    }  # fmt: skip
    for name, value in numbers.items():
        found[COLUMN[name]] = value
    exponents = np.frexp(kept[kept != 0])[1] - 1 - EXPONENT_MIN
    np.add.at(found, FIRST_BIN + exponents.clip(0, BINS - 1), 1)
    return found


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Build]:
    """`build(name="run", **meta)` starts a record in a fresh folder."""

    def start(name: str = "run", **meta: object) -> Build:
        return Build(tmp_path / "runs" / name, **meta)

    return start


@pytest.fixture
def mlp(build: Callable[..., Build]) -> Build:
    """Six linear layers with their ReLU over four recorded steps, a loss, pictures, one loader.

    Parameters are registered in the reverse order of execution, as a model may well do.
    """
    made = build("mlp", steps=31, finished=True, optimizers=["SGD"], started="2026-01-02T03:04:05")
    rng = np.random.default_rng(0)
    layers = [f"layers.{i}" for i in range(6)]
    for step in (0, 10, 20, 30):
        for i, name in enumerate(layers):
            output = rng.normal(0.1 * i, 1 + i, (8, 5))
            made.add("output", name, step, output, units=5, module="Linear")
            name = name.replace("layers", "relus")
            made.add("output", name, step, output.clip(0), units=5, dead=i % 3, module="ReLU")
        made.add("output", "", step, output, root=True, module="Net")
        for i, name in reversed(list(enumerate(layers))):
            size = 10.0 ** (i - 6)
            made.add("weight", f"{name}.weight", step, rng.normal(0, 0.5, (5, 4)), module="Linear")
            made.add("grad", f"{name}.weight", step, rng.normal(0, size, (5, 4)))
            made.add("update", f"{name}.weight", step, rng.normal(0, 1e-3, (5, 4)))
            made.add("weight", f"{name}.bias", step, np.zeros(5), module="Linear")
            made.add("grad", f"{name}.bias", step, rng.normal(0, size, 5))
            made.add("update", f"{name}.bias", step, rng.normal(0, 1e-3, 5))
    for step in range(31):
        made.writer.scalar(step, "loss", float(2 * np.exp(-step / 10)))
        made.writer.scalar(step, "accuracy", step / 31)
    stats = {"batches": 31, "samples": 1984, "wait_s": 1.5, "epoch_s": 6.0, "wait_share": 0.25}
    stats |= {"skipped": [[3, "bad"]], "engine": "arena", "bottleneck": "The loader is the limit."}
    made.writer.loader("Digits", stats)
    return made
