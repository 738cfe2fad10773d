"""Question: how much faster do arrays arrive from workers? Batches of images, ours against torch's.

A Python dataset that returns a stored float32 image and a label, shuffled, two persistent workers:
3×32×32 in batches of 128 (1.6 MB) and 3×224×224 in batches of 64 (38 MB). An epoch is timed as a
whole, and the loop does nothing with the batches. For the large images there are three more
figures. Two are our samples per second as a share of those of a bare copy: of `torch.stack` of the
same samples into one preallocated buffer in this process, on one core; and of two processes that
copy the samples past the caches into slots of their own, as our workers do, but hand nothing over,
which is all that the memory of the machine gives. The third is the speed when the loop reads every
value, so that nobody gains by putting off what the reader pays.

Goal: 6 times torch's speed for the small images, 10 times and 0.7 of a bare copy for the large. A
batch has to be copied once, by the worker that collates it; torch has every page zeroed, faulted in
and unmapped again for each batch as well.

    python benchmarks/bench_loader_arrays.py [--quick]
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from ratios import Ratio, write
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler
from turns import ROUNDS, Seconds, epoch_s, in_turn, insist_equal, options, ratio
from workloads import Arrays

import lampwork as lw
from lampwork._native import streamed


@dataclass
class BareCopy:
    """The same samples in batches, stacked into one buffer, over and over."""

    dataset: Arrays
    batch_size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        buffer = torch.empty(self.batch_size, *self.dataset.images[0].shape)
        for indices in BatchSampler(RandomSampler(self.dataset), self.batch_size, drop_last=True):
            samples = [self.dataset[index] for index in indices]
            torch.stack([image for image, _ in samples], out=buffer)
            yield buffer, torch.tensor([label for _, label in samples])


SLOTS = 4
"""Of each copier: two batches on their way and two with the reader, as a worker of ours has."""


class Copiers:
    """Two processes that copy the batches of an epoch, each every second one, and tell the end."""

    def __init__(self, dataset: Arrays, batch_size: int) -> None:
        fork = multiprocessing.get_context("fork")
        self.pipes: list[Any] = []
        for which in range(2):
            ours, theirs = fork.Pipe()
            fork.Process(
                target=_copy_epochs, args=(dataset, batch_size, which, theirs), daemon=True
            ).start()
            theirs.close()  # so that the end of the process is the end of the pipe
            self.pipes.append(ours)

    def __iter__(self) -> Iterator[None]:
        for pipe in self.pipes:
            pipe.send("epoch")
        for pipe in self.pipes:
            pipe.recv()
        yield None

    def __del__(self) -> None:
        for pipe in self.pipes:
            pipe.send("end")


def _copy_epochs(dataset: Arrays, batch_size: int, which: int, pipe: Any) -> None:
    shape = (SLOTS, batch_size, *dataset.images[0].shape)
    slots = torch.zeros(shape).share_memory_()
    while pipe.recv() == "epoch":
        batches = BatchSampler(RandomSampler(dataset), batch_size, drop_last=True)
        for place, indices in enumerate(islice(batches, which, None, 2)):
            samples, slot = [dataset[index][0] for index in indices], slots[place % SLOTS]
            streamed.stack(samples, slot) or torch.stack(samples, out=slot)
        pipe.send("done")


@dataclass
class Read:
    """A loop that reads every value of the images."""

    loader: Any

    def __iter__(self) -> Iterator[Tensor]:
        for images, _ in self.loader:
            yield images.sum()


def measure(side: int, batch_size: int, batches: int, rounds: int, *, large: bool) -> Seconds:
    dataset = Arrays(batches * batch_size, side)
    workers = {"shuffle": True, "num_workers": 2, "persistent_workers": True}
    makers: dict[str, Any] = {
        name: partial(loader, dataset, batch_size, **workers)
        for name, loader in (("torch", torch.utils.data.DataLoader), ("ours", lw.DataLoader))
    }
    few = Arrays(3 * batch_size + 1, side)
    insist_equal({name: partial(maker.func, few, batch_size, **workers)
                  for name, maker in makers.items()})  # fmt: skip
    if large:
        makers["bare copy"] = lambda: BareCopy(dataset, batch_size)
        makers["two copiers"] = lambda: Copiers(dataset, batch_size)
    seconds = in_turn(makers, rounds)
    if large:
        readers = {f"{name}, read": lambda m=makers[name]: Read(m()) for name in ("torch", "ours")}
        seconds |= in_turn(readers, rounds, epoch_s)
    return seconds


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(1)
    rounds = 2 if quick else ROUNDS
    found: dict[str, Ratio] = {}
    goals = {}

    def keep(label: str, value: Ratio, goal: str) -> None:
        found[label], goals[label] = value, goal
        print(f"{label}: {value}, goal {goal or 'none'}", flush=True)

    s = measure(32, 128, 20 if quick else 400, rounds, large=False)
    keep("3×32×32, batch 128, 2 workers: torch's time / ours", ratio(s["torch"], s["ours"]), "≥ 6×")
    s = measure(224, 64, 5 if quick else 100, rounds, large=True)
    big = "3×224×224, batch 64, 2 workers"
    keep(f"{big}: torch's time / ours", ratio(s["torch"], s["ours"]), "≥ 10×")
    keep(f"{big}: samples/s, ours / a bare copy", ratio(s["bare copy"], s["ours"]), "≥ 0.7")
    limit = ratio(s["two copiers"], s["ours"])
    keep(f"{big}: samples/s, ours / two processes that copy and hand over nothing", limit, "")
    read = ratio(s["torch, read"], s["ours, read"])
    keep(f"{big}, every value read: torch's time / ours", read, "")
    if not quick:
        write("loader_arrays", __doc__, found, goals=goals)


if __name__ == "__main__":
    main()
