"""Question: how soon is the first batch of a later epoch there, without `persistent_workers`?

A dataset that holds 64 samples, and one of 1,024, batches of 8, two forked workers; the first batch
and the whole epoch are timed, each from `iter(loader)`. The epoch timed follows one of the same
loader: after a fork each page of the trainer is slow to write for the first time, so an epoch of
torch's would slow one of ours.

Goal: 10 times sooner than torch's, which starts its workers anew; ours finds the workers of the
epoch before, once it has looked whether the dataset is unchanged.

    python benchmarks/bench_loader_later.py [--quick]

Caveat: what torch pays is the fork of the training process, which grows with its memory; what we
pay is the look at the dataset, which grows with what that holds, by 4 µs a tensor.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from ratios import Ratio, write
from turns import Seconds, in_order, insist_equal, options, ratio
from workloads import Arrays

import lampwork as lw

ROUNDS = 45
LOADERS: dict[str, Any] = {"torch": torch.utils.data.DataLoader, "ours": lw.DataLoader}


def first_and_epoch_s(loader: Iterable[Any]) -> tuple[float, float]:
    """Seconds from `iter(loader)` to the first batch, and to the end of the epoch."""
    began = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = time.perf_counter()
    for _ in batches:
        pass
    del batches  # the workers' end belongs to the epoch
    return first - began, time.perf_counter() - began


def later_epochs(samples: int, rounds: int) -> tuple[Seconds, Seconds]:
    """First batches and whole epochs, from the second epoch on."""
    data = Arrays(samples, 8, stored=samples)
    makers = {
        name: partial(LOADERS[name], data, 8, shuffle=True, num_workers=2) for name in LOADERS
    }
    insist_equal(makers)
    loaders = {name: make() for name, make in makers.items()}
    firsts: Seconds = {name: [] for name in LOADERS}
    epochs: Seconds = {name: [] for name in LOADERS}
    for turn in range(rounds):
        for name in in_order(LOADERS, turn):
            first_and_epoch_s(loaders[name])
            first, epoch = first_and_epoch_s(loaders[name])
            firsts[name].append(first)
            epochs[name].append(epoch)
    return firsts, epochs


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(1)
    found: dict[str, Ratio] = {}
    goals: dict[str, str] = {}
    for samples, goal in ((64, "≥ 10×"), (1024, "")):
        firsts, epochs = later_epochs(samples, 2 if quick else ROUNDS)
        whole = f"whole epoch of {samples // 8} batches"
        for what, seconds in (("first batch", firsts), (whole, epochs)):
            label = f"later epoch, {samples:,} samples, 2 workers that do not persist, {what}"
            label += ": torch's time / ours"
            found[label], goals[label] = ratio(seconds["torch"], seconds["ours"]), goal
            print(f"{label}: {found[label]}, goal {goal or 'none'}", flush=True)
    if not quick:
        write("loader_later", __doc__, found, goals=goals)


if __name__ == "__main__":
    main()
