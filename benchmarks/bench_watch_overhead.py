"""Question: what does watching cost? A training step bare, and watched every step or every tenth.

Watched are all outputs, their gradients, weights, weight gradients and updates, with histograms.
Models: ResNet-18 with in-place ReLUs on 64×64 images, batch 32; a small transformer; an MLP. Blocks
of ten steps alternate, bare and watched, on the same weights, each after a step that is not timed.
Reported is the median of the ratios of neighbours.

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
MODELS = {  # and pairs of blocks
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


def measure(training: Training, pairs: int, **how: float) -> Ratio:
    """The ratio of blocks watched and bare, as `lw.watch` is told how."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        training.steps(BLOCK)  # warm up
        for turn in range(pairs):
            found = {}
            for watched in ((False, True), (True, False))[turn % 2]:
                if watched:
                    with lw.watch(training.model, dir=folder, pictures=False, **how):  # pyright: ignore[reportArgumentType]
                        training.steps(1)  # of which the first sight of each tensor is part
                        found[watched] = seconds(training)
                else:
                    training.steps(1)
                    found[watched] = seconds(training)
            ratios.append(found[True] / found[False])
    return Ratio.of(ratios)


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(2)
    found, goals = {}, {}
    for name, (make, pairs) in MODELS.items():
        for every in (1, 10):
            torch.manual_seed(0)
            label = f"{name}, watched every {'step' if every == 1 else f'{every} steps'} / bare"
            found[label] = measure(Training(make()), 2 if quick else pairs, every=every)
            goals |= {label: GOALS[name, every]} if (name, every) in GOALS else {}
            print(f"{label}: {found[label]}", flush=True)
        torch.manual_seed(0)
        label = f"{name}, budget=0.02 / bare"
        found[label] = measure(Training(make()), 2 if quick else pairs, every=1, budget=0.02)
        print(f"{label}: {found[label]}", flush=True)
    if not quick:
        write("watch_overhead", __doc__, found, goals=goals)


if __name__ == "__main__":
    main()
