"""Question: what do pictures cost? A picture step, and a whole run with pictures on against off.

Two models: a residual CNN with batch norm and a small vision transformer. A picture step is given
in training steps. Runs of 120 steps, recorded every tenth, are made in turn with pictures and
without; the ratio is that of their seconds, from the first step to the end of the block.

    python benchmarks/bench_watch_pictures.py [--quick]

Caveat: pictures wait until they have taken at most a hundredth of the time since the start, so a
short run has those of its first and last step, whose cost no time limit bounds.
"""

from __future__ import annotations

import tempfile
import time

import torch
from ratios import Ratio, write
from torch import Tensor, nn
from torch.nn import functional as F
from turns import in_order, options

import lampwork as lw
from lampwork.watching.guard import Guard
from lampwork.watching.snapshots import Snapshots

STEPS, ROUNDS = 120, 3


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


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 96, 4, 4)
        self.places = nn.Parameter(0.02 * torch.randn(1, 64, 96))
        layer = nn.TransformerEncoderLayer(96, 4, 192, 0.1, norm_first=True, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.encoder(x).mean(1))


def cnn() -> nn.Module:
    stem = (nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return nn.Sequential(*stem, *(Block(32) for _ in range(4)), *head)


MODELS = {"residual CNN": cnn, "ViT": ViT}


def train(model: nn.Module, steps: int, batch: Tensor, classes: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = F.cross_entropy(model(batch), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def step_cost(model: nn.Module, batch: Tensor, classes: Tensor, rounds: int) -> Ratio:
    """A picture step by a training step."""
    snapshots = Snapshots(model, Guard(lambda: None))
    snapshots.install()
    train(model, 2, batch, classes)
    snapshots.remove()
    snapshots.take()
    ratios = []
    for _ in range(rounds):
        began = time.perf_counter()
        train(model, 3, batch, classes)
        between = time.perf_counter()
        snapshots.take()
        ratios.append((time.perf_counter() - between) / (between - began) * 3)
    return Ratio.of(ratios)


def run_cost(model: nn.Module, batch: Tensor, classes: Tensor, rounds: int, steps: int) -> Ratio:
    """A run with pictures by one without."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            seconds = {}
            for pictures in in_order((False, True), turn):
                began = time.perf_counter()
                with lw.watch(model, every=10, dir=folder, pictures=pictures):
                    train(model, steps, batch, classes)
                seconds[pictures] = time.perf_counter() - began
            ratios.append(seconds[True] / seconds[False])
    return Ratio.of(ratios[1:])  # the first one warms up


def main() -> None:
    quick = options(__doc__).quick
    torch.set_num_threads(2)
    torch.manual_seed(0)
    batch, classes = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))
    found = {}
    rounds, steps = (2, 12) if quick else (ROUNDS, STEPS)
    for name, make in MODELS.items():
        model = make()
        found[f"{name}: a picture step / a training step"] = step_cost(
            model, batch, classes, 2 * rounds
        )
        found[f"{name}: a run of {steps} steps with pictures / without"] = run_cost(
            model, batch, classes, rounds, steps
        )
    for label, ratio in found.items():
        print(f"{label}: {ratio}")
    if not quick:
        goals = {label: "≤ 1.01×" for label in found if "with pictures" in label}
        write("watch_pictures", __doc__, found, goals=goals)


if __name__ == "__main__":
    main()
