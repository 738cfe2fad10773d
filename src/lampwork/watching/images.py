"""A picture that the user gives, as the small uint8 image that a record keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lampwork._core.errors import InputError

MAX_SIDE = 512

Pixels = NDArray[np.uint8]


def as_pixels(name: str, array: Any) -> Pixels:
    """One image, grey of shape (1, height, width) or RGB (1, height, width, 3).

    Args:
        name: what the user calls it, for errors.
        array: a tensor or array of shape (H, W), (1, H, W), (3, H, W), (H, W, 1) or (H, W, 3),
            uint8 or bool, or floating point within [0, 1] (NaN counts as 0). A side of more than
            `MAX_SIDE` pixels is thinned out by a whole number.

    Raises:
        InputError: another shape, type or range.
    """
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    values = np.asarray(array)
    image = _height_first(name, values)
    step = -(-max(image.shape[:2]) // MAX_SIDE)
    image = image[::step, ::step]
    return np.ascontiguousarray(_bytes(name, image))[None]


def _height_first(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 3 and values.shape[0] in (1, 3):  # as torchvision has them
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.size and (values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)):
        return values
    raise InputError(
        f"image {name!r} has shape {tuple(values.shape)}: give one image of shape (H, W), "
        "(1, H, W), (3, H, W) or (H, W, 3), for example array[0] of a batch"
    )


def _bytes(name: str, image: NDArray[Any]) -> Pixels:
    if image.dtype == np.uint8:
        return image
    if image.dtype == bool:
        return image.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"image {name!r} has dtype {image.dtype}: give uint8, or floats in [0, 1]")
    image = np.nan_to_num(image.astype(np.float64), nan=0.0)
    if image.min() < -1e-3 or image.max() > 1 + 1e-3:
        raise InputError(
            f"image {name!r} has values from {image.min():.3g} to {image.max():.3g}, floats are to "
            "lie in [0, 1]: scale them, for example (x - x.min()) / (x.max() - x.min())"
        )
    return (image.clip(0, 1) * 255).round().astype(np.uint8)
