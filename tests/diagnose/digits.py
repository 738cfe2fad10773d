"""Real training on handwritten digits: what trains, and the small models that are trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lampwork
from lampwork.record.reader import Record

Batch = tuple[Tensor, Tensor]


@dataclass
class Digits:
    """1797 images of 8×8 pixels in [0, 1] and their labels; trains, watches, reads the record."""

    x: Tensor
    y: Tensor
    folder: Path

    def batches(self, count: int, size: int = 64) -> Iterator[Batch]:
        chooser = torch.Generator().manual_seed(0)
        for _ in range(count):
            chosen = torch.randint(len(self.x), (size,), generator=chooser)
            yield self.x[chosen], self.y[chosen]

    def watched(
        self, model: nn.Module, step: Callable[[Any, Tensor, Tensor], None], *,
        steps: int = 60, every: int = 5, size: int = 64,
    ) -> Record:  # fmt: skip
        """Call `step(run, x, y)` for each batch, and read what was recorded."""
        with lampwork.watch(model, every=every, dir=self.folder, name="run", pictures=False) as run:
            for x, y in self.batches(steps, size):
                step(run, x, y)
        assert run.path is not None
        return Record(run.path)

    def train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *,
        shape: tuple[int, ...] = (64,), loss: Callable[..., Tensor] = F.cross_entropy,
        schedule: Callable[[int], float] = lambda step: 1.0, clear: bool = True, **options: Any,
    ) -> Record:  # fmt: skip
        """The loop that everybody writes."""
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)

        def step(run: Any, x: Tensor, y: Tensor) -> None:
            value = loss(model(x.view(-1, *shape)), y)
            value.backward()
            optimizer.step()
            scheduler.step()
            if clear:
                optimizer.zero_grad()
            run.log(loss=value)

        return self.watched(model, step, **options)


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    """Linear layers with an activation between each two."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), act()]
    return nn.Sequential(*layers[:-1])


def drawn(model: nn.Module, std: float | None) -> nn.Module:
    """The model with normal weights of this standard deviation, of He's without one."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            wanted = (2 / module.in_features) ** 0.5 if std is None else std
            nn.init.normal_(module.weight, 0, wanted)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    """Plain gradient descent on all parameters."""
    return torch.optim.SGD(model.parameters(), lr=lr)


def adam(model: nn.Module, lr: float = 3e-3) -> torch.optim.Optimizer:
    """Adam on all parameters."""
    return torch.optim.Adam(model.parameters(), lr=lr)


class Apply(nn.Module):
    """A function as a module, under its own name."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def cnn() -> nn.Sequential:
    """Two convolutions with batch normalisation, dropout, a head."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 10)),
    )


class Functional(nn.Module):
    """Layers as modules, activations as functions: what most tutorials write."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.hidden = nn.Linear(256, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = F.dropout(F.relu(self.hidden(x.flatten(1))), 0.5, self.training)
        return F.log_softmax(self.head(x), dim=1)


class Recurrent(nn.Module):
    """Reads an image line by line."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


# Faults. Each trains with the fault, or without it as the twin.
