"""Parameters, their gradients and their updates, read at the optimizer.

There, and only there, a gradient is what the optimizer will use: reduced over ranks, unscaled,
and summed over micro-batches. A hook on the parameter would see it too early.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lampwork.taps.statistic import measure
from lampwork.taps.tap import on_gradient
from lampwork.watch.activations import Key, Seen
from lampwork.watch.guard import Guard


class Parameters:
    """The parameters of one model.

    Attributes:
        seen: what the record tells about each key, in the order of the model's parameters.
    """

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._guard = guard
        self._named = dict(model.named_parameters())
        self._owner = {
            f"{prefix}.{name}" if prefix else name: type(module).__name__
            for prefix, module in model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }
        self._optimized: set[str] = set()
        self._before: dict[str, Tensor] = {}
        self._clean: list[bool] = []
        self._clean_handle: RemovableHandle | None = None
        self.seen: dict[Key, Seen] = {}

    def owned_by(self, optimizer: Optimizer) -> dict[str, nn.Parameter]:
        """Those of the model's parameters that the optimizer steps, by name."""
        ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {name: p for name, p in self._named.items() if id(p) in ids}

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer) -> list[tuple[Key, Tensor]]:
        """Rows of weights and gradients as the optimizer is about to see them."""
        owned = self.owned_by(optimizer)
        self._optimized |= owned.keys()
        # A fused optimizer divides by the scale of the GradScaler itself, after this hook.
        scale = getattr(optimizer, "grad_scale", None)
        scale = 1.0 if scale is None else scale
        rows = []
        for name, parameter in self._named.items():
            self._describe(name, parameter)
            rows.append((Key("weight", name), measure(parameter)))
            if parameter.grad is not None:
                gradient = parameter.grad / scale if name in owned else parameter.grad
                rows.append((Key("grad", name), measure(gradient)))
        self._before = {name: p.detach().clone() for name, p in owned.items()}
        return [(key, row) for key, row in rows if row is not None]

    @torch.no_grad()
    def after_step(self) -> list[tuple[Key, Tensor]]:
        """Rows of the updates, new value minus old."""
        rows = [
            (Key("update", name), measure(self._named[name].detach() - old))
            for name, old in self._before.items()
        ]
        self._before.clear()
        return [(key, row) for key, row in rows if row is not None]

    def watch_stale_gradient(self) -> None:
        """From now to the next `stale_gradient`, look whether gradients were cleared.

        A hook on one parameter sees its `grad` just before each backward pass adds to it.
        """
        self._clean.clear()
        for name in self._optimized:
            parameter = self._named[name]
            if parameter.grad is not None and parameter.is_leaf and parameter.requires_grad:
                self._clean_handle = on_gradient(
                    parameter, self._guard(partial(self._look, parameter))
                )
                return

    def stale_gradient(self) -> bool:
        """Whether every backward pass since the last step added to a gradient of before it.

        One pass that found it cleared is enough to acquit: in a GAN the generator's pass runs
        through the discriminator before that one's gradients are cleared.
        """
        self.remove()
        return bool(self._clean) and not any(self._clean)

    def remove(self) -> None:
        """Take the hook off, if there is one."""
        if self._clean_handle is not None:
            self._clean_handle.remove()
            self._clean_handle = None

    def _look(self, parameter: nn.Parameter, _: Tensor) -> None:
        gradient = parameter.grad
        self._clean.append(gradient is None or not bool((gradient.detach() != 0).any()))

    def _describe(self, name: str, parameter: nn.Parameter) -> None:
        facts = {
            "module": self._owner.get(name, ""),
            "requires_grad": parameter.requires_grad,
            "optimized": name in self._optimized,
        }
        dtype = str(parameter.dtype).removeprefix("torch.")
        for kind in ("weight", "grad", "update"):
            self.seen[Key(kind, name)] = Seen(tuple(parameter.shape), dtype, facts)
