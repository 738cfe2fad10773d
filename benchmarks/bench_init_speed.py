"""Question: how fast are tensors filled, as times torch's speed?

Normal values (16 M of float32), truncated normal ones (4 M, cut at ±2 standard deviations) and a
random orthogonal matrix of 2048², into memory that is there already and was written before, by
torch.nn.init and by lampwork.init.schemes in turn.

    python benchmarks/bench_init_speed.py [--quick]

Caveat: with as many threads as torch takes; torch draws normal values with one of them whatever
the number, we with all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from ratios import Ratio, write
from torch import Tensor, nn
from turns import in_order, options

from lampwork.init import schemes

COUNT, SIDE = 2**24, 2048
GOALS = {"normal": "≥ 1.8×", "truncated normal": "≥ 15×", "orthogonal 2048²": "≥ 3×"}
Fill = Callable[[Tensor], object]

QUESTIONS: dict[str, tuple[tuple[int, ...], Fill, Fill, int]] = {
    "normal": ((COUNT,), nn.init.normal_, schemes.normal_, 15),
    "truncated normal": ((COUNT // 4,), nn.init.trunc_normal_, schemes.trunc_normal_, 21),
    "orthogonal 2048²": ((SIDE, SIDE), nn.init.orthogonal_, schemes.orthogonal_, 11),
}


def seconds(fill: Fill, target: Tensor) -> float:
    began = time.perf_counter()
    fill(target)
    return time.perf_counter() - began


def main() -> None:
    quick = options(__doc__).quick
    ratios, facts = {}, {}
    for name, (shape, theirs, ours, pairs) in QUESTIONS.items():
        target = torch.zeros(shape)
        fills = {"torch": theirs, "ours": ours}
        for fill in fills.values():
            fill(target)
        found = []
        for turn in range(2 if quick else pairs):
            took = {who: seconds(fills[who], target) for who in in_order(fills, turn)}
            found.append(took)
        label = f"{name}: torch's time / ours"
        ratios[label] = Ratio.of([took["torch"] / took["ours"] for took in found])
        fastest = min(took["ours"] for took in found)
        facts[f"{name}: million values a second, at best"] = round(target.numel() / fastest / 1e6)
        for who in fills:  # which of the two sides it is that varies
            times = [1e3 * took[who] for took in found]
            spread = f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"
            facts[f"{name}: milliseconds, {who}"] = spread
        print(f"{label}: {ratios[label]}", flush=True)
    goals = {f"{name}: torch's time / ours": goal for name, goal in GOALS.items()}
    if not quick:
        write("init_speed", __doc__, ratios, goals=goals, facts=facts)


if __name__ == "__main__":
    main()
