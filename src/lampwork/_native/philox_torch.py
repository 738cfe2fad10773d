"""Philox 4x32-10 and what becomes of its words, in torch: on any device, the kernel's own bits.

Nothing but integers and the float32 operations that IEEE 754 rounds exactly (+, ·, √), in the order
of the C functions of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

WORDS, UNIFORM, NORMAL, TRUNC_NORMAL = range(4)
"""What words are turned into."""


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


class Numbers(NamedTuple):
    """What a word is turned into, see `values_of`."""

    scale: float
    shift: float
    low: float = 0.0
    high: float = 0.0
    below: float = 0.0
    above: float = 0.0
    mass: float = 0.0


def is_in_float32(numbers: Numbers) -> bool:
    """Whether a cut Gaussian leaves enough for quantiles in float32."""
    return numbers.mass >= 1 / 64


def rows_of(shape: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
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


_LOW = 0xFFFFFFFF


def words_of(shape: Sequence[int], stream: Stream, box: Box, device: torch.device) -> Tensor:
    """The words of a box as int32."""
    sizes, strides = rows_of(shape, box.strides)
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


def values_of(kind: int, words: Tensor, numbers: Numbers) -> Tensor:
    """What the C functions of the same names compute."""
    if kind == WORDS:
        return words
    if kind == UNIFORM:
        u = (((words >> 9) & 0x7FFFFF).to(torch.float32) + 0.5) * 2.0**-23
        return (u * numbers.scale + numbers.shift).clamp_(numbers.low, numbers.high)
    near = words ^ (words >> 31)  # distance from the nearer end of all words
    u = (near.to(torch.float32) + 0.5) * 2.0**-32
    if kind == NORMAL:
        x = ((near ^ 0x7FFFFFFF).to(torch.float32) + 0.5) * 2.0**-31
        z = _tail_quantile(x, u)
        return torch.where(words >= 0, -z, z) * numbers.scale + numbers.shift
    if not is_in_float32(numbers):
        return _far_values(words, numbers)
    far = 1.0 - u
    left = torch.where(words < 0, far, u) * numbers.mass + numbers.below
    right = torch.where(words < 0, u, far) * numbers.mass + numbers.above
    p = torch.where(left < right, left, right)
    z = _tail_quantile(1.0 - 2.0 * p, p)
    value = torch.where(left < right, -z, z) * numbers.scale + numbers.shift
    return value.clamp_(numbers.low, numbers.high)


def _far_values(words: Tensor, numbers: Numbers) -> Tensor:
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
