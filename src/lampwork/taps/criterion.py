"""Which loss functions a loss was computed with, and on what: read off the graph behind it.

Nothing is patched for it, so nothing is changed: `F.cross_entropy`, `nn.CrossEntropyLoss` and a
compiled or imported alias of either leave the same nodes behind, `NllLoss` after `LogSoftmax`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from lampwork.taps.graph import (
    Node,
    around,
    inputs,
    kind,
    number,
    parameter,
    saved,
    shape,
    trail,
)

MOST_NODES = 128
"""Nodes looked at between a loss and the last layers; losses of many parts have some dozens."""

_SQUASHED = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_ELEMENTWISE = {
    "MseLoss": "mse",
    "SmoothL1Loss": "smooth_l1",
    "HuberLoss": "huber",
    "Sub": "difference",
    "Rsub": "difference",
}


@dataclass
class Criterion:
    """One loss function of a loss.

    Attributes:
        name: `cross_entropy`, `nll`, `log_softmax` (its target is no index), `bce_with_logits`,
            `bce`, `mse`, `smooth_l1`, `huber`, or `difference`, one that was written out.
        shape: of the input, as the function got it.
        classes: of a cross-entropy; None elsewhere.
        squashed: the function that the input had been put through, where the loss does so itself.
        broadcast: shapes of input, target and result, where both of the first were stretched.
        trail: numbers of the operations from the input back to what computed it; a module's output
            is the input if the number of its operation is among them.
        squasher: the number of that operation.
        target: None where it cannot be read.
        log_probabilities: shape (N, C, …), of a cross-entropy with such a target.
        ignored: the target that does not count.
    """

    name: str
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    squashed: str | None = None
    broadcast: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None = None
    trail: list[int] = field(default_factory=list)
    squasher: int | None = None
    target: Tensor | None = None
    log_probabilities: Tensor | None = None
    ignored: int | None = None


def criteria(loss: Tensor) -> list[Criterion]:
    """The loss functions of a loss, nearest first; those that are not known are left out.

    Tensors in them belong to the graph: they are to be let go before its backward pass ends.
    """
    found = [criterion for node in around(loss, MOST_NODES) for criterion in _of_node(node)]
    with_index = {place for c in found if c.name in ("cross_entropy", "nll") for place in c.trail}
    # The logarithm of the softmax is a node of its own, which belongs to the loss after it.
    return [
        c for c in found if c.name != "log_softmax" or not c.trail or c.trail[0] not in with_index
    ]


def _of_node(node: Node) -> Iterator[Criterion]:
    name = kind(node)
    if name in ("NllLoss", "NllLoss2D", "NllLossNd"):
        yield _nll(node)
    elif name == "LogSoftmax":
        yield _softmaxed(node, Criterion("log_softmax"))
    elif name == "BinaryCrossEntropyWithLogits":
        yield _binary(node, Criterion("bce_with_logits"))
    elif name == "BinaryCrossEntropy":
        yield _binary(node, Criterion("bce"))
    elif name in _ELEMENTWISE:
        found = _elementwise(node, Criterion(_ELEMENTWISE[name]))
        if found.name != "difference" or found.broadcast:
            yield found


def _nll(node: Node) -> Criterion:
    found = Criterion("nll")
    way = trail(inputs(node)[0])
    found.trail = [number(step) for step in way]
    if way and kind(way[-1]) == "LogSoftmax":
        found.name = "cross_entropy"
        _softmaxed(way[-1], found)
        found.log_probabilities = saved(node, "self")
    elif way:
        found.shape = shape(way[0])
    found.target = saved(node, "target")
    found.ignored = int(node._saved_ignore_index)
    if found.ignored >= 1 << 63:  # torch hands a negative number out as an unsigned one
        found.ignored -= 1 << 64
    return found


def _softmaxed(node: Node, found: Criterion) -> Criterion:
    """What a logarithm of a softmax tells: the classes, and what its input went through."""
    found.shape = shape(node)
    dim = int(node._saved_dim)
    if found.shape:
        found.classes = found.shape[dim - (1 << 64) if dim >= 1 << 63 else dim]
    _look_behind(node, found, "Softmax", own=found.trail[-1:] != [number(node)])
    return found


def _binary(node: Node, found: Criterion) -> Criterion:
    way = trail(inputs(node)[0])
    found.shape = shape(way[0]) if way else None
    _look_behind(node, found, "Sigmoid", own=False)
    if found.name == "bce":  # it asks for a sigmoid
        found.squashed = found.squasher = None
    found.target = saved(node, "target")
    return found


def _look_behind(node: Node, found: Criterion, squashing: str, *, own: bool) -> None:
    """Follow the input of a node back, through one function that squashes it."""
    found.trail += [number(node)] if own else []
    way = trail(inputs(node)[0])
    found.trail += [number(step) for step in way]
    if way and kind(way[-1]) in _SQUASHED:
        if kind(way[-1]) == squashing:
            found.squashed, found.squasher = _SQUASHED[squashing], number(way[-1])
        before = inputs(way[-1])[0]
        found.trail += [number(step) for step in trail(before)]


def _elementwise(node: Node, found: Criterion) -> Criterion:
    """A loss of input and target, element by element, which ought to be of one shape."""
    sources = inputs(node)
    known = [source for source in sources if source is not None]
    if not known:
        return found
    way = trail(known[0])
    found.trail = [number(step) for step in way]
    found.shape = shape(way[0])
    # Where both come with a gradient, as in a loss of all pairs, they are meant to be stretched.
    if len(known) == 1:
        found.target = saved(node, "target")
        found.broadcast = _stretched(node, known[0], found.name)
        if found.broadcast:
            found.shape = found.broadcast[0]
    return found


def _stretched(
    node: Node, source: Node, name: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """Shapes of input, target and result, where input and target have both been stretched."""
    result = shape(source) if name != "difference" else shape(node)
    while kind(source) == "Expand" and (before := inputs(source)[0]) is not None:
        source = before
    # `unsqueeze` just before it says that every pair is meant.
    given = shape(source)
    if result is None or given is None or given == result or kind(source) == "Unsqueeze":
        return None
    target = saved(node, "target")
    wanted = _column_and_row(given, result) if target is None else _unstretched(target)
    if wanted is None or _size(wanted) == _size(result) or _size(given) == _size(result):
        return None
    return given, wanted, result


def _column_and_row(given: tuple[int, ...], result: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a target that is not to be seen: (N,) beside (N, 1), and the other way round."""
    if len(result) != 2 or result[0] != result[1]:
        return None
    count = result[0]
    return {(count, 1): (count,), (count,): (count, 1)}.get(given)


def _unstretched(tensor: Tensor) -> tuple[int, ...]:
    """The shape that a tensor had before it was expanded."""
    sides = [
        1 if stride == 0 else side
        for side, stride in zip(tensor.shape, tensor.stride(), strict=True)
    ]
    while len(sides) > 1 and sides[0] == 1:
        del sides[0]
    return tuple(sides)


def _size(sides: tuple[int, ...]) -> int:
    size = 1
    for side in sides:
        size *= side
    return size


def owner_of(node: Node, names: dict[int, str]) -> str | None:
    """The name of the layer whose parameter a node uses, by the parameter's `id`."""
    for before in inputs(node):
        todo = [before] if before is None or parameter(before) is not None else trail(before)
        for step in todo:
            leaf = parameter(step)
            if leaf is not None and id(leaf) in names:
                return names[id(leaf)]
    return None
