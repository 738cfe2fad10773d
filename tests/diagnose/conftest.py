"""Records for the rules: with exactly the statistics that a test asks for, and of real training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lampwork._core.summary import COLUMN, Row, empty_row
from lampwork.record.reader import Record
from lampwork.record.runs import database
from lampwork.record.schema import Tensor
from lampwork.record.writer import Writer
from tests.diagnose.digits import Batch, Digits

Rows = Row | Sequence[Row | None] | None
"""The same row at each step, or one for each; None where the tensor is not seen."""


def make_row(rms: float = 1.0, count: float = 6400, **columns: float) -> Row:
    """A row of zero mean with this root mean square; further columns by name."""
    row = empty_row()
    spread = 2.0 * rms
    values = {"count": count, "sumsq": count * rms**2, "min": -spread, "max": spread, "dead": 0}
    for name, value in {**values, **columns}.items():
        row[COLUMN[name]] = value
    return row


WEIGHT, GRAD, UPDATE = make_row(0.1), make_row(0.01), make_row(1e-4)
OUTPUT, GRAD_OUTPUT = make_row(units=100), make_row(1e-3)


class Synthetic:
    """A run made up step by step; `read` passes it through the real writer and reader.

    Args:
        folder: the run's folder.
        steps: how many recorded steps, ten optimizer steps apart.
        meta: facts of the run.
    """

    row = staticmethod(make_row)

    def __init__(self, folder: Path, steps: int = 10, **meta: Any) -> None:
        folder.mkdir()
        self.folder, self.steps = folder, steps
        facts = {"model": "Net", "mode_modules": [], "optimizers": ["SGD"], "finished": True}
        self._writer = Writer(database(folder, 0), {**facts, **meta})
        self._tensors: list[Tensor] = []
        self._rows: list[dict[int, Row]] = [{} for _ in range(steps)]
        self._notes: list[dict[str, Any]] = [
            {"training": True, "stale_gradient": False, "lr": [0.1], "optimizer": "SGD"}
            for _ in range(steps)
        ]

    def tensor(
        self, kind: str, name: str, rows: Rows, *, shape: tuple[int, ...] = (64, 100),
        dtype: str = "float32", call: int = 1, part: int = 0, **facts: Any,
    ) -> Synthetic:  # fmt: skip
        """One tensor of any kind."""
        number = len(self._tensors)
        self._tensors.append(Tensor(number, name, kind, call, part, shape, dtype, facts))
        if not isinstance(rows, list | tuple):
            rows = [rows] * self.steps
        for step, row in zip(self._rows, rows, strict=True):
            if row is not None:
                step[number] = row
        return self

    def output(self, name: str, rows: Rows, *, module: str = "Linear", **options: Any) -> Synthetic:
        """The output of a module."""
        return self.tensor(
            "output", name, rows, **{"module": module, "root": name == "", **options}
        )

    def parameter(
        self, name: str, *, shape: tuple[int, ...] = (100, 100), module: str = "Linear",
        weight: Rows = WEIGHT, grad: Rows = GRAD, update: Rows = UPDATE,
        requires_grad: bool = True, optimized: bool = True,
    ) -> Synthetic:  # fmt: skip
        """One parameter: weight, gradient and update."""
        facts = {"module": module, "requires_grad": requires_grad, "optimized": optimized}
        for kind, rows in (("weight", weight), ("grad", grad), ("update", update)):
            self.tensor(kind, name, rows, shape=shape, **facts)
        return self

    def layer(
        self, name: str, *, module: str = "Linear", output: Rows = OUTPUT,
        gradient: Rows = GRAD_OUTPUT, **parameter: Any,
    ) -> Synthetic:  # fmt: skip
        """A layer with a weight and no bias: output, its gradient, and the weight's rows."""
        self.output(name, output, module=module)
        self.tensor("grad_output", name, gradient, module=module, root=False)
        return self.parameter(f"{name}.weight", module=module, **parameter)

    def stack(self, depth: int, **options: Callable[[int], Any]) -> Synthetic:
        """Layers "0", "1", …; each option is a function of the position."""
        for i in range(depth):
            self.layer(str(i), **{key: value(i) for key, value in options.items()})
        return self

    def loss(self, values: Sequence[float], name: str = "loss") -> Synthetic:
        """Logged numbers, one a step."""
        for step, value in enumerate(values):
            self._writer.scalar(step, name, float(value))
        return self

    def notes(self, **series: Any) -> Synthetic:
        """Notes by key: one value for all steps, or a list with one for each."""
        for key, values in series.items():
            each = values if isinstance(values, list) else [values] * self.steps
            for notes, value in zip(self._notes, each, strict=True):
                notes[key] = value
        return self

    def loader(self, dataset: str, **stats: Any) -> Synthetic:
        """The timings of a loader."""
        self._writer.loader(dataset, stats)
        return self

    def read(self) -> Record:
        """Finish writing, and open the record."""
        for tensor in self._tensors:
            self._writer.tensor(tensor)
        for i, (rows, notes) in enumerate(zip(self._rows, self._notes, strict=True)):
            self._writer.step(10 * i, 0.1 * i, rows, notes)
        assert self._writer.close() is None
        return Record(self.folder)


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., Synthetic]:
    """Begins a new synthetic run."""
    numbers = itertools.count()
    return lambda **options: Synthetic(tmp_path / f"run{next(numbers)}", **options)


@pytest.fixture
def noise() -> np.random.Generator:
    """Noise that is the same each time."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def images() -> Batch:
    """The digits, loaded once."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)


@pytest.fixture
def digits(images: Batch, tmp_path: Path) -> Iterator[Digits]:
    """The digits, with one thread and a fixed seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield Digits(*images, tmp_path)
    torch.set_num_threads(threads)
