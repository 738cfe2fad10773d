"""The loss of a check: the user's own, the one that targets mean, or a random projection."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lampwork._core.errors import InputError
from lampwork.taps.structure import tensors


@dataclass(frozen=True)
class Loss:
    """What is differentiated, and how far the logits are from guessing.

    Attributes:
        value: a scalar.
        is_real: whether it is a loss and not a projection that only sends gradients back.
        cross_entropy: of logits and targets, whatever the loss is made of; None where the targets
            are no classes.
        classes: how many.
    """

    value: Tensor
    is_real: bool
    cross_entropy: float | None = None
    classes: int = 0


def guess_loss(
    output: Any, y: Any, loss_fn: Callable[..., Any] | None, *, labels: Any = None
) -> Loss:
    """The loss of what the model returned.

    Args:
        output: of the model.
        y: targets.
        loss_fn: of the output and the targets.
        labels: that the model was given itself, to compute its own loss of.

    Raises:
        InputError: a loss function that fails or gives no scalar, targets that explain no loss,
            or a model that returns no floating point tensor.
    """
    logits = _logits(output)
    if loss_fn is not None:
        value = _called(loss_fn, output, logits, y)
    elif isinstance(y, Tensor):
        value = _usual(logits, y)
    else:
        value = _own(output)
    if value is None:
        return Loss(_projection(output), is_real=False)
    entropy = _entropy(logits, y)
    if y is None and loss_fn is None and logits is not None and _are_classes(labels):
        entropy = float(value.detach()), logits.shape[-1]
    return Loss(value, True, *entropy) if entropy else Loss(value, True)


def _called(loss_fn: Callable[..., Any], output: Any, logits: Tensor | None, y: Any) -> Tensor:
    targets = () if y is None else (y,)
    try:
        value = loss_fn(output, *targets)
    except Exception as error:
        if isinstance(output, Tensor) or logits is None:
            raise _failed(error) from error
        try:  # torch's losses take the logits, not what holds them
            value = loss_fn(logits, *targets)
        except Exception:
            raise _failed(error) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"loss_fn gives {shape}, not a scalar: reduce it, e.g. by .mean()")
    return value.reshape(())


def _failed(error: Exception) -> InputError:
    return InputError(
        f"loss_fn fails on the model's output ({type(error).__name__}: {error}): pass one that "
        "takes (model(x), y), or model(x) alone where y is None"
    )


def _usual(logits: Tensor | None, y: Tensor) -> Tensor:
    if logits is not None and not y.is_floating_point():
        flat = _classified(logits, y)
        if flat:
            return F.cross_entropy(*flat)
    if logits is not None and y.is_floating_point() and logits.shape == y.shape:
        return F.mse_loss(logits, y)
    shape = None if logits is None else tuple(logits.shape)
    raise InputError(
        f"targets {tuple(y.shape)} {y.dtype} do not tell the loss of an output {shape}: pass "
        "loss_fn="
    )


def _own(output: Any) -> Tensor | None:
    """The loss that a model computes itself, as those of transformers do when given labels."""
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    return own.mean() if isinstance(own, Tensor) else None


def _logits(output: Any) -> Tensor | None:
    named = output.get("logits") if isinstance(output, Mapping) else None
    if isinstance(named, Tensor):
        return named
    return next((t for t in tensors(output) if t.is_floating_point() and t.dim()), None)


def _classified(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """(logits, targets) as cross-entropy takes them; None where the targets are no classes."""
    if y.is_floating_point() or y.dtype == torch.bool or logits.dim() < 2:
        return None
    if y.shape == (*logits.shape[:1], *logits.shape[2:]):
        dim = 1
    elif y.shape == logits.shape[:-1]:
        dim = -1
    else:
        return None
    flat, targets = logits.movedim(dim, -1).reshape(-1, logits.shape[dim]), y.reshape(-1).long()
    counted = targets[targets != -100]
    fits = counted.numel() and flat.shape[1] > 1 and int(counted.min()) >= 0
    return (flat, targets) if fits and int(counted.max()) < flat.shape[1] else None


def _entropy(logits: Tensor | None, y: Any) -> tuple[float, int] | None:
    flat = _classified(logits, y) if logits is not None and isinstance(y, Tensor) else None
    if flat is None:
        return None
    with torch.no_grad():
        return float(F.cross_entropy(flat[0].float(), flat[1])), flat[0].shape[1]


def _are_classes(labels: Any) -> bool:
    return isinstance(labels, Tensor) and not labels.is_floating_point()


def _projection(output: Any) -> Tensor:
    """A random direction in the output, of unit size for each sample."""
    parts = [t for t in tensors(output) if t.is_floating_point() and t.numel()]
    parts = [getattr(part, "full_tensor", lambda part=part: part)() for part in parts]  # a DTensor
    if not parts:
        raise InputError("the model returns no floating point tensor: there is nothing to check")
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(())
    for part in parts:
        noise = torch.randn(part.shape, generator=generator).to(part.device, part.dtype)
        total = total.to(part.device) + (part * noise).sum() / math.sqrt(part.numel())
    return total
