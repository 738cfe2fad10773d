"""The first step whose gradients are no numbers, also where that step is not recorded.

Once weights have taken such a step, all that comes after is NaN, and a record of every tenth step
cannot tell where it began. So before each step two small gradients are read, that of the first
layer, which whatever went wrong behind it reaches, and that of the last; all of them only once one
of the two is spoiled. On an accelerator that would wait for it, so there nothing is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lampwork.taps.statistic import readable

_MOST_NAMES = 64


class Flight:
    """Looks before each optimizer step, until it has found something.

    Attributes:
        found: `step`, `parameters` (those with a spoiled gradient, the last registered first, at
            most 64), `count`, and `weights_nonfinite` before the step; empty while all is well.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.found: dict[str, Any] = {}
        self.follow()

    def follow(self) -> None:
        """Look up the model's parameters anew."""
        self._probes = _at_both_ends(self._model)

    def look(self, step: int) -> None:
        """Read the gradients that this step is about to use."""
        if not self.found and any(_is_spoiled(probe) for probe in self._probes):
            self.found = self._all(step)

    def _all(self, step: int) -> dict[str, Any]:
        own = dict(self._model.named_parameters())
        bad = [name for name, p in own.items() if _is_spoiled(p)]
        weights = sum(not bool(torch.isfinite(p).all()) for p in own.values())
        return {
            "step": step,
            "parameters": bad[::-1][:_MOST_NAMES],
            "count": len(bad),
            "weights_nonfinite": weights,
        }


def _at_both_ends(model: nn.Module) -> list[nn.Parameter]:
    """The smallest parameter of the first and of the last module that is trained."""
    owners = [
        own
        for module in model.modules()
        if (own := [p for p in module.parameters(recurse=False) if p.requires_grad])
    ]
    return [_smallest(own) for own in owners[:1] + owners[1:][-1:]]


def _smallest(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    lazy = nn.parameter.is_lazy
    return min(parameters, key=lambda p: math.inf if lazy(p) else p.numel())


def _is_spoiled(parameter: nn.Parameter) -> bool:
    gradient = parameter.grad
    if gradient is None or gradient.device.type != "cpu" or type(gradient) is not Tensor:
        return False
    values = readable(gradient._values() if gradient.is_sparse else gradient)
    if values is None:
        return False
    values = values.float() if values.itemsize == 1 else values  # float8 knows no sum
    # The sum is the quicker question. It may overflow where no element does, hence the second.
    return not math.isfinite(float(values.sum())) and not bool(torch.isfinite(values).all())
