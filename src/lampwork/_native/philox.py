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
from typing import NamedTuple

import torch
from torch import Tensor

try:
    from lampwork._native._kernels import philox_fill as _native_fill
except ImportError:  # built without a compiler
    _native_fill = None

_WORDS, _UNIFORM, _NORMAL, _TRUNC_NORMAL = range(4)
_NATIVE_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int32: 2}

PIECE = 2**18
"""Elements that are drawn at a time where a target is not written directly."""

ALONE_BELOW = 2**16
"""Elements that are not worth another thread."""


class Stream(NamedTuple):
    """One of 2^128 streams of 2^66 words each.

    Attributes:
        key: 64 bits.
        counter: the upper 64 bits of the counter.
    """

    key: int
    counter: int


class Box(NamedTuple):
    """Where in a stream the elements of a tensor lie.

    Attributes:
        offset: the position of the first element.
        strides: for each dimension, how many positions further the next element lies.
    """

    offset: int
    strides: tuple[int, ...]


class _Numbers(NamedTuple):
    """What a word is turned into, see `_values_of`."""

    scale: float
    shift: float
    low: float = 0.0
    high: float = 0.0
    below: float = 0.0
    above: float = 0.0
    mass: float = 0.0


def dense(shape: Sequence[int], offset: int = 0) -> Box:
    """The box of a whole tensor in row-major order."""
    strides = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
    return Box(offset, tuple(strides))


def words(stream: Stream, first: int, count: int, device: str | torch.device = "cpu") -> Tensor:
    """The words at `count` positions from `first` on, as int32 with the bits of the unsigned."""
    target = torch.empty(count, dtype=torch.int32, device=device)
    _fill(_WORDS, target, stream, dense((count,), first), _Numbers(1.0, 0.0))
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
    numbers = _Numbers(high - low, low, low, high)
    _fill(_UNIFORM, target, stream, box, numbers)


def fill_normal(
    target: Tensor, stream: Stream, mean: float, std: float, box: Box | None = None
) -> None:
    """Fills with N(mean, std²), up to 6.3 standard deviations; arguments as `fill_uniform`."""
    _fill(_NORMAL, target, stream, box, _Numbers(std, mean))


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
    numbers = _Numbers(std, mean, low, high, below, above, mass)
    _fill(_TRUNC_NORMAL, target, stream, box, numbers)


def _cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


# ---- filling ------------------------------------------------------------------------------------


@torch.no_grad()
def _fill(kind: int, target: Tensor, stream: Stream, box: Box | None, numbers: _Numbers) -> None:
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


def _drawn(kind: int, piece: Tensor, stream: Stream, box: Box, numbers: _Numbers) -> Tensor:
    """The values of a small piece as a tensor of its own, on the piece's device or the CPU."""
    device = piece.device if piece.device.type == "cuda" else torch.device("cpu")
    dtype = torch.int32 if kind == _WORDS else torch.float32
    values = torch.empty(piece.shape, dtype=dtype, device=device)
    if _is_written_natively(values, kind, numbers):
        _fill_natively(kind, values, stream, box, numbers)
        return values
    return _values_of(kind, _words_of(piece.shape, stream, box, device), numbers)


def _is_written_natively(target: Tensor, kind: int, numbers: _Numbers) -> bool:
    return (
        _native_fill is not None
        and target.is_cpu
        and target.dtype in _NATIVE_TYPES
        and target.is_contiguous()
        and (kind != _TRUNC_NORMAL or _in_float32(numbers))
    )


def _in_float32(numbers: _Numbers) -> bool:
    return numbers.mass >= 1 / 64


def _fill_natively(kind: int, target: Tensor, stream: Stream, box: Box, numbers: _Numbers) -> None:
    assert _native_fill is not None
    sizes, strides = _rows(target.shape, box.strides)
    threads = min(torch.get_num_threads(), 1 + target.numel() // ALONE_BELOW)
    where = (target.data_ptr(), *stream, box.offset)
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


def _rows(shape: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
    """The same box in as few dimensions as it takes; the last one has stride 1."""
    sizes: list[int] = []
    steps: list[int] = []
    for size, step in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if sizes and steps[-1] == size * step:
            sizes[-1] *= size
            steps[-1] = step
        else:
            sizes.append(size)
            steps.append(step)
    if not steps or steps[-1] != 1:
        sizes.append(1)
        steps.append(1)
    return sizes, steps


# ---- the same in torch --------------------------------------------------------------------------

_LOW = 0xFFFFFFFF


def _words_of(shape: Sequence[int], stream: Stream, box: Box, device: torch.device) -> Tensor:
    """The words of a box as int32."""
    sizes, strides = _rows(shape, box.strides)
    starts = torch.full((1,), box.offset, dtype=torch.int64, device=device)
    for size, step in zip(sizes[:-1], strides[:-1], strict=True):
        along = torch.arange(size, dtype=torch.int64, device=device) * step
        starts = (starts[:, None] + along).flatten()
    inner = sizes[-1]
    across = torch.arange((inner + 6) // 4, dtype=torch.int64, device=device)
    found = _blocks(stream, (starts[:, None] >> 2) + across).flatten(1)
    columns = (starts[:, None] & 3) + torch.arange(inner, dtype=torch.int64, device=device)
    return found.gather(1, columns).to(torch.int32).reshape(shape)


def _blocks(stream: Stream, index: Tensor) -> Tensor:
    """Four words for each block, in int64; shape (*index.shape, 4)."""
    c0, c1 = index & _LOW, (index >> 32) & _LOW
    c2, c3 = torch.full_like(c0, stream.counter & _LOW), torch.full_like(c0, stream.counter >> 32)
    k0, k1 = stream.key & _LOW, stream.key >> 32
    for _ in range(10):
        # The product wraps round in int64; its bits are those of the unsigned one.
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            ((b >> 32) & _LOW) ^ c1 ^ k0,
            b & _LOW,
            ((a >> 32) & _LOW) ^ c3 ^ k1,
            a & _LOW,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    found = torch.stack([c0, c1, c2, c3], dim=-1)
    return torch.where(found > 0x7FFFFFFF, found - 2**32, found)


def _values_of(kind: int, words: Tensor, numbers: _Numbers) -> Tensor:
    """What the C functions of the same names compute."""
    if kind == _WORDS:
        return words
    if kind == _UNIFORM:
        u = (((words >> 9) & 0x7FFFFF).to(torch.float32) + 0.5) * 2.0**-23
        return (u * numbers.scale + numbers.shift).clamp_(numbers.low, numbers.high)
    near = words ^ (words >> 31)  # distance from the nearer end of all words
    u = (near.to(torch.float32) + 0.5) * 2.0**-32
    if kind == _NORMAL:
        x = ((near ^ 0x7FFFFFFF).to(torch.float32) + 0.5) * 2.0**-31
        z = _tail_quantile(x, u)
        return torch.where(words >= 0, -z, z) * numbers.scale + numbers.shift
    if not _in_float32(numbers):
        return _far_values(words, numbers)
    far = 1.0 - u
    left = torch.where(words < 0, far, u) * numbers.mass + numbers.below
    right = torch.where(words < 0, u, far) * numbers.mass + numbers.above
    p = torch.where(left < right, left, right)
    z = _tail_quantile(1.0 - 2.0 * p, p)
    value = torch.where(left < right, -z, z) * numbers.scale + numbers.shift
    return value.clamp_(numbers.low, numbers.high)


def _far_values(words: Tensor, numbers: _Numbers) -> Tensor:
    u = ((words.to(torch.int64) & _LOW).to(torch.float64) + 0.5) * 2.0**-32
    left = numbers.below + numbers.mass * u
    right = numbers.above + numbers.mass * (1.0 - u)
    z = torch.special.ndtri(torch.minimum(left, right))
    value = torch.where(left < right, z, -z) * numbers.scale + numbers.shift
    return value.clamp_(numbers.low, numbers.high).to(torch.float32)


# In u = f − 0.06066 for ln(1 + f)/f; in w − 3.125 and √w − 3.875 for the quantile. Minimax fits.
_LOG = (
    0.970843077,
    -0.46215111,
    0.291949928,
    -0.207084581,
    0.154844195,
    -0.121274464,
    0.119309783,
    -0.101068214,
)
_BODY = (
    2.3386209,
    0.339634746,
    -0.00853375252,
    -0.00104722835,
    0.000264815171,
    -1.9741854e-05,
    -2.15416003e-06,
    6.16015086e-07,
    -1.23432269e-08,
    -7.15581416e-09,
)
_FAR = (
    5.25184965,
    1.42713416,
    0.00229019742,
    -0.00150167046,
    0.000573847676,
    -0.00020527927,
    0.000138909483,
    -0.000117674106,
    4.57428105e-05,
    -4.27240957e-06,
)


def _tail_quantile(x: Tensor, p: Tensor) -> Tensor:
    """Φ⁻¹(1 − p) for p from 2^-40 to 1/2, given x = 1 − 2p: x·P(w), w = −ln(4p(1 − p)).

    P is a polynomial in w up to 6.25, one in √w above. Relative error below 4e-7.
    """
    y = (4.0 * p) * (1.0 - p)
    moved = y.view(torch.int32) - 0x3F3504F3  # the mantissa from √½ on
    exponent = (moved >> 23).to(torch.float32)
    f = ((moved & 0x007FFFFF) + 0x3F3504F3).view(torch.float32) - 1.0
    log = _horner(_LOG, f - 0.0606601723)
    w = 0.0 - (exponent * 0.693147182 + log * f)
    # Torch's float32 √ on the CPU is not the nearest number in every sixth case; this is.
    s = w.to(torch.float64).sqrt().to(torch.float32) - 3.875
    return x * torch.where(w < 6.25, _horner(_BODY, w - 3.125), _horner(_FAR, s))


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value.mul_(x).add_(coefficient)
    return value
