"""Question: what is left behind by ten thousand epochs? Memory, descriptors, processes.

A dataset of eight numbers in two batches, shuffled: with two workers that are kept from epoch to
epoch as long as nothing changes, with two that persist, and without. Counted in the trainer after
the first hundred epochs and after the last.

Goal: the same numbers.

    python benchmarks/bench_loader_epochs.py [--quick]
"""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import torch
from ratios import write
from torch import Tensor
from torch.utils.data import Dataset
from turns import options

import lampwork as lw

CASES: dict[str, dict[str, Any]] = {
    "2 workers": {"num_workers": 2},
    "2 persistent workers": {"num_workers": 2, "persistent_workers": True},
    "no workers": {"num_workers": 0},
}
SETTLED = 100


class Numbers(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index])


def left() -> str:
    """What this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    mib = pages * os.sysconf("SC_PAGESIZE") / 2**20
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    return f"{mib:.1f} MiB, {descriptors} descriptors, {threads} threads, {len(children)} processes"


def main() -> None:
    epochs = 300 if options(__doc__).quick else 10_000
    torch.set_num_threads(1)
    facts: dict[str, Any] = {}
    for case, arguments in CASES.items():
        loader = lw.DataLoader(Numbers(), 4, shuffle=True, **arguments)
        for epoch in range(1, epochs + 1):
            samples = sum(len(batch) for batch in loader)
            if samples != 8:
                raise SystemExit(f"epoch {epoch} had {samples} samples of 8")
            if epoch in (SETTLED, epochs):
                label = f"{case}, after {epoch:,} epochs"
                facts[label] = left()
                print(f"{label}: {facts[label]}", flush=True)
    if epochs == 10_000:
        write("loader_epochs", __doc__, {}, facts=facts)


if __name__ == "__main__":
    main()
