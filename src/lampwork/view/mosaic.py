"""Many small images on one sheet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_TILES = 64


def mosaic(images: NDArray[Any], aspect: float = 1.0) -> NDArray[np.float64]:
    """Up to `MOST_TILES` images in rows and columns with gaps of NaN.

    The sheet comes out about `aspect` times as wide as high, if possible without a broken row.

    Args:
        images: shape (n, h, w), or (n, h, w, 3) for RGB.
        aspect: width by height of the sheet.
    """
    images = images[:MOST_TILES]
    count, height, width, *channels = images.shape
    gap = max(1, width // 16) if count > 1 else 0
    columns = _columns(count, aspect * height / width)
    rows = -(-count // columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap, *channels)
    sheet = np.full(size, np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def _columns(count: int, aspect: float) -> int:
    """How many of `count` square tiles stand in a row when rows are `aspect` times columns."""
    wanted = min(max(np.sqrt(count * aspect), 1), count)
    even = [n for n in range(1, count + 1) if count % n == 0 and wanted / 1.6 < n < wanted * 1.6]
    return min(even, key=lambda n: abs(n - wanted), default=round(wanted))
