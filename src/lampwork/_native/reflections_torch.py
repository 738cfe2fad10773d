"""Householder reflections multiplied up by torch's products, see `lampwork._native.reflections`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK, _LARGE_BLOCK, _LARGE = 128, 256, 1024
"""Reflections that are applied at a time; more of them where there are more columns than this."""

_TILE = 64
"""Sizes are multiples of it inside."""


def orthonormal_columns(q: Tensor, draw: Callable[[Tensor, int, int], object]) -> Tensor:
    """Fills a matrix as `reflections.orthonormal_columns` does, in float32 or float64."""
    rows, columns = q.shape
    height, width = (-(-size // _TILE) * _TILE for size in q.shape)
    # Products of whole tiles come out the same whatever the number of threads.
    whole = q if (height, width) == (rows, columns) else q.new_zeros(height, width)
    at_a_time = _LARGE_BLOCK if columns > _LARGE else _BLOCK
    for first in reversed(range(0, columns, at_a_time)):
        count = min(at_a_time, columns - first)
        padded = min(at_a_time, width - first)
        block = q.new_zeros(height - first, padded)
        draw(block[: rows - first, :count], first, first)
        sign = _reflect(block[: rows - first, :count])
        _put_before(whole[first:, first:], block, sign)
    return q if whole is q else q.copy_(whole[:rows, :columns])


def _reflect(gauss: Tensor) -> Tensor:
    """Makes columns unit vectors v of reflections I − 2vvᵀ; gives the signs of R's diagonal.

    What lies above the diagonal of the Gaussian matrix is not used.
    """
    top = gauss[: gauss.shape[1]].tril_()
    diagonal = top.diagonal()
    sign = torch.where(diagonal < 0, 1.0, -1.0).to(gauss.dtype)
    norm = torch.linalg.vector_norm(gauss, dim=0)
    # The reflection takes x to sign·|x|·e₁; of the two vectors that do it the longer loses no
    # digits. Its square is 2|x|(|x| + |x₁|).
    scale = 1.0 / (2.0 * norm * (norm + diagonal.abs())).sqrt()
    diagonal -= sign * norm
    gauss.mul_(scale)
    return sign


def _put_before(q: Tensor, v: Tensor, sign: Tensor) -> None:
    """Puts the product of the reflections, with signs, before what q holds beyond their number.

    With the signs the matrix is uniform over all (Mezzadri 2007).
    """
    count = v.shape[1]
    # The product is I − v·T·vᵀ, with this for the inverse of T.
    inverse = (v.T @ v).triu_(1)
    inverse.diagonal().fill_(0.5)
    t = torch.linalg.solve_triangular(
        inverse, torch.eye(count, dtype=v.dtype, device=v.device), upper=True
    )
    across = q.new_empty(count, q.shape[1])
    across[:, :count] = 0.0
    torch.mul(v[: len(sign)].T, sign, out=across[:, : len(sign)])
    torch.mm(v[count:].T, q[count:, count:], out=across[:, count:])
    q[:, :count] = 0.0
    q[:count, count:] = 0.0
    q.diagonal()[: len(sign)] = sign
    q.addmm_(v, t @ across, alpha=-1.0)
