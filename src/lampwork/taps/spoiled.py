"""The first operation of a forward pass whose result is no number, read off autograd's graph.

Operations save what their backward pass will need: some their result, some their inputs, some
neither. So the first one with a spoiled tensor in its keeping is looked for, in the order of the
forward pass; where it is an input that is spoiled, what gave it is the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lampwork.taps.graph import Node, kind, number, parameter, saved, shape, trail

_RESULTS = ("result", "output", "out")


@dataclass(frozen=True)
class Spoiled:
    """Where numbers ended.

    Attributes:
        number: of the operation among all operations of its thread.
        operation: what it is, e.g. `"Log"`; "" where what it was given came in from outside.
    """

    number: int
    operation: str


def first_spoiled(nodes: Sequence[Node]) -> Spoiled | None:
    """The origin of NaN or infinity among nodes in the order of the forward pass, None if none.

    Minus infinity alone is a mask, so it counts only as an input of what is spoiled otherwise.
    """
    for node in nodes:
        kept = _kept(node)
        if any(_is_spoiled(tensor) for tensor in kept.values()):
            given = [t for name, t in kept.items() if not name.startswith(_RESULTS)]
            bad = next((t for t in given if not bool(torch.isfinite(t).all())), None)
            return Spoiled(number(node), kind(node)) if bad is None else _giver(node, bad)
    return None


def _giver(node: Node, spoiled: Tensor) -> Spoiled:
    """What gave an operation this input."""
    outside = False
    for before, part in node.next_functions:
        if before is None:
            outside = True
            continue
        source = trail(before)[-1]
        if parameter(source) is None and shape(before, part) == tuple(spoiled.shape):
            return Spoiled(number(source), kind(source))
    return Spoiled(number(node), "" if outside else kind(node))


def _kept(node: Node) -> dict[str, Tensor]:
    names = [name.removeprefix("_raw_saved_") for name in dir(node) if name.startswith("_raw_sa")]
    found = {name: saved(node, name) for name in names}
    return {name: t for name, t in found.items() if t is not None and t.is_floating_point()}


def _is_spoiled(tensor: Tensor) -> bool:
    return bool((torch.isnan(tensor) | (tensor == torch.inf)).any())
