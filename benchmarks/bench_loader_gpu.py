"""Question: how many batches a second reach a CUDA device? Ours against torch's, by both ways.

A Python dataset of 3×224×224 float or uint8 images, batch 64, persistent workers. torch pins in a
thread and the loop copies; ours the same, and with `device=`, where the copy is one batch ahead on
a stream of its own. The loop takes a mean of each batch on the device and waits once an epoch.
Epochs of the three alternate within a round; ratios are taken within it.

    python benchmarks/bench_loader_gpu.py [--quick]

Caveat: the samples cost a copy each and no decoding, so that what is measured is the way.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from ratios import write
from torch import Tensor
from torch.utils.data import Dataset
from turns import in_turn, options, ratio

import lampwork as lw

BATCH = 64
BATCHES, ROUNDS = 60, 4
WAYS = ("torch, pin_memory", "ours, pin_memory", "ours, device=")


class Images(Dataset):
    """Few images, given again and again."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        torch.manual_seed(0)
        images = torch.rand(32, 3, 224, 224)
        self.images = images if dtype.is_floating_point else (images * 255).to(dtype)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i % len(self.images)], i % 1000


def loader(way: str, dataset: Dataset, workers: int) -> Iterable[Any]:
    how: dict[str, Any] = {"num_workers": workers, "persistent_workers": True}
    if way == "ours, device=":
        return lw.DataLoader(dataset, BATCH, device="cuda", **how)
    kind = lw.DataLoader if way.startswith("ours") else torch.utils.data.DataLoader
    return kind(dataset, BATCH, pin_memory=True, **how)


def epoch_s(batches: Iterable[Any]) -> float:
    """Seconds of an epoch, to the end of the last batch's work on the device."""
    torch.cuda.synchronize()
    total = torch.zeros((), device="cuda")
    began = time.perf_counter()
    for x, _ in batches:
        there = x if x.is_cuda else x.to("cuda", non_blocking=True)
        total += there.float().mean()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    quick = options(__doc__).quick
    if not torch.cuda.is_available():
        print("nothing is measured: this needs a CUDA device")
        return
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0))
    batches, rounds = (10, 2) if quick else (BATCHES, ROUNDS)
    found, facts = {}, {"device": torch.cuda.get_device_name(), "cores": cores}
    for dtype, name in ((torch.float32, "float"), (torch.uint8, "uint8")):
        for workers in (2, 8):
            dataset = Images(dtype, BATCH * batches)
            makers: dict[str, Callable[[], Iterable[Any]]] = {
                way: partial(loader, way, dataset, workers) for way in WAYS
            }
            # A worker of torch's aborts when it collects garbage of ours that holds CUDA tensors.
            gc.disable()
            seconds = in_turn(makers, rounds, epoch_s)
            label = f"3×224×224 {name}, batch {BATCH}, {workers} workers"
            for way in WAYS:
                best = batches / min(seconds[way])
                facts[f"{label}: batches/s, {way}"] = round(best, 1)
                if way.startswith("ours"):
                    found[f"{label}: torch's time / {way}"] = ratio(
                        seconds["torch, pin_memory"], seconds[way]
                    )
                    print(f"{label}: torch / {way}: {list(found.values())[-1]}")
            rates = ", ".join(f"{way} {facts[f'{label}: batches/s, {way}']}" for way in WAYS)
            print(f"{label}: batches/s: {rates}", flush=True)
    if not quick:
        write("loader_gpu", __doc__, found, facts=facts)


if __name__ == "__main__":
    main()
