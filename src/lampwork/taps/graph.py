"""Reading the graph that autograd has built: which operation follows which, and what it saved.

Nothing is kept: whoever holds a node holds the tensors that it saved, so nodes are looked at and
let go within one call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor

Node = Any  # torch.autograd.graph.Node, some of whose attributes torch gives no types for

VIEWS = {
    "Alias", "AsStrided", "Clone", "Detach", "Expand", "Index", "Movedim", "Narrow", "Permute",
    "Reshape", "ReshapeAlias", "Select", "Slice", "Squeeze", "T", "ToCopy", "Transpose",
    "Unflatten", "UnsafeView", "Unsqueeze", "View",
}  # fmt: skip
"""Operations that hand values on as they are, under another shape, order or type."""
LAYERS = {
    "Addbmm", "Addmm", "Addmv", "Baddbmm", "Bmm", "Convolution", "CudnnBatchNorm", "Embedding",
    "EmbeddingBag", "FusedRmsNorm", "Linear", "MkldnnConvolution", "MkldnnLinear", "Mm", "Mv",
    "NativeBatchNorm", "NativeGroupNorm", "NativeLayerNorm",
}  # fmt: skip
"""Operations with weights of their own."""


@cache
def _kind(name: str) -> str:
    return re.sub(r"Backward\d*$", "", name)


def kind(node: Node) -> str:
    """What operation a node goes back through, e.g. `"LogSoftmax"`."""
    return _kind(node.name())


def number(node: Node) -> int:
    """Its place among all operations of its thread: the later, the larger."""
    return node._sequence_nr()


def inputs(node: Node) -> list[Node | None]:
    """The nodes of its operation's inputs; None for one that needs no gradient."""
    return [before for before, _ in node.next_functions]


def parameter(node: Node | None) -> Tensor | None:
    """The leaf that a node adds a gradient to; None for a node of another kind."""
    return getattr(node, "variable", None)


def is_layer(node: Node) -> bool:
    """Whether the operation has weights."""
    return kind(node) in LAYERS or any(parameter(before) is not None for before in inputs(node))


def shape(node: Node, part: int = 0) -> tuple[int, ...] | None:
    """The shape of what the operation gave; None where torch does not tell."""
    leaf = parameter(node)
    if leaf is not None:
        return tuple(leaf.shape)
    try:
        return tuple(int(side) for side in node._input_metadata[part].shape)
    except (AttributeError, IndexError, RuntimeError, TypeError):
        return None


def saved(node: Node, name: str) -> Tensor | None:
    """A tensor that the operation saved; None where reading it would set something off.

    That is where it was packed: checkpointing would run a segment again, offloading would copy.
    None also for what was changed in place since, or freed.
    """
    raw = getattr(node, "_raw_saved_" + name, None)
    if raw is None or getattr(raw, "unpack_hook", raw) is not None:
        return None
    try:
        found = getattr(node, "_saved_" + name)
    except RuntimeError:
        return None
    return found if isinstance(found, Tensor) else None


def around(tensor: Tensor, most: int) -> Iterator[Node]:
    """The nodes of a tensor and of what it was made of, nearest first, but at most so many.

    Inputs of layers are not entered: what comes is what was computed after the last ones.
    """
    todo = [tensor.grad_fn] if tensor.grad_fn is not None else []
    met = set(todo)
    for place, node in enumerate(todo):
        if place >= most:
            return
        yield node
        if is_layer(node):
            continue
        for before in inputs(node):
            if before is not None and before not in met:
                met.add(before)
                todo.append(before)


def everything(tensor: Tensor, most: int) -> list[Node]:
    """All nodes of a tensor's graph, at most so many, in the order of the forward pass."""
    todo = [tensor.grad_fn] if tensor.grad_fn is not None else []
    met = set(todo)
    while todo and len(met) < most:
        for before in inputs(todo.pop()):
            if before is not None and before not in met:
                met.add(before)
                todo.append(before)
    # Leaves are numbered so that they come last in a backward pass, which tells nothing here.
    return sorted((node for node in met if parameter(node) is None), key=number)


def trail(node: Node | None) -> list[Node]:
    """A node and those before it, up to the first that computes something; empty for None."""
    found: list[Node] = []
    while node is not None:
        found.append(node)
        if kind(node) not in VIEWS or not inputs(node):
            break
        node = inputs(node)[0]
    return found
