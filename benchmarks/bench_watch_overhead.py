"""Question: what does watching cost? A training step bare, and watched every step or every tenth.

Watched are all outputs, their gradients, weights, weight gradients and updates, with histograms.
Models: ResNet-18 with in-place ReLUs on 64×64 images, batch 32; a small transformer; an MLP. Blocks
of ten steps alternate, bare and watched, on the same weights; the run goes on between them, its
hooks taken off. Reported is the median of the ratios of neighbours.

    python benchmarks/bench_watch_overhead.py [--quick]

Caveat: the models are small, so that the Python of each tensor shows in the last two.
"""

from __future__ import annotations

import tempfile
import time

import torch
from ratios import Ratio, write
from turns import options
from watch_models import Training, mlp, resnet, transformer

import lampwork as lw

BLOCK = 10
MODELS = {
    "ResNet-18": (resnet, 7),
    "small transformer": (transformer, 11),
    "MLP": (mlp, 15),
}
GOALS = {("ResNet-18", 1): "≤ 1.05", ("ResNet-18", 10): "≤ 1.01"}


def seconds(training: Training) -> float:
    """Of one block of steps."""
    began = time.perf_counter()
    training.steps(BLOCK)
    return time.perf_counter() - began


def measure(training: Training, pairs: int, **how: float) -> tuple[Ratio, float]:
    """The ratio of blocks watched and bare, and the share of the steps that were recorded."""
    ratios, recorded = [], 0
    with tempfile.TemporaryDirectory() as folder:
        training.steps(BLOCK)  # warm up
        run = lw.watch(training.model, dir=folder, pictures=False, **how)  # pyright: ignore[reportArgumentType]
        with run:
            training.steps(1)
            for turn in range(pairs):
                found = {}
                for watched in ((False, True), (True, False))[turn % 2]:
                    run.pause() if not watched else run.resume()
                    found[watched] = seconds(training)
                run.resume()
                ratios.append(found[True] / found[False])
        from lampwork.record.reader import Record

        assert run.path is not None
        recorded = len(Record(run.path).steps)
    return Ratio.of(ratios), recorded / (pairs * BLOCK + 1)
