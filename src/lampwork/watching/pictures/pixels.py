"""From numbers to bytes: every picture is a stack of small uint8 images.

from_min_to_max    each image from black to white on its own scale
around_zero        128 is zero, 0 and 255 are minus and plus the scale
from_zero          0 is zero, 255 the largest value
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SIDE = 64


@dataclass(frozen=True)
class Snapshot:
    """A stack of images, `pixels` uint8 of shape (images, height, width), or (…, 3) for RGB.

    Attributes:
        name: dotted name of the module or parameter that it shows.
        kind: what it shows: input, feature_maps, kernels, kernels_change, weights,
            weights_change, attention, grad_cam or saliency.
        pixels: the images.
    """

    name: str
    kind: str
    pixels: Tensor


def shrink(images: Tensor, most: int = MAX_SIDE) -> Tensor:
    """Images (…, height, width) averaged down to at most `most` pixels a side, in float32."""
    images = images.detach().float()
    height, width = (min(side, most) for side in images.shape[-2:])
    if (height, width) == tuple(images.shape[-2:]):
        return images
    flat = images.reshape(1, -1, *images.shape[-2:])
    return F.adaptive_avg_pool2d(flat, (height, width)).reshape(*images.shape[:-2], height, width)


def from_min_to_max(images: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Each image from 0 to 255 over `dims`; a constant one is 0, and so is what is NaN."""
    images = images.float()
    finite = images.nan_to_num(0.0, 0.0, 0.0)
    low = finite.amin(dims, keepdim=True)
    span = (finite.amax(dims, keepdim=True) - low).clamp_min(1e-12)
    return _bytes((finite - low) / span * 255)


def around_zero(values: Tensor, scale: Tensor) -> Tensor:
    """Values from -scale to scale as 1 … 255; 128 is zero, and so is what is NaN."""
    shares = (values.float() / scale.clamp_min(1e-12)).nan_to_num(0.0, 0.0, 0.0)
    return _bytes(shares.clamp(-1, 1) * 127 + 128)


def from_zero(values: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Values that are not negative, each image from zero to its largest value over `dims`."""
    finite = values.float().nan_to_num(0.0, 0.0, 0.0)
    return _bytes(finite / finite.amax(dims, keepdim=True).clamp_min(1e-12) * 255)


def largest(values: Tensor) -> Tensor:
    """The largest finite magnitude."""
    return values.detach().float().nan_to_num(0.0, 0.0, 0.0).abs().max()


def spread(count: int, at_most: int) -> list[int]:
    """At most that many of the numbers below `count`, evenly spaced, with the first and last."""
    if count <= at_most:
        return list(range(count))
    if at_most == 1:
        return [0]
    return [round(i * (count - 1) / (at_most - 1)) for i in range(at_most)]


def on_cpu(shots: Sequence[Snapshot]) -> list[Snapshot]:
    """The same pictures on the CPU; one transfer, so that one wait, for all of a device."""
    found = list(shots)
    for device in {shot.pixels.device for shot in shots} - {torch.device("cpu")}:
        here = [i for i, shot in enumerate(found) if shot.pixels.device == device]
        flat = torch.cat([found[i].pixels.reshape(-1) for i in here]).cpu()
        parts = flat.split([found[i].pixels.numel() for i in here])
        for i, part in zip(here, parts, strict=True):
            shot = found[i]
            found[i] = Snapshot(shot.name, shot.kind, part.reshape(shot.pixels.shape))
    return found


def _bytes(values: Tensor) -> Tensor:
    return values.round().to(torch.uint8)
