"""The module in which the loss of a step stopped being a number, also of a step without hooks.

At the first recorded step, while hooks are on, it is learnt which stretch of the operations of a
forward pass belongs to which module. A later pass of the same operations needs no hook: when its
loss is NaN, the first spoiled operation is read off the graph, just before backward, and its place
in the sequence gives the module. Only losses on the CPU are looked at; others would be waited for.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lampwork.taps.graph import everything, kind, number
from lampwork.taps.spoiled import first_spoiled
from lampwork.taps.tap import Inputs, Taps, Visit
from lampwork.watching.guard import Guard

_MOST_NODES = 20_000
_next_number = getattr(getattr(torch._C, "_autograd", None), "_get_sequence_nr", None)


class _Stretch(NamedTuple):
    begin: int
    end: int
    name: str
    call: int = 0


class Origin:
    """Learns where modules lie in the graph, and finds the one that spoils a loss.

    Attributes:
        found: `step`, `module` (None: not in the model), `call` of it, and `operation`; empty while
            all is well.
    """

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._model, self._guard = model, guard
        self._taps: Taps | None = None
        self._open: list[tuple[str, int]] = []
        self._seen: list[_Stretch] = []
        self._known: dict[tuple[str, ...], list[_Stretch]] = {}
        self.found: dict[str, Any] = {}

    def install(self) -> None:
        """Put hooks on all modules, until a first backward pass has been learnt from."""
        if self._taps is None and not self._known and _next_number is not None:
            self._taps = Taps(
                dict(self._model.named_modules()),
                before=self._guard(self._begin),
                after=self._guard(self._end),
                in_graphs=False,
            )

    def follow(self) -> None:
        """The model has other modules: learn anew, at the next recorded step at the latest."""
        self._known = {}
        if self._taps is not None:
            self._taps.follow(dict(self._model.named_modules()))

    def remove(self) -> None:
        """Take the hooks off."""
        if self._taps is not None:
            self._taps.remove()
            self._taps = None
        self._open, self._seen = [], []

    def hear(self, loss: Tensor, step: int) -> None:
        """A backward pass begins at this loss."""
        if self._seen:
            self._learn(loss)
        elif not self.found and self._known and _is_spoiled(loss):
            self.found = self._search(loss, step)

    def _begin(self, visit: Visit, inputs: Inputs) -> None:
        assert _next_number is not None
        if not torch.is_grad_enabled() or visit.recomputed:
            return
        self._open.append((visit.name, _next_number()))

    def _end(self, visit: Visit, output: Any) -> None:
        assert _next_number is not None
        while torch.is_grad_enabled() and not visit.recomputed and self._open:
            name, begin = self._open.pop()
            if name == visit.name and len(self._seen) < _MOST_NODES:
                self._seen.append(_Stretch(begin, _next_number(), name))
                return

    def _learn(self, loss: Tensor) -> None:
        nodes = everything(loss, _MOST_NODES)
        if nodes:
            first = number(nodes[0])
            calls: Counter[str] = Counter()
            learnt = self._known[tuple(map(kind, nodes))] = []
            for begin, end, name, _ in sorted(self._seen):
                calls[name] += begin >= first
                learnt.append(_Stretch(begin - first, end - first, name, calls[name]))

    def _search(self, loss: Tensor, step: int) -> dict[str, Any]:
        nodes = everything(loss, _MOST_NODES)
        stretches = self._known.get(tuple(map(kind, nodes)))
        spoiled = first_spoiled(nodes)
        told: dict[str, Any] = {"step": step}
        sound = all(bool(torch.isfinite(p).all()) for p in self._model.parameters())
        if stretches is None or spoiled is None or not sound:
            return told  # a gradient had spoiled the weights before
        place = spoiled.number - number(nodes[0])
        around = [one for one in stretches if one.begin <= place < one.end]
        inner = min(around, key=lambda one: one.end - one.begin, default=None)
        within = place < max((one.end for one in stretches), default=0)
        # What lies between modules is of the model's own forward, whose first pass may be missed.
        module = inner.name if inner is not None else "" if within else None
        call = inner.call if inner is not None else 1
        return {**told, "module": module, "call": call, "operation": spoiled.operation}


def _is_spoiled(loss: Tensor) -> bool:
    return (
        loss.device.type == "cpu" and loss.numel() == 1 and not math.isfinite(float(loss.detach()))
    )
