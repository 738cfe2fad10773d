"""Question: how much faster is data that lies in memory? A `TensorDataset`, ours against torch's.

Rows of ten float features and an int64 label, shuffled, batches of 256, both loaders with the same
arguments: without workers, with two that persist, and with two that are started for every epoch. An
epoch is timed as a whole, from `iter(loader)` to its end; the loop does nothing with the batches.

Goal: 20 times torch's speed without workers, 50 times with two. Nothing but the sum of the data has
to be moved, while torch runs Python for every row: what limits ours is one indexed read per tensor.

    python benchmarks/bench_loader_memory.py [--quick]
"""

from __future__ import annotations

from functools import partial

import torch
from ratios import Ratio, write
from turns import ROUNDS, in_turn, insist_equal, options, ratio
from workloads import rows

import lampwork as lw

CASES = {
    "no workers": ({"num_workers": 0}, "≥ 20×"),
    "2 persistent workers": ({"num_workers": 2, "persistent_workers": True}, "≥ 50×"),
    "2 workers, new ones each epoch": ({"num_workers": 2}, "≥ 50×"),
}


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(1)
    dataset = rows(5_000 if quick else 100_000)
    found: dict[str, Ratio] = {}
    goals = {}
    for case, (arguments, goal) in CASES.items():
        makers = {
            name: partial(loader, dataset, 256, shuffle=True, **arguments)
            for name, loader in (("torch", torch.utils.data.DataLoader), ("ours", lw.DataLoader))
        }
        insist_equal(makers)
        seconds = in_turn(makers, 2 if quick else ROUNDS)
        label = f"TensorDataset, batch 256, shuffled, {case}: torch's time / ours"
        found[label], goals[label] = ratio(seconds["torch"], seconds["ours"]), goal
        print(f"{label}: {found[label]}, goal {goal}", flush=True)
    if not quick:
        write("loader_memory", __doc__, found, goals=goals)


if __name__ == "__main__":
    main()
