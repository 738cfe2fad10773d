"""Who called an optimizer's step, as the call stack tells.

Torch hands its hooks the optimizer alone. What lies around the step stands in the frames above it:
a `GradScaler`, which knows of each optimizer whether its gradients are scaled still, or a step of
the same optimizer, of which this one is a part (`super().step()`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer

_MOST = 64
"""Frames that are looked at: ours, torch's, and those of a framework that wraps the step."""


def scaler() -> GradScaler | None:
    """The scaler that steps the optimizer."""
    for frame in _frames():
        if frame.f_code is GradScaler.step.__code__:
            return frame.f_locals["self"]
    return None


def scale_of(scaler: GradScaler | None) -> Tensor | None:
    """What its losses are multiplied by, if at all; on the device where it lives."""
    return getattr(scaler, "_scale", None)


def has_unscaled(scaler: GradScaler, optimizer: Optimizer) -> bool:
    """Whether the gradients of an optimizer were divided by the scale since its last update."""
    states: dict[int, dict[str, Any]] = getattr(scaler, "_per_optimizer_states", {})
    state = states.get(id(optimizer))
    return state is not None and state["stage"] is not OptState.READY


def depth(stepping: Optimizer) -> int:
    """How many steps of an optimizer are running, one inside of the other."""
    return sum(
        frame.f_code.co_name == "wrapper"
        and frame.f_code.co_filename == Optimizer.__init__.__code__.co_filename
        and frame.f_locals.get("self") is stepping
        for frame in _frames()
    )


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_MOST):
        if frame is None:
            return
        yield frame
        frame = frame.f_back
