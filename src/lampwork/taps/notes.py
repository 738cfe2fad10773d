"""What the watcher of a forward pass knows: a call of a torch function, and a note per tensor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lampwork.taps import functions
from lampwork.taps.structure import map_tensors


@dataclass(frozen=True)
class Note:
    """What is known of one tensor.

    `flow` is as `last`, with those layers too of which a softmax hands on weightings. `weights` is
    not empty where it is made of parameters only, `offset` where 1 was added to one.
    Of data, `origin` is the tensor that it was computed from value by value, `factor` times it if
    by nothing but numbers, and `gate` the function of it that it is, with the layers it met.
    """

    weights: frozenset[str] = frozenset()
    offset: bool = False
    unmet: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()
    flow: frozenset[str] = frozenset()
    depth: int = 0
    roots: frozenset[int] = frozenset()
    origin: int = 0
    factor: float = 1.0
    gate: tuple[str, frozenset[str]] | None = None


@dataclass(frozen=True)
class Call:
    """One call of a torch function, with the notes of its tensors as they were before it."""

    name: str
    func: Callable
    args: tuple
    kwargs: dict[str, Any]
    inputs: list[Tensor]
    notes: list[Note | None]

    def of(self, tensor: Any) -> Note:
        """The note of one argument."""
        found = (n for t, n in zip(self.inputs, self.notes, strict=True) if t is tensor)
        return next(found, None) or Note()

    def arguments(self) -> dict[str, Any]:
        """By name; empty where torch tells no signature."""
        try:
            return inspect.signature(self.func).bind(*self.args, **self.kwargs).arguments
        except (TypeError, ValueError):
            return {}


def merge(notes: list[Note]) -> Note:
    """What is known of a result that comes from all of these."""
    return Note(
        unmet=frozenset[str]().union(*(note.unmet for note in notes)),
        last=frozenset[str]().union(*(note.last for note in notes)),
        flow=frozenset[str]().union(*(note.flow for note in notes)),
        depth=max((note.depth for note in notes), default=0),
        roots=frozenset[int]().union(*(note.roots for note in notes)),
    )


def started(layers: frozenset[str], before: Note) -> Note:
    """The note of what layers give."""
    depth, roots = before.depth + 1, before.roots
    return Note(unmet=layers, last=layers, flow=layers, depth=depth, roots=roots)


def called(call: Call) -> Any:
    """The result; on meta, torch's grouped product knows the shape of bfloat16 alone."""
    args, kwargs = call.args, call.kwargs
    if call.name not in functions.GROUPED or not call.inputs[0].is_meta:
        return call.func(*args, **kwargs)
    dtype = call.inputs[0].dtype
    args, kwargs = map_tensors(
        lambda t: t.bfloat16() if t.is_floating_point() else t, (args, kwargs)
    )
    return call.func(*args, **kwargs).to(dtype)


def pointwise(call: Call, data: list[Note]) -> dict[str, Any]:
    """What is still known of the tensor that the result was computed from value by value."""
    origin = data[0].origin
    if call.name not in functions.POINTWISE or any(note.origin != origin for note in data):
        return {}
    gates = [note.gate for note in data if note.gate]
    factor = data[0].factor * functions.scalar_factor(call.name, call.args)
    return {"origin": origin, "factor": factor, "gate": gates[0] if gates else None}


def carried(call: Call, merged: Note) -> frozenset[str]:
    """Which last layers a result still comes from: attention hands on its values only."""
    if call.name in functions.WEIGHINGS:
        return frozenset()
    if call.name == functions.ATTENTION and len(call.args) >= 3:
        return call.of(call.args[2]).last
    return merged.last
