"""One tensor → its summary row, in pure torch: on accelerators, and where no kernel was compiled.

The columns of `lampwork._core.summary`, sums in float64, computed where the tensor lives, so that
a step's rows can travel to the CPU together; nothing waits for an accelerator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby

import torch
from torch import Tensor

from lampwork._core.summary import BINS, EXPONENT_MIN, empty_row

# How a float is read as bits: the integer of its size, bits of the mantissa, exponent bias.
_LAYOUT = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}

SIZES = 6
"""Of a tensor, that are told behind its row; -1 for dimensions that it does not have."""

SAMPLED_ABOVE = 2**13
"""The size from which the exponents are counted on a sample; all other columns are exact.

Of n elements each (ceil(n / 2^13) | 1)th is looked at, in the order of memory. A bin that holds the
share p of them is off by a standard deviation of sqrt(p (1 - p) / 2^13) or a little more: 0.5 % of
the elements for p = 0.3.
"""


@torch.no_grad()
def summary_row(values: Tensor) -> Tensor:
    """The row of a dense real tensor of any shape: float64, shape `(WIDTH,)`, same device.

    The columns `units` and `dead` are 0: they need to know which dimension holds the channels.
    """
    if values.numel() == 0:
        return filled(empty_row().tolist(), values.device)
    x = _as_float(in_memory_order(values.detach().resolve_neg()))
    # In float64 at once: the default dtype may hold no such number.
    count = torch.full((), x.numel(), dtype=torch.float64, device=x.device)
    zeros = (x == 0).sum()  # five times as fast as torch.count_nonzero on the CPU
    low, high = torch.aminmax(x)
    none = torch.zeros((), device=x.device)
    # Both ends are finite only if all is; on the CPU, asking costs nothing and saves five passes.
    if x.is_cpu and math.isfinite(low) and math.isfinite(high):
        clean, spoiled = x, [none] * 3
    else:
        finite = torch.isfinite(x)
        clean = torch.where(finite, x, 0.0)
        spoiled = [torch.isnan(x).sum(), (x == math.inf).sum(), (x == -math.inf).sum()]
        low = torch.where(finite, x, math.inf).amin()
        high = torch.where(finite, x, -math.inf).amax()
    total = clean.sum(dtype=torch.float64)
    squares = torch.linalg.vector_norm(clean, dtype=torch.float64).square()
    # The last two are units and dead.
    columns = (count, total, squares, zeros, *spoiled, low, high, none, none)
    head = torch.stack([column.to(torch.float64) for column in columns])
    return torch.cat([head, _exponents(x)])


@torch.no_grad()
def row_with_sizes(values: Tensor) -> Tensor:
    """The row and behind it the tensor's `SIZES` sizes: float64, same device."""
    sizes = [*values.shape, *[-1] * (SIZES - values.dim())]
    return torch.cat([summary_row(values), filled(sizes, values.device)])


def filled(numbers: Iterable[float], device: torch.device) -> Tensor:
    """Numbers of the host on a device, float64: written there, since to send them makes it wait."""
    runs = [(value, len(list(same))) for value, same in groupby(numbers)]
    return torch.cat(
        [torch.full((count,), value, dtype=torch.float64, device=device) for value, count in runs]
    )


def _as_float(x: Tensor) -> Tensor:
    if x.dtype in _LAYOUT:
        return x
    # Half precisions fit into float32; for integers only float64 has the digits.
    return x.to(torch.float32 if x.is_floating_point() else torch.float64)


def _exponents(x: Tensor) -> Tensor:
    """How many elements have each binary exponent, shape `(BINS,)`, float64.

    Counted are the exponents as they stand in the bits. The first of them also counts zeros, and
    the last one only what is not finite; without those, what is beyond our bins goes to the ends.
    Above `SAMPLED_ABOVE` elements every so many are looked at, and stand for those between.
    """
    flat = x
    if len(flat) > SAMPLED_ABOVE:
        # An odd stride does not fall in step with rows of even length.
        flat = flat[:: -(-len(flat) // SAMPLED_ABOVE) | 1].contiguous()
    integer, mantissa, bias = _LAYOUT[x.dtype]
    exponents = (flat.view(integer) >> mantissa) & (2 * bias + 1)
    # Not `torch.bincount`, which asks an accelerator for the largest number.
    counts = torch.zeros(2 * bias + 2, dtype=torch.int32, device=x.device)
    one = torch.ones((), dtype=torch.int32, device=x.device).expand(len(flat))
    counts = counts.scatter_add(0, exponents.to(torch.int64), one).to(torch.float64)
    first = EXPONENT_MIN + bias
    bins = counts[first : first + BINS].clone()
    bins[0] += counts[:first].sum() - (flat == 0).sum()
    bins[-1] += counts[first + BINS : -1].sum()
    return bins * (x.numel() / len(flat))


def in_memory_order(x: Tensor) -> Tensor:
    """All elements in one dimension; a view where the tensor is dense in any order."""
    order = sorted(range(x.dim()), key=lambda dim: -x.stride(dim))
    return x.permute(order).flatten()


@torch.no_grad()
def alive(values: Tensor, dim: int) -> Tensor:
    """Which channels, those along `dim`, have a non-zero element anywhere: bool, (channels,)."""
    others = [d for d in range(values.dim()) if d != dim]
    values = values.detach()
    if values.is_floating_point() and values.itemsize == 1:  # float8 has no largest element
        values = values.to(torch.float32)
    # The largest magnitude is not 0 (nor is a NaN): ten times as fast as `any` on the CPU.
    sizes = values if values.dtype == torch.bool else values.abs()
    return (sizes.amax(dim=others) if others else sizes) != 0  # no dimension would mean all
