"""Question: how much faster are batches of many small parts? Ours against torch's, two workers.

Two Python datasets and persistent workers: dicts of three scalars in batches of 4, where nothing
hides what is done once per batch; and 16 samples of 7 tensors that `collate_fn` leaves as they are,
which with the stacked images and masks makes 114 tensors a batch, as object detection has it. An
epoch is timed as a whole, and the loop does nothing with the batches.

Goal: 6.6 times torch's speed for the dicts, 10 times for the 114 tensors. A batch of ours is one
message, however many tensors it has; torch's is a shared file, a connection and a map per tensor.

    python benchmarks/bench_loader_small.py [--quick]
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from ratios import Ratio, write
from torch.utils.data import Dataset
from turns import ROUNDS, in_turn, insist_equal, options, ratio
from workloads import Dicts, Scenes, scene_batch, tensors_in

import lampwork as lw


def measure(dataset: Dataset, batch_size: int, rounds: int, **more: Any) -> Ratio:
    makers = {
        name: partial(loader, dataset, batch_size, num_workers=2, persistent_workers=True, **more)
        for name, loader in (("torch", torch.utils.data.DataLoader), ("ours", lw.DataLoader))
    }
    insist_equal(makers)
    seconds = in_turn(makers, rounds)
    return ratio(seconds["torch"], seconds["ours"])


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(1)
    rounds = 2 if quick else ROUNDS
    scenes = Scenes(16 * (5 if quick else 60))
    assert tensors_in(scene_batch([scenes[i] for i in range(16)])) == 114

    dicts = "dict of 3 scalars, batch 4, 2 workers: torch's time / ours"
    many = "114 tensors a batch, 2 workers: torch's time / ours"
    goals = {dicts: "≥ 6.6×", many: "≥ 10×"}
    found = {dicts: measure(Dicts(4 * (100 if quick else 2_000)), 4, rounds)}
    found[many] = measure(scenes, 16, rounds, collate_fn=scene_batch)
    for label, value in found.items():
        print(f"{label}: {value}, goal {goals[label]}")
    if not quick:
        write("loader_small", __doc__, found, goals=goals)


if __name__ == "__main__":
    main()
