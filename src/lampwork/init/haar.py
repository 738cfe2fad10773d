"""A random orthogonal matrix, uniform over all of them, by Householder reflections.

Stewart (1980): the QR factorisation of a Gaussian matrix meets, in its i-th step, a Gaussian
vector that is independent of all before. So the reflections can be drawn outright and only have to
be multiplied up: 4/3 n³ operations, nearly all in products of matrices (the compact WY form of
Schreiber and Van Loan 1989), where a factorisation takes as many again and is bound to columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lampwork._native.philox import Box
from lampwork.init.draws import Draws

_BLOCK, _LARGE_BLOCK, _LARGE = 128, 256, 1024
"""Reflections that are applied at a time; more of them where there are more columns than this."""


def orthonormal_columns(q: Tensor, draws: Draws) -> Tensor:
    """Fills a matrix with a Haar-distributed one of orthonormal columns.

    Args:
        q: shape (n, k) with n ≥ k, float32 or float64, any strides.
        draws: of the Gaussian matrix, shape (n, k), whose factorisation this is.

    Returns:
        `q`; its columns are orthonormal to rounding.
    """
    rows, columns = q.shape
    at_a_time = _LARGE_BLOCK if columns > _LARGE else _BLOCK
    for first in reversed(range(0, columns, at_a_time)):
        count = min(at_a_time, columns - first)
        block = q.new_empty(rows - first, count)
        draws.block_(block, Box(first * columns + first, (columns, 1)))
        _put_before(q[first:, first:], *_reflections(block))
    return q


def _reflections(gauss: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors v of reflections I − 2vvᵀ, one a column, and the signs of R's diagonal.

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
    return gauss.mul_(scale), sign


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
    torch.mul(v[:count].T, sign, out=across[:, :count])
    torch.mm(v[count:].T, q[count:, count:], out=across[:, count:])
    q[:, :count] = 0.0
    q[:count, count:] = 0.0
    q.diagonal()[:count] = sign
    q.addmm_(v, t @ across, alpha=-1.0)
