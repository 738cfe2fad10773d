"""Question: how soon is the first batch under spawn there?

A list of 128 MiB in strings of 64 bytes, batch 256, two workers and eight; each time in a process
of its own, so that nothing has been started or imported for workers before, and then once more with
a second loader in the same process.

Goal: 10 times sooner than torch's. A worker is forked from a process that has imported torch once,
and the dataset is pickled once for all of them, where torch has each worker import torch and
pickles it for each.

    python benchmarks/bench_loader_start.py [--quick]

Caveat: the gain grows with the number of workers, and with what torch's import costs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch
from ratios import Ratio, write
from turns import Seconds, in_order, options, ratio
from workloads import Strings

MIB = 1 << 20
NAMES = ("torch", "ours")
SPAWNED = 5
"""Rounds under spawn: eight workers of torch's take twenty seconds to start."""


def loader_class(name: str) -> type[torch.utils.data.DataLoader]:
    # Not at the top: every worker that torch spawns imports this file.
    if name == "torch":
        return torch.utils.data.DataLoader
    import lampwork as lw

    return lw.DataLoader


def spawned(rounds: int, workers: int, size_bytes: int) -> tuple[Seconds, Seconds]:
    """First batches under spawn: of the first loader of a process, and of its second."""
    found: tuple[Seconds, Seconds] = ({name: [] for name in NAMES}, {name: [] for name in NAMES})
    for turn in range(rounds):
        batches = set()
        for name in in_order(NAMES, turn):
            command = [sys.executable, __file__, "--process", name, str(workers), str(size_bytes)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            *seconds, batch = json.loads(done.stdout)
            batches.add(str(batch))
            for kind, value in zip(found, seconds, strict=True):
                kind[name].append(value)
        if len(batches) > 1:
            raise SystemExit(f"the first batches differ: {batches}")
    return found


def process(name: str, workers: int, size_bytes: int) -> None:
    """What a process of `spawned` does: print two times and the first batch."""
    torch.set_num_threads(1)
    dataset, loader_type, found = Strings(size_bytes), loader_class(name), []
    batch = None
    for _ in range(2):
        loader = loader_type(dataset, 256, num_workers=workers, multiprocessing_context="spawn")
        began = time.perf_counter()
        batches = iter(loader)
        batch = next(batches)
        found.append(time.perf_counter() - began)
        del batches, loader
    assert isinstance(batch, torch.Tensor)
    print(json.dumps([*found, [str(batch.dtype), *batch.tolist()]]))


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(1)
    rounds = 2 if quick else SPAWNED
    found: dict[str, Ratio] = {}
    goals: dict[str, str] = {}

    def keep(what: str, seconds: Seconds, goal: str) -> None:
        label = f"{what}: torch's time / ours"
        found[label], goals[label] = ratio(seconds["torch"], seconds["ours"]), goal
        print(f"{label}: {found[label]}, goal {goal}", flush=True)

    size_bytes = (4 if quick else 128) * MIB
    for workers in (2,) if quick else (8, 2):
        first, second = spawned(rounds, workers, size_bytes)
        what = f"first batch under spawn, list of {size_bytes // MIB} MiB, {workers} workers"
        keep(what, first, "≥ 10×")
        keep(f"{what}, second loader", second, "≥ 10×")
    if not quick:
        write("loader_start", __doc__, found, goals=goals)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        process(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main()
