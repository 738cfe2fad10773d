"""What goes into the model and comes out of it at a recorded step, as a whole.

Of each tensor that goes in, a row of statistics; of all together a fingerprint, by which a batch is
known again; of the output, how much it differs between samples. Watched are the model itself and
its entries, the layers that the data reaches first, which may come to them scaled or embedded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lampwork.taps.graph import number
from lampwork.taps.statistic import RawRow, measure, readable
from lampwork.taps.structure import tensors
from lampwork.taps.tap import Inputs, Taps, Visit
from lampwork.watching.activations import Key, Seen
from lampwork.watching.excerpt import Arrays, alike, excerpt, fingerprint, spread
from lampwork.watching.guard import Guard

_MOST_INPUTS = 8
_SQUASHING = (nn.Softmax, nn.Sigmoid, nn.Softmax2d, nn.Tanh)


class Passes:
    """Forward passes of a model between two steps.

    Attributes:
        squashers: module of class Softmax, Sigmoid or Tanh, by the number of its operation.
        seen: what the record tells about each input.
    """

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._model, self._guard = model, guard
        self._taps: list[Taps] = []
        self.follow()
        self.squashers: dict[int, str] = {}
        self.seen: dict[Key, Seen] = {}
        self.next_step()

    def install(self) -> None:
        """Put the hooks on, unless they are."""
        if not self._taps:
            guarded = self._guard
            self._taps = [
                Taps(
                    {"": self._model},
                    before=guarded(self._begin),
                    after=guarded(self._end),
                    in_graphs=False,
                ),
                Taps(self._entries, before=guarded(self._enter), in_graphs=False),
                Taps(self._squashing, after=guarded(self._squashed), in_graphs=False),
            ]

    def follow(self) -> None:
        """Look up the model's modules anew, also where they are about to be called."""
        named = [(name, m) for name, m in self._model.named_modules() if name]
        self._entries = {name: m for name, m in named if _maps(m)}
        self._squashing = {name: m for name, m in named if isinstance(m, _SQUASHING)}
        self._entries_known = False
        for taps, modules in zip(self._taps[1:], (self._entries, self._squashing), strict=False):
            taps.follow(modules)

    def remove(self) -> None:
        """Take the hooks off."""
        for taps in self._taps:
            taps.remove()
        self._taps = []

    def next_step(self) -> None:
        """Forget what was seen: a step has ended."""
        self.rows: list[tuple[Key, RawRow]] = []
        self._batch: list[Tensor] = []
        self._output: Tensor | None = None
        self._inputs: dict[int, Key] = {}
        self._met: set[str] = set()
        self._size = 0
        self._outputs: set[int] = set()
        self._made: set[int] = set()
        self.squashers.clear()
        for taps in self._taps:
            taps.restart_all()

    def notes(self) -> Callable[[], dict[str, Any]]:
        """`batch`: `size`, `fingerprint`, `alike`, and `spread`, that of the output; once asked."""
        if not self._batch:
            return dict
        size, parts, output = self._size, len(self._batch), self._output
        arrays = Arrays([*self._batch, *([] if output is None else [output])])
        if self._met:
            self._keep_entries()

        def read() -> dict[str, Any]:
            found = arrays.read()
            own = found[:parts]
            told: dict[str, Any] = {
                "size": size,
                "fingerprint": fingerprint(own),
                "alike": alike(own),
            }
            if output is not None and (differs := spread(found[-1])) is not None:
                told["spread"] = float(f"{differs:.4g}")
            return {"batch": told}

        return read

    def gave(self, trail: list[int], target: Tensor | None) -> bool | None:
        """Whether a loss was computed on the model's output, and on targets that it did not make.

        None where the model was not seen to be called as a whole.

        Args:
            trail: the operations from the loss back to what computed its input.
            target: what it was compared with.
        """
        if not self._outputs:
            return None
        made = target is not None and _place(target) in self._made
        return not made and not self._outputs.isdisjoint(trail)

    def _keep_entries(self) -> None:
        """From the first recorded step on, only the entries are hooked."""
        if not self._entries_known:
            self._entries_known = True
            self._entries = {name: m for name, m in self._entries.items() if name in self._met}
            self.remove()

    def _begin(self, visit: Visit, inputs: Inputs) -> None:
        if visit.recomputed or not torch.is_grad_enabled():
            return
        if self._taps[0].inside_of_itself(visit):
            return
        first = not self._batch
        for taps in self._taps[1:]:  # the model's own is in the middle of its call
            taps.restart()
        for part, tensor in enumerate(tensors(inputs)[:_MOST_INPUTS]):
            if first:
                some = excerpt(tensor)
                self._batch += [] if some is None else [some]
                self._size = self._size or (len(tensor) if tensor.dim() else 1)
            if tensor.is_floating_point() and (row := measure(tensor)) is not None:
                key = Key("input", "", 1, part)
                self._describe(key, self._model, tensor)
                self.rows.append((key, row))
                self._inputs[_place(tensor)] = key

    def _enter(self, visit: Visit, inputs: Inputs) -> None:
        if visit.recomputed or visit.call > 1 or not torch.is_grad_enabled():
            return
        for tensor in tensors(inputs)[:1]:
            known = self._inputs.get(_place(tensor))
            if known is None and self._met and visit.name not in self._met:
                return  # something inside the model
            self._met.add(visit.name)
            if known is not None:
                seen = self.seen[known]
                self.seen[known] = seen._replace(facts={**seen.facts, "feeds": visit.name})
            elif tensor.is_floating_point() and (row := measure(tensor)) is not None:
                key = Key("input", visit.name)
                self._describe(key, visit.module, tensor)
                self.rows.append((key, row))

    def _end(self, visit: Visit, output: Any) -> None:
        if visit.recomputed or not torch.is_grad_enabled():
            return
        for tensor in tensors(output):
            if tensor.grad_fn is not None:
                self._outputs.add(number(tensor.grad_fn))
            elif not tensor.is_floating_point():
                self._made.add(_place(tensor))
            if self._output is None and tensor.is_floating_point() and tensor.dim() > 1:
                whole = len(tensor) == self._size
                self._output = excerpt(tensor) if whole else None

    def _squashed(self, visit: Visit, output: Any) -> None:
        for tensor in tensors(output):
            if tensor.grad_fn is not None:
                self.squashers[number(tensor.grad_fn)] = visit.name

    def _describe(self, key: Key, module: nn.Module, tensor: Tensor) -> None:
        if key not in self.seen:
            facts = {"module": type(module).__name__, "root": module is self._model}
            dtype = str(tensor.dtype).removeprefix("torch.")
            self.seen[key] = Seen(tuple(tensor.shape), dtype, facts)


def _maps(module: nn.Module) -> bool:
    """Whether a module has a matrix of its own that it multiplies its input by."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return False
    return any(_is_unmade(p) or p.dim() > 1 for p in module.parameters(recurse=False))


def _is_unmade(parameter: nn.Parameter) -> bool:
    return nn.parameter.is_lazy(parameter)


def _place(tensor: Tensor) -> int:
    """Where in memory a tensor begins: views of one tensor, and it itself, have it in common."""
    local = readable(tensor)
    if local is None or type(local) not in (Tensor, nn.Parameter):
        return -id(tensor)
    return local.untyped_storage().data_ptr() or -id(tensor)
