"""Training loops for the tests of watching: with us, without us, and by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from lampwork.record.reader import Record
from lampwork.watching.session import Watch, watch
from tests.watching.specimen import hooks_of

Batches = Iterable[Tensor]


def batches(count: int, *shape: int, seed: int = 1) -> list[Tensor]:
    """So many seeded batches."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A model whose weights are always the same."""
    torch.manual_seed(0)
    return build()


def mlp() -> nn.Sequential:
    """Two linear layers with a ReLU between them."""
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def sgd(model: nn.Module, **options: Any) -> Optimizer:
    """SGD over all parameters."""
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, **options})


def train(model: nn.Module, optimizer: Optimizer, data: Batches) -> None:
    """The loop that everybody writes."""
    for x in data:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def watched(model: nn.Module, path: Any, **options: Any) -> Watch:
    """A watch into a temporary folder, of every step unless told otherwise."""
    return watch(model, **{"dir": path, "every": 1, **options})


def record_of(run: Watch) -> Record:
    """What a finished run left."""
    assert run.path is not None
    return Record(run.path)


def rows(record: Record, name: str, kind: str, call: int = 1) -> Any:
    """The rows of one tensor, shape (steps, WIDTH)."""
    tensor = record.find(name, kind, call)
    assert tensor is not None, f"no {kind} of {name!r}, call {call}"
    return record.summary(tensor).rows


class Far(Tensor):
    """A tensor that claims to live on an accelerator."""

    @property
    def is_cpu(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """No."""
        return False


def far(value: Any) -> Tensor:
    """A tensor on an accelerator, as far as there is one on every machine."""
    return torch.tensor(value).as_subclass(Far)


def hooks_anywhere(model: nn.Module) -> list[Any]:
    """Hooks on the model, on its parameters, and on all optimizers of the process."""
    everywhere = [torch_optimizer._global_optimizer_pre_hooks]
    everywhere += [torch_optimizer._global_optimizer_post_hooks]
    return hooks_of(model) + [hook for hooks in everywhere for hook in hooks]
