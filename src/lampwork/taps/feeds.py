"""Which layer feeds which through nothing but one activation, value by value, and nobody else.

What pairs units of one layer with those of the next has to know that. A layer's output is followed
from function to function; as soon as anything but an activation, what hands values on, or a layer
takes it, or the model returns it, or the layer is called again, it feeds nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from lampwork.taps import functions
from lampwork.taps.notes import Call
from lampwork.taps.uses import Feed

_TAKING = frozenset(["linear", *functions.CONVOLUTIONS])
# Each value stays that of its unit. Dropout does nothing in evaluation mode, in which is traced.
_HANDING_ON = frozenset(
    ["clone", "contiguous", "to", "float", "type", "type_as"]
    + ["pad", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"]
    + [f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)]
)


@dataclass(frozen=True)
class _Way:
    """Whose output a tensor is, and the activation that it went through, if it did."""

    source: str
    met: tuple[str, float | None] | None = None


class Feeds:
    """Follows outputs of layers through the calls of one pass."""

    def __init__(self) -> None:
        self._ways: dict[int, _Way] = {}
        self._found: dict[str, Feed] = {}
        self._called: set[str] = set()
        self._again: set[str] = set()
        self._broken: set[str] = set()

    def see(self, call: Call, outputs: Iterable[Tensor]) -> None:
        """One call, after it was made; tensors that were seen must live as long as this does."""
        ways = [self._ways[id(tensor)] for tensor in call.inputs if id(tensor) in self._ways]
        way = self._onwards(call, ways)
        if way is None:
            self._break(ways)
        for tensor in outputs:
            self._ways.pop(id(tensor), None)
            if way:
                self._ways[id(tensor)] = way

    def returned(self, tensors: Iterable[Tensor]) -> None:
        """What the model gives to others."""
        self._break(self._ways[id(tensor)] for tensor in tensors if id(tensor) in self._ways)

    def found(self) -> dict[str, Feed]:
        """By the weight of the layer that takes."""
        return {
            name: replace(feed, alone=feed.source not in self._broken)
            for name, feed in self._found.items()
            if name not in self._again
        }

    def _onwards(self, call: Call, ways: list[_Way]) -> _Way | None:
        if call.name in _TAKING:
            return self._layer(call, ways)
        if len(ways) != 1 or len(call.inputs) != 1:
            return None
        met = functions.nonlinearity(call.name, call.args, call.kwargs)
        if met:
            return None if ways[0].met else replace(ways[0], met=met)
        return ways[0] if call.name in _HANDING_ON else None

    def _layer(self, call: Call, ways: list[_Way]) -> _Way | None:
        weight = call.args[1] if len(call.args) > 1 else call.kwargs.get("weight")
        name = min(call.of(weight).weights, default="")
        into = self._ways.get(id(call.args[0])) if call.args else None
        if into and into.met and len(ways) == 1 and name:
            self._found[name] = Feed(into.source, *into.met)
        else:
            self._break(ways)
        if name in self._called:  # each call may take something else
            first = self._found.get(name)
            self._again.add(name)
            self._broken |= {name, *([first.source] if first else [])}
            self._break(ways)
        self._called.add(name)
        return _Way(name) if name else None

    def _break(self, ways: Iterable[_Way]) -> None:
        self._broken |= {way.source for way in ways}
