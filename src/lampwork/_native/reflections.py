"""A random orthogonal matrix, uniform over all of them, by Householder reflections.

Stewart (1980): the QR factorisation of a Gaussian matrix meets, in its i-th step, a Gaussian
vector that is independent of all before. So the reflections can be drawn outright and only have to
be multiplied up: 4/3 n³ operations, nearly all in products of matrices (the compact WY form of
Schreiber and Van Loan 1989), where a factorisation takes as many again and is bound to columns.

Two implementations: the C kernel for float32 on the CPU, whose values do not depend on threads, and
torch's products, which also hold for float64. They agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lampwork._native import reflections_torch

try:
    from lampwork._native._kernels import multiply_reflections as _multiply
except ImportError:  # built without a compiler
    _multiply = None

_BLOCK, _TILE = 96, 4
"""Reflections that the kernel applies at a time, and rows of which it takes whole numbers."""

_ALONE_BELOW = 2**12
"""Elements that are not worth another thread."""

Draw = Callable[[Tensor, int, int], object]
"""Fills a block with what a Gaussian matrix has from a row and a column on."""


@torch.no_grad()
def orthonormal_columns(q: Tensor, draw: Draw) -> Tensor:
    """Fills a matrix with a Haar-distributed one of orthonormal columns.

    Args:
        q: shape (n, k) with n ≥ k, float32 or float64 on the CPU, any strides.
        draw: gives the Gaussian matrix, shape (n, k), whose factorisation this is.

    Returns:
        `q`; its columns are orthonormal to rounding.
    """
    if not q.numel():
        return q
    if _multiply is None or q.dtype != torch.float32:
        return reflections_torch.orthonormal_columns(q, draw)
    rows, columns = q.shape
    counts = [min(_BLOCK, columns - first) for first in range(0, columns, _BLOCK)]
    padded = -(-rows // _TILE) * _TILE
    sizes = [(padded - i * _BLOCK) * count for i, count in enumerate(counts)]
    drawn = q.new_empty(sum(sizes))
    for i, (block, count) in enumerate(zip(drawn.split(sizes), counts, strict=True)):
        first = i * _BLOCK
        draw(block[: (rows - first) * count].view(-1, count), first, first)
    threads = min(torch.get_num_threads(), 1 + q.numel() // _ALONE_BELOW)
    down, across = q.stride()
    _multiply(drawn.data_ptr(), len(drawn), q.data_ptr(), rows, columns, down, across, threads)
    if not q.is_inference():
        # The kernel writes behind autograd's back.
        torch.autograd.graph.increment_version(q)
    return q
