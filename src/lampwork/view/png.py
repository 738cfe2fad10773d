"""Grey and RGB pictures as PNG (RFC 2083), in the few lines that eight bits a channel take."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_GREY, _RGB = 0, 2


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file.

    Args:
        pixels: shape (height, width) for grey or (height, width, 3) for RGB.
    """
    height, width = pixels.shape[:2]
    colour = _RGB if pixels.ndim == 3 else _GREY
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    # Every row begins with the number of its filter: 0, none.
    plain = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(plain, 6)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
