"""A random orthogonal matrix, uniform over all of them, by Householder reflections.

Stewart (1980): the QR factorisation of a Gaussian matrix meets, in its i-th step, a Gaussian
vector that is independent of all before. So the reflections can be drawn outright and only have to
be multiplied up, which is 4/3 n³ operations, nearly all of them in products of matrices (the
compact WY form of Schreiber and Van Loan 1989), where a factorisation is bound to columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 128
"""Reflections that are applied at a time."""


def orthonormal_columns(gauss: Tensor) -> Tensor:
    """A Haar-distributed matrix of orthonormal columns.

    Args:
        gauss: independent N(0, 1), shape (n, k) with n ≥ k; it is overwritten. What lies above
            the diagonal is not used.

    Returns:
        Shape (n, k), the dtype and device of `gauss`; its columns are orthonormal to rounding.
    """
    columns = gauss.shape[1]
    v = gauss.tril_()
    diagonal = v.diagonal()
    sign = torch.where(diagonal < 0, -1.0, 1.0).to(v.dtype)
    # I − 2vvᵀ takes x to −sign(x₁)·|x|·e₁; the longer of the two vectors loses no digits.
    diagonal += sign * torch.linalg.vector_norm(v, dim=0)
    v /= torch.linalg.vector_norm(v, dim=0)
    q = torch.zeros_like(v)
    # With the signs of R's diagonal taken out, the matrix is uniform over all (Mezzadri 2007).
    q.diagonal().copy_(-sign)
    for first in reversed(range(0, columns, _BLOCK)):
        block = v[first:, first : first + _BLOCK]
        # A product of reflections is I − block·T·blockᵀ, with this for the inverse of T.
        inverse = (block.T @ block).triu_(1)
        inverse.diagonal().fill_(0.5)
        rest = q[first:, first:]
        along = torch.linalg.solve_triangular(inverse, block.T @ rest, upper=True)
        rest -= block @ along
    return q
