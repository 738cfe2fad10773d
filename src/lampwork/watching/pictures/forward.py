"""One forward of the probe, through a replica of the model, and the backward of its scores."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lampwork.taps.structure import map_tensors, tensors
from lampwork.taps.tap import Inputs, Taps, Visit, on_gradient
from lampwork.watching.pictures.attention import Attention
from lampwork.watching.pictures.attribution import Seen, chosen_scores
from lampwork.watching.pictures.feature_maps import first_example, is_spatial
from lampwork.watching.pictures.probe import Probe, scores
from lampwork.watching.pictures.replica import NoReplica, apart, replica

_KEPT = 12
"""Layers of each shape that are remembered for attribution, the last ones."""


@dataclass
class Result:
    """What the probe's forward and backward gave; `seen` and `gradient` for images only.

    Attributes:
        maps: by name of the layer, (channels, height, width) of the first example, few and small.
        grids: height and width of every output that is (examples, channels, height, width).
        attention: by name of the layer, (heads, queries, keys).
        seen: layers with their gradients, in the order of the forward pass.
        gradient: of the scores at the images; None where there are no scores.
    """

    maps: dict[str, Tensor] = field(default_factory=dict)
    grids: list[tuple[int, int]] = field(default_factory=list)
    attention: dict[str, Tensor] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    gradient: Tensor | None = None


class _Layers:
    """Taps on every module of the replica."""

    def __init__(self, model: nn.Module, probe: Probe, result: Result) -> None:
        self._probe, self._result = probe, result
        self._wants_gradients = False
        self._stack: list[str] = []
        self._position = 0
        self._kept: dict[tuple[int, bool], deque[tuple[int, str, Tensor, list[Tensor], bool]]] = {}
        prefix = f"{probe.name}." if probe.name else ""
        known = {
            prefix + name if name else probe.name: module for name, module in model.named_modules()
        }
        self._root = model
        self._taps = Taps(known, before=self._enter, after=self._leave)

    def follow_gradients(self) -> None:
        self._wants_gradients = True

    def remove(self) -> None:
        self._taps.remove()

    def place(self) -> str:
        return self._stack[-1] if self._stack else self._probe.name

    def seen(self) -> list[Seen]:
        """What got a gradient, in the order of the forward pass."""
        kept = sorted((item for queue in self._kept.values() for item in queue), key=lambda i: i[0])
        return [Seen(name, value, got[0], norm) for _, name, value, got, norm in kept if got]

    def _enter(self, visit: Visit, inputs: Inputs) -> None:
        self._stack.append(visit.name)

    def _leave(self, visit: Visit, output: Any) -> None:
        while self._stack and self._stack.pop() != visit.name:
            pass
        if visit.recomputed or visit.module is self._root or not isinstance(output, Tensor):
            return
        if not output.is_floating_point() or output.dim() not in (3, 4):
            return
        if len(output) != self._probe.count:
            return
        label = visit.name + (f"#{visit.call}" if visit.call > 1 else "")
        if is_spatial(output):
            height, width = output.shape[2:]
            self._result.grids.append((height, width))
            if isinstance(visit.module, nn.Conv2d):
                self._result.maps[label] = first_example(output)
        if self._wants_gradients and output.requires_grad:
            self._keep(label, visit.module, output)

    def _keep(self, label: str, module: nn.Module, output: Tensor) -> None:
        # Copied now: what comes next may work in place.
        norm = "norm" in type(module).__name__.lower()
        got: list[Tensor] = []
        on_gradient(output, got.append)
        self._position += 1
        queue = self._kept.setdefault((output.dim(), norm), deque(maxlen=_KEPT))
        queue.append((self._position, label, output.detach().clone(), got, norm))


def look(probe: Probe) -> Result:
    """Run the probe.

    Raises:
        NoReplica: the module cannot be run apart from the training.
        Exception: whatever its forward raises in eval mode.
    """
    model = replica(probe.module)
    device = _device(model, probe)
    result = Result()
    layers = _Layers(model, probe, result)
    inputs = map_tensors(lambda t: t.detach().clone().to(device), probe.inputs)
    images = _images(probe, inputs)
    with ExitStack() as stack:
        stack.callback(layers.remove)
        stack.enter_context(apart(device))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            stack.enter_context(_NoCollectives())
        if images is not None:
            images.requires_grad_()
            layers.follow_gradients()
        attention = Attention(probe.count, layers.place)
        with attention:
            output = model(*inputs[0], **inputs[1])
        result.attention = attention.maps
        if images is not None:
            _backward(output, images, probe, layers, result)
    return result


def _backward(output: Any, images: Tensor, probe: Probe, layers: _Layers, result: Result) -> None:
    logits = scores(output)
    if logits is None or len(logits) != probe.count or not logits.requires_grad:
        return
    total = chosen_scores(logits, probe.labels).sum()
    try:
        (gradient,) = torch.autograd.grad(total, [images], allow_unused=True)
    except RuntimeError:  # reentrant checkpointing forbids it, for example
        return
    result.gradient, result.seen = gradient, layers.seen()


def _images(probe: Probe, inputs: Inputs) -> Tensor | None:
    if probe.images is None or not probe.images.is_floating_point():
        return None
    return tensors(inputs)[0]


def _device(model: nn.Module, probe: Probe) -> torch.device:
    first = next(model.parameters(), None)
    return tensors(probe.inputs)[0].device if first is None else first.device


class _NoCollectives(TorchDispatchMode):
    """Refuses to talk to other ranks, which may not be taking pictures: it would wait for ever."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if "c10d" in func.namespace:
            raise NoReplica(f"its forward talks to other ranks ({func})")
        return func(*args, **(kwargs or {}))
