"""Question: what does watching cost? A training step bare, and watched every step or every tenth.

Two models: a small residual CNN with in-place ReLUs and a plain MLP. Each pair runs one block of
steps bare and one watched, in turn, on the same weights; reported is the median of the ratios.

    python benchmarks/bench_watch_overhead.py

Caveat: the statistic is computed in pure torch on the CPU. Small models pay for the Python of each
tensor, large ones for reading it several times.
"""

from __future__ import annotations

import tempfile
import time

import torch
from ratios import Ratio, write
from torch import Tensor, nn
from torch.nn import functional as F

import lampwork as lw

BLOCK, PAIRS = 10, 9


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.relu(out)


def cnn() -> tuple[nn.Module, Tensor]:
    stem = (nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return nn.Sequential(*stem, *(Block(32) for _ in range(4)), *head), torch.randn(32, 3, 32, 32)


def mlp() -> tuple[nn.Module, Tensor]:
    layers = [layer for _ in range(4) for layer in (nn.Linear(512, 512), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(512, 10)), torch.randn(256, 512)


def steps(model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> float:
    """Seconds for one block of training steps."""
    began = time.perf_counter()
    for _ in range(BLOCK):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - began


def measure(model: nn.Module, x: Tensor, every: int) -> Ratio:
    y = torch.randint(10, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        steps(model, x, y, optimizer)  # warm up
        for _ in range(PAIRS):
            bare = steps(model, x, y, optimizer)
            with lw.watch(model, every=every, dir=folder):
                watched = steps(model, x, y, optimizer)
            ratios.append(watched / bare)
    return Ratio.of(ratios)


def main() -> None:
    torch.set_num_threads(2)
    found = {}
    for name, make in (("residual CNN", cnn), ("MLP", mlp)):
        for every in (1, 10):
            torch.manual_seed(0)
            label = f"{name}, watched every {'step' if every == 1 else f'{every} steps'} / bare"
            found[label] = measure(*make(), every)
            print(f"{label}: {found[label]}")
    write("watch_overhead", __doc__, found)


if __name__ == "__main__":
    main()
