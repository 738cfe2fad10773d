"""A few examples of the first batch that is trained on: the same in every picture of a run.

What changes from picture to picture is then the network and not its input. The class of each
example is read off the gradient of the loss: that of cross-entropy at the logits is
softmax - onehot, negative at the true class and nowhere else (Bridle, 1990).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lampwork.taps.structure import map_tensors, tensors
from lampwork.taps.tap import Inputs, Taps, Visit, on_gradient

MOST_EXAMPLES = 4
MOST_BYTES = 8 * 2**20

Wrap = Callable[[Callable[..., None]], Callable[..., None]]


@dataclass
class Probe:
    """What a module was called with, cut down to a few examples.

    Attributes:
        name: dotted name of the module that was called.
        module: the module.
        inputs: positional and keyword arguments, tensors copied.
        count: examples in it.
        labels: int64 of shape (count,), -1 where the loss did not tell; None if it never did.
    """

    name: str
    module: nn.Module
    inputs: Inputs
    count: int
    labels: Tensor | None = None

    @property
    def images(self) -> Tensor | None:
        """The first tensor, where it is a batch of images: (count, channels, height, width)."""
        first = tensors(self.inputs)[0]
        image = first.dim() == 4 and min(first.shape[-2:]) > 1 and not first.is_complex()
        return first if image else None


@dataclass
class Waiting:
    """Hooks that wait for the first training forward; they come off with `remove`.

    Looked at are the model and its children, since a LightningModule's own forward may never be
    called. The first of them that is called, which is the outermost, is the one.
    """

    model: nn.Module
    guard: Wrap
    probe: Probe | None = None
    _called: nn.Module | None = None
    _taps: Taps | None = None
    _hooks: list[RemovableHandle] = field(default_factory=list)

    def install(self) -> None:
        """Wait, unless the examples are there."""
        if self.probe is None and self._taps is None:
            known = {"": self.model, **dict(self.model.named_children())}
            entered, left = self.guard(self._entered), self.guard(self._left)
            self._taps = Taps(known, before=entered, after=left, in_graphs=False)

    def follow(self) -> None:
        """The module that the examples are for may be another one, or gone, and with it they."""
        if self.probe is not None:
            modules = dict(self.model.named_modules())
            if self.probe.name in modules:
                self.probe.module = modules[self.probe.name]
            else:
                self.probe = None
        if self._taps is not None:
            self._taps.follow({"": self.model, **dict(self.model.named_children())})

    def remove(self) -> None:
        """Take the hooks off."""
        if self._taps is not None:
            self._taps.remove()
            self._taps = None
        for handle in self._hooks:
            handle.remove()
        self._hooks.clear()

    def _entered(self, visit: Visit, inputs: Inputs) -> None:
        if self.probe is None and torch.is_grad_enabled():
            name, module = visit.name, visit.module
            while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
                module, name = module.get_submodule("module"), f"{name}.module".removeprefix(".")
            self.probe, self._called = few(name, module, inputs), visit.module

    def _left(self, visit: Visit, output: Any) -> None:
        if visit.module is not self._called or self._hooks:
            return
        logits = scores(output)
        if logits is not None and logits.requires_grad:
            self._hooks.append(on_gradient(logits, self.guard(self._label)))

    def _label(self, gradient: Tensor) -> None:
        if self.probe is not None and self.probe.labels is None:
            self.probe.labels = true_classes(gradient[: self.probe.count])


def few(name: str, module: nn.Module, inputs: Inputs) -> Probe | None:
    """The first examples of the inputs, copied; None where there is none or they are large.

    The batch is the first dimension of the first tensor. A tensor of another first dimension, a
    mask or a table of positions, is kept whole.
    """
    found = tensors(inputs)
    if not found or found[0].dim() == 0 or len(found[0]) == 0:
        return None
    if any(t.layout != torch.strided or t.is_nested or t.is_meta for t in found):
        return None
    batch = len(found[0])

    def is_cut(tensor: Tensor) -> bool:
        return tensor.dim() > 0 and len(tensor) == batch

    whole = sum(t.nbytes for t in found if not is_cut(t))
    each = sum(t.nbytes for t in found if is_cut(t)) // batch
    count = min(batch, MOST_EXAMPLES, (MOST_BYTES - whole) // max(each, 1))
    if count < 1:
        return None

    def copy(tensor: Tensor) -> Tensor:
        return (tensor[:count] if is_cut(tensor) else tensor).detach().clone()

    return Probe(name, module, map_tensors(copy, inputs), count)


def scores(output: Any) -> Tensor | None:
    """The logits in what a classifier returned: its first tensor of shape (batch, classes)."""
    found = (t for t in tensors(output) if t.dim() == 2 and t.is_floating_point() and len(t))
    return next(found, None)


def true_classes(gradient: Tensor) -> Tensor:
    """The one class whose score each example's loss wants to rise; -1 where it is not one."""
    negative = gradient < 0
    return gradient.argmin(1).where(negative.sum(1) == 1, -1)
