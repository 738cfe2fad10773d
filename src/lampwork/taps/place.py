"""What a parameter does in the forward pass: the matrix of a product, a scale, a shift, a token.

For parameters of modules that nobody knows by type. Which dimension of a matrix is summed over is
read off the strides: a view of a parameter, transposed or one expert of many, has those of its
dimensions, and on meta tensors too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lampwork.taps.functions import CONVOLUTIONS


@dataclass(frozen=True)
class Place:
    """What a parameter does, at its first use.

    Attributes:
        does: matrix, convolution, scale, offset (a scale that 1 is added to), shift, token (joined
            or added to the signal, position by position), table (rows are looked up) or other.
        depth: how many layers the signal has gone through behind it, on the longest way.
        summed: the dimensions of a matrix that a product sums over.
        stacked: the dimensions of which each index has a matrix of its own.
        pieces: into how many equal parts the output is cut right away, as q, k and v are.
        ends: whether no further layer takes what comes out.
    """

    does: str
    depth: int
    summed: tuple[int, ...] = ()
    stacked: tuple[int, ...] = ()
    pieces: int = 1
    ends: bool = False


def of_product(
    name: str, args: tuple, kwargs: Mapping[str, Any], operand: Tensor, parameter: Tensor
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(does, summed, stacked) of a parameter that a product takes as this operand.

    Args:
        name: of torch's function.
        args: of the call.
        kwargs: of the call.
        operand: the tensor that the function took.
        parameter: that it is made of.
    """
    if name in CONVOLUTIONS:
        return ("convolution", (), ()) if parameter.shape == operand.shape else ("other", (), ())
    found = _dims(name, args, kwargs, operand)
    if found is None:
        return "other", (), ()
    own = [_own_dim(operand, dim, parameter) for dim in range(operand.dim())]
    if any(own[dim] is None for dim in (*found[0], *found[1])):
        return "other", (), ()
    summed = tuple(sorted(d for dim in found[0] if (d := own[dim]) is not None))
    kept = {own[dim] for dim in found[1]}
    stacked = tuple(dim for dim in range(parameter.dim()) if dim not in {*summed, *kept})
    return "matrix", summed, stacked


def _dims(
    name: str, args: tuple, kwargs: Mapping[str, Any], operand: Tensor
) -> tuple[list[int], list[int]] | None:
    """The operand's dimensions that are summed over, and those that are kept."""
    if name == "einsum":
        return _einsum_dims(args, operand)
    if name == "linear":
        return ([1], [0]) if operand.dim() == 2 else None
    factors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    factors = factors[-2:] if name in ("addmm", "baddbmm") else factors[:2]
    if operand.dim() < 2 or not any(factor is operand for factor in factors):
        return None
    right = factors[-1] is operand if name != "__rmatmul__" else factors[0] is operand
    last = operand.dim() - 1
    return ([last - 1], [last]) if right else ([last], [last - 1])


def _einsum_dims(args: tuple, operand: Tensor) -> tuple[list[int], list[int]] | None:
    if not args or not isinstance(args[0], str) or "->" not in args[0] or "." in args[0]:
        return None
    inputs, _, output = args[0].replace(" ", "").partition("->")
    operands = args[1] if isinstance(args[1], list | tuple) else args[1:]
    letters = inputs.split(",")
    places = [place for place, tensor in enumerate(operands) if tensor is operand]
    if len(places) != 1 or len(letters) != len(operands):
        return None
    own = letters.pop(places[0])
    summed = [dim for dim, letter in enumerate(own) if letter not in output]
    elsewhere = "".join(letters)
    kept = [dim for dim, letter in enumerate(own) if letter in output and letter not in elsewhere]
    return summed, kept


def _own_dim(operand: Tensor, dim: int, parameter: Tensor) -> int | None:
    """The dimension of the parameter that this one of a view of it is."""
    if operand.dim() == parameter.dim() == 2 and operand.shape[0] == operand.shape[1] == 1:
        return dim  # all strides are alike, and so are the dimensions
    matching = [
        own
        for own in range(parameter.dim())
        if parameter.stride(own) == operand.stride(dim) and parameter.size(own) == operand.size(dim)
    ]
    return matching[-1] if matching else None


def cut(name: str, args: tuple, outputs: Sequence[Tensor], width: int) -> int:
    """Into how many equal parts a call cuts an output of `width` features; 1 where it does not."""
    source = args[0] if args and isinstance(args[0], Tensor) else None
    if source is None or not outputs:
        return 1
    first = outputs[0]
    if name == "__getitem__":
        count = source.shape[0] if isinstance(args[1], int) and source.dim() > 1 else 1
        return count if 1 < count <= 4 and source.stride(0) * count == width else 1
    count = len(outputs)
    if not 1 < count <= 4 or any(part.shape != first.shape for part in outputs):
        return 1
    if name == "unbind":
        along = [source.stride(dim) for dim in range(source.dim()) if source.shape[dim] == count]
        return count if width in [count * stride for stride in along] else 1
    halves = [dim for dim in range(source.dim()) if source.shape[dim] != first.shape[dim]]
    fits = len(halves) == 1 and source.stride(halves[0]) == 1 and source.shape[halves[0]] == width
    return count if fits else 1
