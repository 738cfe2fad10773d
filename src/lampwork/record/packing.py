"""Numbers as bytes, without loss: each column in the smallest type that holds it bit for bit.

Most of what is kept of a tensor are counts, many of them constant or zero, and minima and maxima of
float32 values: as float64 they would fill the disk with zeros. A column becomes one number (where
all are equal), uint8, uint16, uint32, float32 or float64. The bytes of equal weight are laid side
by side, which deflates better, and the whole is deflated.

    columns (uint16) | rows (uint32) | deflated: one code per column, then the columns by code
"""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HEAD = struct.Struct("<HI")
_CONSTANT, _SINGLE, _DOUBLE = 0, 5, 8
_TYPES = {_CONSTANT: "<f8", 1: "<u1", 2: "<u2", 4: "<u4", _SINGLE: "<f4", _DOUBLE: "<f8"}


def pack(table: Floats) -> bytes:
    """Any float64 table of shape (columns, rows), with at least one row, as bytes."""
    table = np.ascontiguousarray(table, dtype="<f8")
    codes = _codes(table)
    parts = [codes.tobytes()]
    for code, dtype in _TYPES.items():
        chosen = table[codes == code]
        if len(chosen):
            kept = chosen[:, :1] if code == _CONSTANT else chosen
            parts.append(_by_weight(kept.astype(dtype)))
    # Runs of equal bytes are all there is to find, and looking for no more is twice as fast.
    squeeze = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    deflated = squeeze.compress(b"".join(parts)) + squeeze.flush()
    return _HEAD.pack(*table.shape) + deflated


def unpack(blob: bytes, rows: NDArray[np.int64] | None = None) -> Floats:
    """The table of shape (columns, rows) again, or those of its rows; the inverse of `pack`."""
    width, length = _HEAD.unpack_from(blob)
    plain = np.frombuffer(zlib.decompress(memoryview(blob)[_HEAD.size :]), np.uint8)
    codes, at = plain[:width], width
    counts = np.bincount(codes, minlength=_DOUBLE + 1).tolist()
    table = np.empty((width, length if rows is None else len(rows)))
    for code, dtype in _TYPES.items():
        if counts[code]:
            shape = (np.dtype(dtype).itemsize, counts[code], 1 if code == _CONSTANT else length)
            size = math.prod(shape)
            part = plain[at : at + size].reshape(shape)
            chosen = part if rows is None or code == _CONSTANT else part[..., rows]
            table[codes == code] = _from_weight(chosen, dtype)
            at += size
    return table


def _codes(table: Floats) -> NDArray[np.uint8]:
    bits = table.view("<i8")
    with np.errstate(invalid="ignore", over="ignore"):
        whole = table.astype("<u4")
        counts = (whole.astype("<f8").view("<i8") == bits).all(axis=1)
        highest = whole.max(axis=1)
        codes = np.select([highest < 1 << 8, highest < 1 << 16], [1, 2], 4).astype(np.uint8)
        codes[~counts] = _DOUBLE
        rest = np.flatnonzero(~counts)
        if len(rest):
            single = table[rest].astype("<f4").astype("<f8")
            codes[rest[(single.view("<i8") == bits[rest]).all(axis=1)]] = _SINGLE
    codes[(bits == bits[:, :1]).all(axis=1)] = _CONSTANT
    return codes


def _by_weight(values: NDArray[np.generic]) -> bytes:
    return values.reshape(-1).view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


def _from_weight(plain: NDArray[np.uint8], dtype: str) -> NDArray[np.generic]:
    """Bytes of shape (size of a value, columns, rows) as values of shape (columns, rows)."""
    return np.ascontiguousarray(plain.transpose(1, 2, 0)).view(dtype)[..., 0]
