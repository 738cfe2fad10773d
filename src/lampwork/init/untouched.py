"""A model that is run and left as it was: gradients, buffers, flags, hooks on gradients, values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from lampwork._core.errors import InputError
from lampwork.init.rehearsal import Rehearsal, wide
from lampwork.taps.forward import as_it_was


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Gradients empty inside, hooks on them asleep, flags as a first step would have them."""
    parameters = list(model.parameters())
    kept = [(parameter, parameter.grad) for parameter in parameters]
    hooks = [(p, dict(getattr(p, "_post_accumulate_grad_hooks", None) or {})) for p in parameters]
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with as_it_was(model):
        try:
            for module, flag in flags:
                module.training = _trains(module, flag)
            for parameter, own in hooks:
                parameter.grad = None
                if own:  # an optimizer in the backward pass would step
                    parameter._post_accumulate_grad_hooks.clear()  # pyright: ignore
            yield
        finally:
            for parameter, gradient in kept:
                parameter.grad = gradient
            for parameter, own in hooks:
                if own:
                    parameter._post_accumulate_grad_hooks.update(own)  # pyright: ignore
            for buffer, value in buffers:
                # Running statistics move without a new version, and are put back without one.
                buffer.data.copy_(value)


def _trains(module: nn.Module, flag: bool) -> bool:
    if isinstance(module, _NormBase):
        # Statistics that nobody has gathered yet are no statistics.
        counted = getattr(module, "num_batches_tracked", None)
        return flag or (counted is not None and not counted.is_meta and int(counted) == 0)
    return flag and not isinstance(module, _DropoutNd)


def look_ahead(model: nn.Module, run: Callable[[], Rehearsal], wanted: Iterable[int]) -> set[int]:
    """Which of these parameters, by id, get no gradient after two steps of gradient descent either.

    Zeros behind zeros may be reached once what hides them has moved, as the gates of a diffusion
    transformer are, or never. Begins with the gradients that a pass has left; the steps are taken
    back.
    """
    stuck = set(wanted)
    saved = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    try:
        for _ in range(2):
            with torch.no_grad():
                for parameter, value in saved:
                    if parameter.grad is not None and parameter.is_floating_point():
                        size = float(wide(parameter.grad).norm())
                        if size > 0 and math.isfinite(size):
                            step = 0.1 * (float(wide(value).norm()) or 1.0) / size
                            parameter.sub_(parameter.grad, alpha=step)
            slopes = run().slopes
            stuck -= {key for key in stuck if key in slopes and slopes[key].absmax > 0}
            if not stuck:
                break
    finally:
        with torch.no_grad():
            for parameter, value in saved:
                parameter.copy_(value)
    return stuck


def require_memory(model: nn.Module) -> None:
    """Refuses a model on meta, which holds no values.

    Raises:
        InputError: names the first such tensor.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise InputError(
                f"{name!r} is on meta and holds no values to check: call "
                "model.to_empty(device='cpu') and plan.apply() first"
            )
