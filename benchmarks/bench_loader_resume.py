"""Question: how soon is training resumed at 90 % of 100 million shuffled samples?

Timed is, with a new loader, `load_state_dict` and the first batch of what is left, batches of 1,000
whose samples cost nothing, no workers. Ours with torch's order (`shuffle=True`, which has to be
drawn again) and with an order of which any place can be worked out at once (`DistributedOrder`);
torchdata's `StatefulDataLoader` with its own `shuffle=True`. Each first batch is compared with the
one that the interrupted loader went on with.

torchdata's time is measured at 1 and at 10 million samples and **extrapolated** to 100 million
along the straight line through both, round by round; `--full` measures it there, which takes
minutes a round and 10 GB of memory.

Goal: 1000 times sooner than torchdata's, with a state of at most 1 KB. It walks through all samples
that were taken; ours goes to the place where they end.

    python benchmarks/bench_loader_resume.py [--quick] [--full]
"""

from __future__ import annotations

import pickle
import time
import warnings
from typing import Any

import torch
from contenders import Contender, GaveUp
from ratios import Ratio, write
from turns import ROUNDS, Seconds, in_order, options, ratio
from workloads import Indices

BATCH = 1_000


def make_loader(kind: str, samples: int) -> Any:
    dataset = Indices(samples)
    common = {"batch_size": BATCH, "collate_fn": torch.as_tensor}
    if kind == "torchdata":
        from torchdata.stateful_dataloader import StatefulDataLoader  # of the extra [bench]

        warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata's own call
        return StatefulDataLoader(dataset, shuffle=True, **common)
    import lampwork as lw

    if kind == "torch's order":
        return lw.DataLoader(dataset, shuffle=True, **common)
    sampler = lw.data.DistributedOrder(dataset, num_replicas=1, rank=0)
    return lw.DataLoader(dataset, sampler=sampler, **common)


class Interrupted:
    """A loader that was left at 90 % of an epoch."""

    def __init__(self, kind: str, samples: int) -> None:
        self.kind, self.samples = kind, samples
        loader = make_loader(kind, samples)
        batches = iter(loader)
        for _ in range(samples // BATCH * 9 // 10):
            next(batches)
        self.state = loader.state_dict()
        self.next = next(batches)

    def state_bytes(self) -> dict[str, int]:
        return {"repr": len(repr(self.state)), "pickled": len(pickle.dumps(self.state))}

    def seconds(self) -> float:
        """Seconds until a new loader gives the batch that comes next."""
        torch.manual_seed(time.monotonic_ns() % 2**32)  # the order is the state's, not luck's
        loader = make_loader(self.kind, self.samples)
        began = time.perf_counter()
        loader.load_state_dict(self.state)
        batch = next(iter(loader))
        found = time.perf_counter() - began
        if not torch.equal(batch, self.next):
            raise ValueError("resumed with another batch than the one that came next")
        return found


def extrapolated(seconds: Seconds, few: str, many: str, times: int) -> list[float]:
    """The straight line through a size and ten times that size, at so many times the first."""
    pairs = zip(seconds[few], seconds[many], strict=True)
    return [at_1 + (at_10 - at_1) * (times - 1) / 9 for at_1, at_10 in pairs]


def main() -> None:
    asked = options(__doc__, "--full")
    million = 10_000 if asked.quick else 1_000_000
    entries = {"torchdata 1": ("torchdata", million), "torchdata 10": ("torchdata", 10 * million)}
    if asked.full:
        entries = {"torchdata 100": ("torchdata", 100 * million)}
    entries |= {kind: (kind, 100 * million) for kind in ("torch's order", "DistributedOrder")}
    try:
        contenders = {name: Contender(Interrupted, *entry) for name, entry in entries.items()}
    except GaveUp as reason:
        raise SystemExit(f"{reason}: python -m pip install -e '.[bench]'") from None
    sizes = {name: contender.ask("state_bytes") for name, contender in contenders.items()}
    seconds: Seconds = {name: [] for name in contenders}
    for turn in range(2 if asked.quick else ROUNDS):
        for name in in_order(contenders, turn):
            seconds[name].append(contenders[name].ask("seconds"))
    for contender in contenders.values():
        contender.close()

    if not asked.full:
        line = extrapolated(seconds, "torchdata 1", "torchdata 10", 100)
        seconds["torchdata 100"] = line
    source = "measured" if asked.full else "extrapolated from 1 and 10 M"
    found: dict[str, Ratio] = {}
    for kind, goal in (("DistributedOrder", "≥ 1000×"), ("torch's order", "")):
        label = f"resume at 90 % of 100 M samples, {kind}: torchdata's time ({source}) / ours"
        found[label] = ratio(seconds["torchdata 100"], seconds[kind])
        print(f"{label}: {found[label]}, goal {goal or 'none'}")
    report(found, sizes, seconds, quick=asked.quick)


def report(
    found: dict[str, Ratio], sizes: dict[str, dict[str, int]], seconds: Seconds, *, quick: bool
) -> None:
    state = "state at 90 % of 100 M samples, bytes of its repr"
    first, *_ = found
    facts = {
        state: max(sizes[kind]["repr"] for kind in ("torch's order", "DistributedOrder")),
        "bytes of the states": sizes,
        "seconds": seconds,
    }
    print(f"{state}: {facts[state]}, goal ≤ 1 KB; all: {sizes}")
    goals = {label: "≥ 1000×" if label == first else "" for label in found}
    if not quick:
        write("loader_resume", __doc__, found, goals=goals | {state: "≤ 1024"}, facts=facts)


if __name__ == "__main__":
    main()
