"""One tensor → its summary row, in pure torch.

This is the reference that compiled kernels have to agree with: the columns of
`lampwork._core.summary`, sums in float64, computed where the tensor lives and without a
synchronisation, so that a step's rows can travel to the CPU together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lampwork._core.summary import BINS, EXPONENT_MIN, empty_row

_EXPONENT_BIAS = 127  # of float32
_MANTISSA_BITS = 23


@torch.no_grad()
def summary_row(values: Tensor) -> Tensor:
    """The row of a dense real tensor of any shape: float64, shape `(WIDTH,)`, same device.

    The columns `units` and `dead` are 0: they need to know which dimension holds the channels.
    """
    if values.numel() == 0:
        return torch.from_numpy(empty_row()).to(values.device)
    x = _as_float(values.detach())
    finite = torch.isfinite(x)
    clean = torch.where(finite, x, 0.0)
    head = (
        torch.full((), float(x.numel()), device=x.device),
        clean.sum(dtype=torch.float64),
        torch.linalg.vector_norm(clean, dtype=torch.float64).square(),
        (x == 0).sum(),
        torch.isnan(x).sum(),
        (x == math.inf).sum(),
        (x == -math.inf).sum(),
        torch.where(finite, x, math.inf).amin(),
        torch.where(finite, x, -math.inf).amax(),
    )
    columns = [column.to(torch.float64) for column in head]
    unknown = torch.zeros(2, dtype=torch.float64, device=x.device)  # units, dead
    return torch.cat([torch.stack(columns), unknown, _exponents(clean).to(torch.float64)])


def _as_float(x: Tensor) -> Tensor:
    if x.dtype in (torch.float32, torch.float64):
        return x
    return x.to(torch.float64 if x.dtype in (torch.int32, torch.int64) else torch.float32)


def _exponents(clean: Tensor) -> Tensor:
    """How many elements have each binary exponent, shape `(BINS,)`; zeros are left out."""
    bits = clean.abs().to(torch.float32).flatten().view(torch.int32)
    bins = (bits >> _MANTISSA_BITS) - (_EXPONENT_BIAS + EXPONENT_MIN)
    bins = torch.where(clean.flatten() == 0, BINS, bins.clamp_(0, BINS - 1))
    return torch.bincount(bins, minlength=BINS + 1)[:BINS]
