"""Stacking samples into a batch that is larger than the caches, past them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

try:
    from lampwork._native._kernels import stack as _stack
except ImportError:  # built without a compiler
    _stack = None

LARGE = 16 << 20
"""Bytes from which a batch is not expected to be in the cache still when somebody reads it."""


def pays(out: Tensor) -> bool:
    """Whether a batch in `out` is better stacked past the caches."""
    return _stack is not None and out.numel() * out.element_size() >= LARGE


def stack(samples: Sequence[Tensor], out: Tensor) -> bool:
    """`torch.stack(samples, out=out)` where all samples are plain; whether that was so.

    Args:
        samples: of shape (…).
        out: contiguous, of shape (len(samples), …).
    """
    dtype, shape = out.dtype, out.shape[1:]
    if _stack is None or not all(_plain(sample, dtype, shape) for sample in samples):
        return False
    addresses = array("Q", [sample.data_ptr() for sample in samples])
    _stack(out.data_ptr(), addresses, out[0].numel() * out.element_size())
    return True


def _plain(sample: object, dtype: torch.dtype, shape: torch.Size) -> bool:
    """Whether a sample is nothing but its memory, which holds one part of the batch."""
    return (
        type(sample) is Tensor
        and sample.dtype == dtype
        and sample.shape == shape
        and sample.is_cpu
        and sample.layout == torch.strided
        and sample.is_contiguous()
        and not (sample.requires_grad or sample.is_conj() or sample.is_neg())
    )
