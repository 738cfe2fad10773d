"""The statistic on CUDA in Triton: each tensor is read once, by one launch for it or for many.

A tensor is cut into parts, one program each; every program leaves the sums of its part in a page of
device memory (`lampwork._native.pages`), and at the end of the step `fold` adds the parts of all
tensors up, always in the same order, so that a row is the same bits each time. All sums are
float64. Beside the parts some programs count exponents, of the sample that the C kernel takes, and
some look whether channels are silent; they stop at the first number other than 0, so that little is
read again.
"""

# Triton says what its compile-time arguments are made into, not what they are given as; its types
# are values.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportInvalidTypeForm=false

from __future__ import annotations

import triton
import triton.language as tl

from lampwork._core.summary import BINS, COLUMN, FIRST_BIN, WIDTH
from lampwork._native.pages import (
    BINS_AT,
    COUNTED,
    COUNTERS,
    HEAD,
    HEADS_AT,
    PART,
    PARTS_AT,
)
from lampwork._native.stats_torch import SAMPLED_ABOVE

BLOCK = 2048
"""Elements that a program reads at a time."""
SHORTEST = 4
"""Blocks of the shortest part of a tensor that has several."""
MOST_PARTS = 512
"""Parts of one tensor: enough to fill the largest device."""

_SAMPLE = tl.constexpr(SAMPLED_ABOVE)
_PART, _HEAD, _BINS, _WIDTH = map(tl.constexpr, (PART, HEAD, BINS, WIDTH))
_FIRST_BIN, _UNITS, _DEAD = map(tl.constexpr, (FIRST_BIN, COLUMN["units"], COLUMN["dead"]))
_HEADS_AT, _BINS_AT, _PARTS_AT = map(tl.constexpr, (HEADS_AT, BINS_AT, PARTS_AT))
_BLOCK = tl.constexpr(BLOCK)
_COUNTED, _COUNTERS = tl.constexpr(COUNTED), tl.constexpr(COUNTERS)
CHANNELS, DEEP = 32, 64
"""Channels of which one program looks whether they are silent, and elements at a time of each."""
_CHANNELS, _DEEP = map(tl.constexpr, (CHANNELS, DEEP))


@triton.jit
def _stride_of(count):
    return tl.where(count > _SAMPLE, ((count + _SAMPLE - 1) // _SAMPLE) | 1, 1)


@triton.jit
def _widen(raw, WIDE: tl.constexpr):
    if raw.dtype == tl.bfloat16:  # by its bits, so that nothing flushes small numbers to zero
        bits = raw.to(tl.uint16, bitcast=True).to(tl.uint32) << 16
        return bits.to(tl.float32, bitcast=True).to(WIDE)
    else:
        return raw.to(WIDE)


@triton.jit
def _add(v, inside, total, squares, low, high, zeros, MASKED: tl.constexpr):
    wide = v.to(tl.float64)  # where masked 0
    total += wide
    squares += wide * wide
    if MASKED:
        low = tl.minimum(low, tl.where(inside, v, float("inf")))
        high = tl.maximum(high, tl.where(inside, v, -float("inf")))
        zeros += ((v == 0) & inside).to(tl.int32)
    else:
        low = tl.minimum(low, v)
        high = tl.maximum(high, v)
        zeros += (v == 0).to(tl.int32)
    return total, squares, low, high, zeros


@triton.jit
def _load(x, minus, at, inside, WIDE: tl.constexpr, MINUS: tl.constexpr, MASKED: tl.constexpr):
    if MASKED:
        raw = tl.load(x + at, mask=inside, other=0)
    else:
        raw = tl.load(x + at)
    v = _widen(raw, WIDE)
    if MINUS:
        if MASKED:
            v -= _widen(tl.load(minus + at, mask=inside, other=0), WIDE)
        else:
            v -= _widen(tl.load(minus + at), WIDE)
    return raw, v


@triton.jit
def _part(
    x, copy, minus, left, blocks, out,
    WIDE: tl.constexpr, IS_FLOAT: tl.constexpr, COPY: tl.constexpr, MINUS: tl.constexpr,
):  # fmt: skip
    """The sums of `left` elements from `x` on, at most `blocks` blocks."""
    lanes = tl.arange(0, _BLOCK)
    everywhere = tl.full([_BLOCK], True, tl.int1)
    total = tl.zeros([_BLOCK], tl.float64)
    squares = tl.zeros([_BLOCK], tl.float64)
    low = tl.full([_BLOCK], float("inf"), WIDE)
    high = tl.full([_BLOCK], -float("inf"), WIDE)
    zeros = tl.zeros([_BLOCK], tl.int32)
    left = tl.minimum(left, blocks.to(tl.int64) * _BLOCK).to(tl.int32)
    full = left // _BLOCK
    # Whole blocks without a mask: only so are the loads as wide as they can be. Two at a time: the
    # second one is under way while the first one comes.
    for i in range(full // 2):
        at = i * (2 * _BLOCK) + lanes
        raw, v = _load(x, minus, at, everywhere, WIDE, MINUS, False)
        next_raw, next_v = _load(x, minus, at + _BLOCK, everywhere, WIDE, MINUS, False)
        if COPY:
            tl.store(copy + at, raw)
            tl.store(copy + at + _BLOCK, next_raw)
        total, squares, low, high, zeros = _add(
            v, everywhere, total, squares, low, high, zeros, False
        )
        total, squares, low, high, zeros = _add(
            next_v, everywhere, total, squares, low, high, zeros, False
        )
    for i in range(full // 2 * 2, tl.cdiv(left, _BLOCK)):  # an odd block, and one that is not full
        at = i * _BLOCK + lanes
        inside = at < left
        raw, v = _load(x, minus, at, inside, WIDE, MINUS, True)
        if COPY:
            tl.store(copy + at, raw, mask=inside)
        total, squares, low, high, zeros = _add(v, inside, total, squares, low, high, zeros, True)
    whole = tl.sum(total)
    tl.store(out, whole)
    tl.store(out + 1, tl.sum(squares))
    tl.store(out + 2, tl.sum(zeros).to(tl.float64))
    tl.store(out + 3, 0.0)
    tl.store(out + 4, 0.0)
    tl.store(out + 5, 0.0)
    tl.store(out + 6, tl.min(low).to(tl.float64))
    tl.store(out + 7, tl.max(high).to(tl.float64))
    if IS_FLOAT:
        # Whatever is not finite makes the sum so. That is rare: it is read again, and stored anew.
        if not (tl.abs(whole) < float("inf")):
            _checked_part(x, minus, left, out, WIDE, MINUS)


@triton.jit
def _checked_part(x, minus, left, out, WIDE: tl.constexpr, MINUS: tl.constexpr):
    """As `_part`, of elements that are not all finite; zeros are counted already."""
    lanes = tl.arange(0, _BLOCK)
    total = tl.zeros([_BLOCK], tl.float64)
    squares = tl.zeros([_BLOCK], tl.float64)
    low = tl.full([_BLOCK], float("inf"), WIDE)
    high = tl.full([_BLOCK], -float("inf"), WIDE)
    nans = tl.zeros([_BLOCK], tl.int32)
    ups = tl.zeros([_BLOCK], tl.int32)
    downs = tl.zeros([_BLOCK], tl.int32)
    for i in range(tl.cdiv(left, _BLOCK)):
        at = i * _BLOCK + lanes
        inside = at < left
        _raw, v = _load(x, minus, at, inside, WIDE, MINUS, True)
        finite = (tl.abs(v) < float("inf")) & inside
        wide = tl.where(finite, v, 0.0).to(tl.float64)
        total += wide
        squares += wide * wide
        low = tl.minimum(low, tl.where(finite, v, float("inf")))
        high = tl.maximum(high, tl.where(finite, v, -float("inf")))
        nans += ((v != v) & inside).to(tl.int32)
        ups += ((v == float("inf")) & inside).to(tl.int32)
        downs += ((v == -float("inf")) & inside).to(tl.int32)
    tl.store(out, tl.sum(total))
    tl.store(out + 1, tl.sum(squares))
    tl.store(out + 3, tl.sum(nans).to(tl.float64))
    tl.store(out + 4, tl.sum(ups).to(tl.float64))
    tl.store(out + 5, tl.sum(downs).to(tl.float64))
    tl.store(out + 6, tl.min(low).to(tl.float64))
    tl.store(out + 7, tl.max(high).to(tl.float64))


@triton.jit
def _count_exponents(
    x, minus, count, counter, out,
    WIDE: tl.constexpr, IS_WIDE: tl.constexpr, MINUS: tl.constexpr,
):  # fmt: skip
    """Exponents of every so manyth element, into 64 bins; the 65th takes what has none.

    Each of several programs counts its share of the sample, all at once: the elements are far from
    one another, and what takes the time is waiting for them.
    """
    stride = _stride_of(count)
    place = counter * _COUNTED + tl.arange(0, _COUNTED)
    at = place.to(tl.int64) * stride
    inside = at < count
    _raw, v = _load(x, minus, at, inside, WIDE, MINUS, True)
    if IS_WIDE:
        exponent = ((v.to(tl.int64, bitcast=True) >> 52) & 2047).to(tl.int32) - 1023
        regular = exponent != 1024
    else:
        exponent = ((v.to(tl.int32, bitcast=True) >> 23) & 255) - 127
        regular = exponent != 128
    bin = tl.minimum(tl.maximum(exponent + 40, 0), _BINS - 1)
    found = tl.histogram(tl.where(inside & regular & (v != 0), bin, _BINS), 128)
    bins = tl.arange(0, 128)
    tl.store(out + counter * _BINS + bins, found.to(tl.float64), mask=bins < _BINS)


@triton.jit
def _look(
    x, flags, program, depth, channels, deep, inner, outer_stride, inner_stride, stride,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Raise the flags of channels that are not silent in a stretch of their elements.

    A channel is `deep` elements: number k is at k // inner · outer_stride + k % inner ·
    inner_stride, and channels are `stride` apart. Programs share out channels, then depth.
    """
    groups = tl.cdiv(channels, _CHANNELS)
    channel = (program % groups) * _CHANNELS + tl.arange(0, _CHANNELS)
    known = channel < channels
    base = x + channel.to(tl.int64) * stride
    k = (program // groups).to(tl.int64) * depth
    end = tl.minimum(k + depth, deep)
    speaks = tl.zeros([_CHANNELS], tl.int32)
    silent = 1
    while (k < end) & (silent > 0):
        place = k + tl.arange(0, _DEEP)
        at = (place // inner) * outer_stride + (place % inner) * inner_stride
        inside = known[:, None] & (place < end)[None, :]
        v = _widen(tl.load(base[:, None] + at[None, :], mask=inside, other=0), WIDE)
        speaks = tl.maximum(speaks, tl.max((v != 0).to(tl.int32), axis=1))
        silent = tl.sum((known & (speaks == 0)).to(tl.int32))
        k += _DEEP
    tl.store(flags + channel, tl.full([_CHANNELS], 1, tl.uint8), mask=known & (speaks > 0))


@triton.jit
def _write_head(page, row, first, count, blocks):
    head = page.to(tl.pointer_type(tl.int64)) + _HEADS_AT + row * _HEAD
    length = blocks * _BLOCK
    tl.store(head, first)
    tl.store(head + 1, (count + length - 1) // length)
    tl.store(head + 2, count)


@triton.jit(
    do_not_specialize=[
        "address", "memory", "row", "first", "flags", "count", "blocks", "counters",
        "lookers", "depth", "channels", "deep", "inner", "outer_stride", "inner_stride", "stride",
    ],
)  # fmt: skip
def read_one(
    address: tl.int64, memory: tl.int64, row: tl.int64, first: tl.int64, flags: tl.int64,
    count: tl.int64, blocks: tl.int64, counters: tl.int64,
    lookers: tl.int64, depth: tl.int64, channels: tl.int64, deep: tl.int64, inner: tl.int64,
    outer_stride: tl.int64, inner_stride: tl.int64, stride: tl.int64,
    TYPE: tl.constexpr, WIDE: tl.constexpr, IS_WIDE: tl.constexpr, IS_FLOAT: tl.constexpr,
    LOOK: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """One dense tensor: `counters` programs count exponents, `lookers` look, the rest add up.

    All arguments are of one type, so that whoever launches the compiled kernel without Triton knows
    how they lie. The first five differ from call to call, the others follow from the layout.
    """
    program = tl.program_id(0)
    x = address.to(tl.pointer_type(TYPE))
    page = tl.multiple_of(memory.to(tl.pointer_type(tl.float64)), 16)
    if ALIGNED:
        x = tl.multiple_of(x, 16)
    if program < counters:
        if program == 0:
            _write_head(page, row, first, count, blocks)
        bins = page + _BINS_AT + row * (_COUNTERS * _BINS)
        _count_exponents(x, x, count, program, bins, WIDE, IS_WIDE, False)
    elif program < counters + lookers:
        if LOOK:
            speaking = flags.to(tl.pointer_type(tl.uint8))
            _look(
                x, speaking, program - counters, depth, channels, deep, inner, outer_stride,
                inner_stride, stride, WIDE,
            )  # fmt: skip
    else:
        part = program - counters - lookers
        start = part * blocks * _BLOCK
        out = page + _PARTS_AT + (first + part) * _PART
        _part(x + start, x, x, count - start, blocks, out, WIDE, IS_FLOAT, False, False)


@triton.jit
def read_many(
    jobs, owners,
    TYPE: tl.constexpr, WIDE: tl.constexpr, IS_WIDE: tl.constexpr,
    COPY: tl.constexpr, MINUS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Many dense float tensors: each has programs for exponents, then one for each part.

    A job is eight int64: address, elements, blocks of a part, address to copy to, address of what
    to subtract, address of the page, row · 2^32 + first part · 2^8 + programs for exponents, and
    its first program.
    """
    program = tl.program_id(0)
    job = jobs + tl.load(owners + program).to(tl.int64) * 8
    address, count, blocks = tl.load(job), tl.load(job + 1), tl.load(job + 2)
    copied, subtracted = tl.load(job + 3), tl.load(job + 4)
    page = tl.load(job + 5).to(tl.pointer_type(tl.float64))
    places = tl.load(job + 6)
    row, first, counters = places >> 32, (places >> 8) & 0xFFFFFF, places & 255
    mine = program - tl.load(job + 7)
    x = address.to(tl.pointer_type(TYPE))
    copy = copied.to(tl.pointer_type(TYPE))
    minus = subtracted.to(tl.pointer_type(TYPE))
    if ALIGNED:
        x, copy, minus = tl.multiple_of(x, 16), tl.multiple_of(copy, 16), tl.multiple_of(minus, 16)
    if mine < counters:
        if mine == 0:
            _write_head(page, row, first, count, blocks)
        bins = page + _BINS_AT + row * (_COUNTERS * _BINS)
        _count_exponents(x, minus, count, mine, bins, WIDE, IS_WIDE, MINUS)
    else:
        part = mine - counters
        start = part * blocks * _BLOCK
        out = page + _PARTS_AT + (first + part) * _PART
        _part(
            x + start, copy + start, minus + start, count - start, blocks, out,
            WIDE, True, COPY, MINUS,
        )  # fmt: skip


@triton.jit
def _fold(page, row, row_at):
    """Add up the parts of one row of a page, and estimate its histogram from the sample."""
    head = page.to(tl.pointer_type(tl.int64)) + _HEADS_AT + row * _HEAD
    first, parts, count = tl.load(head), tl.load(head + 1), tl.load(head + 2)
    columns = tl.arange(0, _PART)
    lines = tl.arange(0, 64)
    sums = tl.zeros([_PART], tl.float64)
    low = tl.full([_PART], float("inf"), tl.float64)
    high = tl.full([_PART], -float("inf"), tl.float64)
    for i in range(tl.cdiv(parts, 64)):
        line = i * 64 + lines
        at = page + _PARTS_AT + (first + line)[:, None] * _PART + columns[None, :]
        inside = (line < parts)[:, None] & (columns >= 0)[None, :]
        found = tl.load(at, mask=inside, other=0.0)
        sums += tl.sum(found, axis=0)
        low = tl.minimum(low, tl.min(tl.where(inside, found, float("inf")), axis=0))
        high = tl.maximum(high, tl.max(tl.where(inside, found, -float("inf")), axis=0))
    # Of the columns of a part the first six are added, then come the least and the greatest.
    tl.store(row_at, count.to(tl.float64))
    ends = tl.where(columns == 6, low, high)
    tl.store(row_at + 1 + columns, tl.where(columns < 6, sums, ends))
    tl.store(row_at + _UNITS, 0.0)
    tl.store(row_at + _DEAD, 0.0)
    stride = _stride_of(count)
    seen = (count + stride - 1) // stride
    bins = tl.arange(0, _BINS)
    shares = tl.arange(0, _COUNTERS)
    at = page + _BINS_AT + (row * _COUNTERS + shares)[:, None] * _BINS + bins[None, :]
    inside = (shares * _COUNTED < seen)[:, None] & (bins >= 0)[None, :]
    counted = tl.sum(tl.load(at, mask=inside, other=0.0), axis=0)
    scale = count.to(tl.float64) / seen.to(tl.float64)
    tl.store(row_at + _FIRST_BIN + bins, counted * scale)


@triton.jit(do_not_specialize=["memory", "rows"])
def fold(memory: tl.int64, rows: tl.int64):
    """The rows of a page, one for each program; `rows` is where they go."""
    page = tl.multiple_of(memory.to(tl.pointer_type(tl.float64)), 16)
    row = tl.program_id(0)
    _fold(page, row, rows.to(tl.pointer_type(tl.float64)) + row * _WIDTH)


@triton.jit(do_not_specialize=["memory", "to", "d0", "d1", "d2", "d3", "d4", "d5"])
def fold_one(
    memory: tl.int64, to: tl.int64,
    d0: tl.int64, d1: tl.int64, d2: tl.int64, d3: tl.int64, d4: tl.int64, d5: tl.int64,
):  # fmt: skip
    """The first row of a page, and six numbers behind it."""
    page = tl.multiple_of(memory.to(tl.pointer_type(tl.float64)), 16)
    row_at = to.to(tl.pointer_type(tl.float64))
    _fold(page, tl.program_id(0), row_at)
    tl.store(row_at + _WIDTH, d0.to(tl.float64))
    tl.store(row_at + _WIDTH + 1, d1.to(tl.float64))
    tl.store(row_at + _WIDTH + 2, d2.to(tl.float64))
    tl.store(row_at + _WIDTH + 3, d3.to(tl.float64))
    tl.store(row_at + _WIDTH + 4, d4.to(tl.float64))
    tl.store(row_at + _WIDTH + 5, d5.to(tl.float64))
