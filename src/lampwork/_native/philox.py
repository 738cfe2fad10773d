"""Random values as a function of a stream and a position: Philox 4x32-10 (Salmon et al. 2011).

Element i of a stream is word i % 4 of the block whose 128-bit counter is (i / 4, stream.counter),
under the key stream.key. A word becomes a value alone, without its neighbours, so any stretch of a
tensor can be filled by anybody and gets the values that it has in the whole.

Two implementations stand behind the functions: the C kernel for CPU tensors, and the same
operations in torch, also for other devices. They use nothing but integers and the float32
operations that IEEE 754 rounds exactly (+, ·, √), in the same order: both give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lampwork._native.philox_torch import (
    NORMAL,
    TRUNC_NORMAL,
    UNIFORM,
    WORDS,
    Box,
    Numbers,
    Stream,
    is_in_float32,
    rows_of,
    values_of,
    words_of,
)

try:
    from lampwork._native._kernels import philox_fill as _native_fill
except ImportError:  # built without a compiler
    _native_fill = None

_NATIVE_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int32: 2}

PIECE = 2**18
"""Elements that are drawn at a time where a target is not written directly."""

ALONE_BELOW = 2**16
"""Elements that are not worth another thread."""


def dense(shape: Sequence[int], offset: int = 0) -> Box:
    """The box of a whole tensor in row-major order."""
    strides = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
    return Box(offset, tuple(strides))


def words(stream: Stream, first: int, count: int, device: str | torch.device = "cpu") -> Tensor:
    """The words at `count` positions from `first` on, as int32 with the bits of the unsigned."""
    target = torch.empty(count, dtype=torch.int32, device=device)
    _fill(WORDS, target, stream, dense((count,), first), Numbers(1.0, 0.0))
    return target


def fill_uniform(
    target: Tensor, stream: Stream, low: float, high: float, box: Box | None = None
) -> None:
    """Fills with uniform values between `low` and `high`, 2^23 of them, symmetric.

    Args:
        target: a floating-point tensor of any dtype, layout and device; nothing is done on meta.
        stream: the stream.
        low: no value is below.
        high: no value is above.
        box: where in the stream the target lies; without it, it is a whole tensor.
    """
    numbers = Numbers(high - low, low, low, high)
    _fill(UNIFORM, target, stream, box, numbers)


def fill_normal(
    target: Tensor, stream: Stream, mean: float, std: float, box: Box | None = None
) -> None:
    """Fills with N(mean, std²), up to 6.3 standard deviations; arguments as `fill_uniform`."""
    _fill(NORMAL, target, stream, box, Numbers(std, mean))


def fill_trunc_normal(
    target: Tensor,
    stream: Stream,
    mean: float,
    std: float,
    a: float,
    b: float,
    box: Box | None = None,
) -> None:
    """Fills with N(mean, std²) cut at `a` and `b` standard deviations, exactly.

    Where the cut leaves less than 1/64 of the Gaussian, the quantile is taken in float64. It must
    leave something that float64 can tell from 0.
    """
    below, above = _cdf(a), _cdf(-b)
    # Of two numbers near 1 or 0 the difference is taken where they are near 0.
    mass = _cdf(b) - below if b < 0 else _cdf(-a) - above
    low, high = mean + std * a, mean + std * b
    numbers = Numbers(std, mean, low, high, below, above, mass)
    _fill(TRUNC_NORMAL, target, stream, box, numbers)


def _cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


@torch.no_grad()
def _fill(kind: int, target: Tensor, stream: Stream, box: Box | None, numbers: Numbers) -> None:
    if target.is_meta or not target.numel():
        return
    box = box or dense(target.shape)
    if _is_written_natively(target, kind, numbers):
        _fill_natively(kind, target, stream, box, numbers)
        if not target.is_inference():
            # The kernel writes behind autograd's back.
            torch.autograd.graph.increment_version(target)
        return
    for piece, place in _pieces(target, box):
        piece.copy_(_drawn(kind, piece, stream, place, numbers))


def _drawn(kind: int, piece: Tensor, stream: Stream, box: Box, numbers: Numbers) -> Tensor:
    """The values of a small piece as a tensor of its own, on the piece's device or the CPU."""
    device = piece.device if piece.device.type == "cuda" else torch.device("cpu")
    dtype = torch.int32 if kind == WORDS else torch.float32
    values = torch.empty(piece.shape, dtype=dtype, device=device)
    if _is_written_natively(values, kind, numbers):
        _fill_natively(kind, values, stream, box, numbers)
        return values
    return values_of(kind, words_of(piece.shape, stream, box, device), numbers)


def _is_written_natively(target: Tensor, kind: int, numbers: Numbers) -> bool:
    return (
        _native_fill is not None
        and target.is_cpu
        and target.dtype in _NATIVE_TYPES
        and target.is_contiguous()
        and (kind != TRUNC_NORMAL or is_in_float32(numbers))
    )


def _fill_natively(kind: int, target: Tensor, stream: Stream, box: Box, numbers: Numbers) -> None:
    assert _native_fill is not None
    sizes, strides = rows_of(target.shape, box.strides)
    threads = min(torch.get_num_threads(), 1 + target.numel() // ALONE_BELOW)
    where = (target.data_ptr(), stream.key, stream.counter, box.offset)
    _native_fill(kind, _NATIVE_TYPES[target.dtype], *where, sizes, strides, numbers, threads)


def _pieces(target: Tensor, box: Box) -> Iterator[tuple[Tensor, Box]]:
    """Views of at most `PIECE` elements, each with its box."""
    if target.numel() <= PIECE:
        yield target, box
        return
    dim = next(d for d, size in enumerate(target.shape) if size > 1)
    size = target.shape[dim]
    step = max(1, PIECE * size // target.numel())
    for start in range(0, size, step):
        piece = target.narrow(dim, start, min(step, size - start))
        yield from _pieces(piece, Box(box.offset + start * box.strides[dim], box.strides))
