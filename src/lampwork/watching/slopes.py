"""How steep tanh and sigmoid are where the values of a step lie, modules and functions alike.

Autograd keeps what they gave, since that is what their slope is computed from; so it is read off
the graph just before a backward pass, at a few recorded steps at ever larger distances. Looked at
are those between layers. The last one may well be sure of itself, and one whose result multiplies
something is a gate, which may well be open or shut for good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lampwork.taps.criterion import MOST_NODES, owner_of
from lampwork.taps.graph import VIEWS, Node, around, everything, inputs, kind, number, saved, trail
from lampwork.watching.excerpt import Arrays, excerpt

_MOST = 10_000
"""Nodes of a graph beyond which it is not walked through."""
_FULL = 4
"""Recorded steps at the start at which it is, and the largest distance after them in their turn."""
FLAT = 0.04
"""Of the steepest slope; tanh at 0.98, sigmoid at 0.01 and 0.99."""

_SLOPES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "Tanh": lambda y: 1 - y**2,
    "Sigmoid": lambda y: 4 * y * (1 - y),
}


class Slopes:
    """Of one model.

    Args:
        model: the model.
        called: module of such a function by the number of its operation, as of this step.
    """

    def __init__(self, model: nn.Module, called: dict[int, str]) -> None:
        self._model, self._called = model, called
        self._steps = 0
        self.follow()
        self._now: dict[str, tuple[str, Tensor]] = {}

    def follow(self) -> None:
        """Look up the model's modules anew."""
        self._names = {
            id(p): name for name, m in self._model.named_modules() for p in m.parameters(False)
        }
        self._idle = False

    def look(self, loss: Tensor) -> None:
        """Read the graph behind a loss, if it is time for it."""
        if self._idle or self._now or not self._is_due():
            return
        nodes = everything(loss, _MOST)
        if len(nodes) >= _MOST:
            self._idle = True
            return
        found = [node for node in nodes if kind(node) in _SLOPES]
        self._idle = not found  # until the model has other modules
        last = set(around(loss, MOST_NODES)) if found else set()
        after = _consumers(nodes) if found else {}
        for node in found:
            if node in last or any(kind(taker) == "Mul" for taker in after[node]):
                continue
            result, name = saved(node, "result"), self._name(node)
            some = None if result is None or name is None else excerpt(result)
            if some is not None and name is not None:
                self._now.setdefault(name, (kind(node), some))

    def _is_due(self) -> bool:
        return self._steps < _FULL or self._steps % _FULL == 0

    def _name(self, node: Node) -> str | None:
        known = self._called.get(number(node))
        if known is not None:
            return known
        before = trail(inputs(node)[0])
        return owner_of(before[-1], self._names) if before else None

    def next_step(self, *, recorded: bool) -> None:
        """A step has ended, and whether it was recorded."""
        self._steps += recorded
        self._now = {}

    def notes(self) -> Callable[[], dict[str, Any]]:
        """`slopes`: by name the function, its mean slope and the share of flat places; once asked.

        Slopes are relative to the steepest there is.
        """
        if not self._now:
            return dict
        told = {name: function for name, (function, _) in self._now.items()}
        arrays = Arrays([values for _, values in self._now.values()])

        def read() -> dict[str, Any]:
            found = {}
            for (name, function), values in zip(told.items(), arrays.read(), strict=True):
                slopes = _SLOPES[function](values.astype(np.float64))
                numbers = float(slopes.mean()), float((slopes < FLAT).mean())
                found[name] = [function.lower(), *(round(n, 4) for n in numbers)]
            return {"slopes": found}

        return read


def _consumers(nodes: list[Node]) -> dict[Node, list[Node]]:
    """The operations that take the result of each, past those that only reshape it."""
    takers: defaultdict[Node, list[Node]] = defaultdict(list)
    for node in reversed(nodes):  # the last first, so that what a view feeds is known by then
        own = takers[node] if kind(node) in VIEWS else [node]
        for before in inputs(node):
            if before is not None:
                takers[before] += own
    return takers
