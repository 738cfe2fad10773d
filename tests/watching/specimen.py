"""What a specimen of the zoo is and is made of, and how to look at a model from outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Specimen:
    """How to build a model, what to call it with (made after seeding), and in which context."""

    build: Callable[[], nn.Module]
    example: Callable[[], tuple[Any, ...]]
    keywords: Callable[[], dict[str, Any]] = dict
    context: Callable[[], Any] = nullcontext

    def model(self) -> nn.Module:
        """The model with its seeded weights."""
        torch.manual_seed(0)
        return self.build()

    def loss(self, model: nn.Module) -> Tensor:
        """A loss to which all of the model's outputs contribute."""
        torch.manual_seed(1)
        args, kwargs = self.example(), self.keywords()
        with self.context():
            output = model(*args, **kwargs)
        terms = [_term(leaf) for leaf in leaves(output) if isinstance(leaf, Tensor)]
        return torch.stack([term for term in terms if term.requires_grad]).sum()


def _term(output: Tensor) -> Tensor:
    numbers = torch.view_as_real(output) if output.is_complex() else output
    return (numbers.float() * numbers.float().cos()).sum()


def leaves(value: Any) -> Iterator[Any]:
    """Everything in a nested structure that is not itself a container, in order."""
    if isinstance(value, Mapping):
        value = list(value.values())
    elif dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def hooks_of(model: nn.Module) -> list[Any]:
    """All hooks on the modules' passes and on the parameters of a model."""
    on_modules = [
        hook
        for module in model.modules()
        for kind, hooks in vars(module).items()
        if kind.startswith(("_forward_", "_backward_"))
        for hook in hooks
    ]
    return on_modules + [hook for p in model.parameters() for hook in p._backward_hooks or ()]


def tensor(*shape: int) -> Tensor:
    """Normal numbers that require grad and are no leaf, so that they may be changed in place."""
    return torch.randn(*shape, requires_grad=True) * 1.0


def rows() -> tuple[Tensor]:
    """What most specimens are called with: three rows of four numbers."""
    return (tensor(3, 4),)


class Of(nn.Module):
    """A module without parameters, made of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class Pair(nn.Module):
    """A linear layer and a function of its output, as two children."""

    def __init__(self, function: Callable[..., Any], width: int = 4) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(4, width), Of(function)

    def forward(self, x: Tensor) -> Any:
        return self.then(self.linear(x))


def net() -> nn.Sequential:
    """Three small layers with seeded weights, the middle one in place."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))


X = torch.arange(12.0).view(3, 4).sin()
