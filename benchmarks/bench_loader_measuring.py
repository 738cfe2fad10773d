"""Question: what does measuring cost? An epoch of lampwork's loader against one of torch's.

Two datasets, without workers and with two persistent ones: rows of tensors in batches of 256, and
dicts of three numbers in batches of 4, where next to nothing hides what is done once per batch.
The loop does nothing with the batches. Each pair compares the best of five epochs of either loader,
run in turn, in processor time of the thread that trains.

    python benchmarks/bench_loader_measuring.py

Caveat: epochs of some 0.02 s, so that single pairs scatter on a busy machine; the median is what
counts. Waiting for workers takes no processor time, so the share of real time is smaller still.
"""

from __future__ import annotations

import time

import torch
from ratios import Ratio, write
from torch.utils.data import Dataset, TensorDataset

import lampwork as lw

PAIRS, EPOCHS = 9, 5


class Dicts(Dataset):
    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> dict[str, float]:
        return {"a": index, "b": 0.5, "c": True}


def epoch_cpu_s(loader: torch.utils.data.DataLoader) -> float:
    began = time.thread_time()
    for _ in loader:
        pass
    return time.thread_time() - began


def pair(dataset: Dataset, batch_size: int, workers: int) -> float:
    # New workers for each pair: how quickly they answer depends on where they come to run.
    loaders = [
        loader(dataset, batch_size, num_workers=workers, persistent_workers=workers > 0)
        for loader in (torch.utils.data.DataLoader, lw.DataLoader)
    ]
    _, *epochs = ([epoch_cpu_s(loader) for loader in loaders] for _ in range(1 + EPOCHS))
    torchs, ours = map(min, zip(*epochs, strict=True))
    return ours / torchs


def main() -> None:
    torch.set_num_threads(1)
    rows = TensorDataset(torch.randn(5_000, 10), torch.randint(10, (5_000,)))
    found = {}
    for name, dataset, batch_size in (
        ("tensors, batch 256", rows, 256),
        ("dicts, batch 4", Dicts(), 4),
    ):
        for workers in (0, 2):
            label = f"{name}, {workers} workers: measuring loader / torch's"
            found[label] = Ratio.of([pair(dataset, batch_size, workers) for _ in range(PAIRS)])
            print(f"{label}: {found[label]}")
    write("loader_measuring", __doc__, found)


if __name__ == "__main__":
    main()
