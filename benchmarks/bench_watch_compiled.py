"""Question: what does torch.compile make of a watched model, and what does watching cost there?

An MLP of five linear layers under Inductor with `fullgraph=True`, watched every tenth of 1,000
steps: how many graphs (a recompilation would be one more) and graph breaks, and whether 20 steps
leave weights that are bitwise those without watching. Blocks of ten steps alternate, bare and
watched, on two twins.

    python benchmarks/bench_watch_compiled.py [--quick]

Caveat: the MLP is small, so that the work of each recorded tensor shows.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from ratios import Ratio, write
from torch._dynamo.utils import counters
from torch.nn import functional as F
from turns import options
from watch_models import mlp

import lampwork as lw

BLOCK = 10


class Compiled:
    """A compiled twin with its batch, watched every so many steps, or not at all."""

    def __init__(self, folder: str, every: int | None) -> None:
        torch.manual_seed(0)
        self.model, self.x = mlp()
        self.y = torch.randint(10, (len(self.x),))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.run = None
        if every is not None:
            self.run = lw.watch(self.model, dir=folder, every=every, pictures=False)
            self.run.start()
        self.called: Any = torch.compile(self.model, fullgraph=True)

    def steps(self, count: int) -> float:
        """So many steps; the seconds that they took."""
        began = time.perf_counter()
        for _ in range(count):
            self.optimizer.zero_grad()
            F.cross_entropy(self.called(self.x), self.y).backward()
            self.optimizer.step()
        return time.perf_counter() - began

    def weights(self) -> list[torch.Tensor]:
        """As they are now."""
        return [p.detach().clone() for p in self.model.parameters()]

    def stop(self) -> None:
        """End the run."""
        if self.run is not None:
            self.run.stop()


def main() -> None:
    """Count graphs, then time."""
    quick = options(__doc__).quick
    torch.set_num_threads(2)
    steps, pairs = (50, 3) if quick else (1000, 25)
    found, facts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        bare = Compiled(folder, None)
        bare.steps(20)
        expected = bare.weights()
        for every in (10, 1):
            torch.compiler.reset()
            counters.clear()
            watched = Compiled(folder, every)
            watched.steps(20)
            label = "step" if every == 1 else f"{every} steps"
            same = all(map(torch.equal, expected, watched.weights()))
            facts[f"every {label}: weights after 20 steps bitwise the same"] = same
            watched.steps(steps - 20)
            facts[f"every {label}: graphs in {steps} steps"] = counters["stats"]["unique_graphs"]
            facts[f"every {label}: graph breaks"] = sum(counters["graph_break"].values())
            watched.stop()
            torch.compiler.reset()
            watched = Compiled(folder, every)
            watched.steps(2 * BLOCK)
            # The bare twin is called as the watched one is, and has a graph of its own.
            other = Compiled(folder, None)
            other.called = torch.compile(lambda x, model=other.model: model(x), fullgraph=True)
            other.steps(2 * BLOCK)
            ratios = []
            for turn in range(pairs):
                order = (watched, other) if turn % 2 else (other, watched)
                seconds = {twin is watched: twin.steps(BLOCK) for twin in order}
                ratios.append(seconds[True] / seconds[False])
            found[f"compiled MLP, watched every {label} / bare"] = Ratio.of(ratios)
            watched.stop()
    for name, value in [*found.items(), *facts.items()]:
        print(f"{name}: {value}")
    if not quick:
        write("watch_compiled", __doc__, found, facts=facts)


if __name__ == "__main__":
    main()
