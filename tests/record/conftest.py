"""A record with something of everything, for all tests of the room."""

import numpy as np
import pytest

from lampwork._core.summary import WIDTH, empty_row
from lampwork.record.schema import Tensor
from lampwork.record.writer import Writer

OUTPUT = Tensor(0, "fc", "output", 1, 0, (8, 4), "float32", {"module": "Linear", "root": False})
SECOND = Tensor(1, "fc", "output", 2, 0, (8, 4), "float32", {"module": "Linear", "root": False})
WEIGHT = Tensor(
    2, "fc.weight", "weight", 1, 0, (4, 4), "bfloat16", {"requires_grad": True, "optimized": True}
)


@pytest.fixture
def row():
    """A function that makes a row whose every column is a number of its own."""
    return lambda seed: np.random.default_rng(seed).normal(size=WIDTH)


@pytest.fixture
def run(tmp_path, row):
    """The folder of a small finished run."""
    path = tmp_path / "runs" / "small"
    path.mkdir(parents=True)
    writer = Writer(path / "rank0.sqlite", {"model": "Net", "argv": ["train.py", "--größe"]})
    for tensor in (OUTPUT, SECOND, WEIGHT):
        writer.tensor(tensor)
    writer.step(0, 0.5, {0: row(0), 2: row(1)}, {"training": True, "lr": [0.1]})
    writer.step(10, 1.5, {0: row(2), 1: empty_row(), 2: row(3)}, {"training": False})
    writer.scalar(0, "loss", 2.5)
    writer.scalar(0, "accuracy", 0.25)
    writer.scalar(1, "loss", float("nan"))
    writer.scalar(2, "loss", float("inf"))
    writer.picture(0, "conv", "kernels", (2, 3, 3), bytes(range(18)))
    writer.loader("Digits", {"batches": 7, "wait_share": 0.5, "skipped": [[3, "KeyError"]]})
    writer.meta("finished", True)
    assert writer.close() is None
    return path
