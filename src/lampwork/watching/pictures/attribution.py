"""Where an image classifier looks: Grad-CAM and saliency.

Grad-CAM (Selvaraju et al., 2017): the channels of the last spatial layer, weighted by the mean
gradient of a class's score, added up, positive part. For vision transformers tokens are put back
on their grid. Saliency (Simonyan et al., 2014): the magnitude of the gradient at the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lampwork.watching.pictures.pixels import MAX_SIDE, Snapshot, from_zero, shrink

MOST_PREFIX = 16


@dataclass(frozen=True)
class Seen:
    """One layer's output for the probe, and the gradient of the scores that came for it."""

    name: str
    activation: Tensor
    gradient: Tensor
    is_norm: bool


def chosen_scores(logits: Tensor, labels: Tensor | None) -> Tensor:
    """Each example's score of its true class, or of the predicted one where that is unknown."""
    predicted = logits.argmax(1)
    if labels is not None and labels.shape == predicted.shape:
        fits = (labels >= 0) & (labels < logits.shape[1])
        predicted = labels.to(predicted.device).where(fits.to(predicted.device), predicted)
    return logits.gather(1, predicted[:, None])[:, 0]


def last_spatial(
    seen: list[Seen], image: tuple[int, int], grid: tuple[int, int] | None
) -> Seen | None:
    """The last layer whose places on the image still matter, as feature maps (n, C, h, w).

    Of a convolutional network the last output with the aspect of the image. Of a transformer the
    last output of a norm that is a sequence over the grid and whose tokens there got a gradient:
    after the last attention only the class token does.

    Args:
        seen: outputs in the order of the forward pass.
        image: height and width of the input.
        grid: of the patches, where a layer told it.
    """
    maps: Seen | None = None
    tokens: Seen | None = None
    for layer in seen:  # the later ones win
        found = _maps(layer, image)
        if found is not None and _matters(found):
            maps, tokens = found, None
        found = _grid(layer, image, grid)
        if found is not None and _matters(found) and (found.is_norm or not _is_norm(tokens)):
            tokens = found
    return tokens or maps


def grad_cam(layer: Seen) -> Tensor:
    """Shape (n, h, w) of feature maps and gradients of shape (n, C, h, w)."""
    weight = layer.gradient.float().mean((2, 3), keepdim=True)
    return (weight * layer.activation.float()).sum(1).relu()


def attribution(
    name: str, images: Tensor, gradient: Tensor | None, layer: Seen | None
) -> list[Snapshot]:
    """Both maps at the size of the input's picture, each image from zero to its largest value."""
    size = tuple(min(side, MAX_SIDE) for side in images.shape[-2:])
    shots = []
    if layer is not None:
        cam = F.interpolate(grad_cam(layer)[None], size, mode="bilinear", align_corners=False)[0]
        shots.append(Snapshot(layer.name, "grad_cam", from_zero(cam)))
    if gradient is not None:
        shots.append(Snapshot(name, "saliency", from_zero(saliency(gradient))))
    return shots


def saliency(gradient: Tensor) -> Tensor:
    """Shape (n, h, w) of gradients at images (n, C, h, w): the largest magnitude of the channels.

    The brightest hundredth is cut off, so that a few pixels do not outshine the rest.
    """
    maps = shrink(gradient.abs().amax(1))
    return maps.minimum(maps.flatten(1).quantile(0.99, dim=1)[:, None, None])


def patch_grid(grids: list[tuple[int, int]], image: tuple[int, int]) -> tuple[int, int] | None:
    """Of the sizes of feature maps the last one that lies on the image: that of the patches."""
    return next((grid for grid in reversed(grids) if _alike(grid, image)), None)


def _alike(grid: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a grid of that size lies on the image: smaller or equal, and of its proportions.

    Strides that do not divide the image round each side by less than a place.
    """
    height, width = grid
    if not (1 < height <= image[0] and 1 < width <= image[1]):
        return False
    return abs(height * image[1] - width * image[0]) <= 0.6 * max(image)


def _maps(layer: Seen, image: tuple[int, int]) -> Seen | None:
    shape = layer.activation.shape
    if len(shape) != 4:
        return None
    if _alike(tuple(shape[2:]), image):
        return layer
    if _alike(tuple(shape[1:3]), image):  # channels last, as Swin and ConvNeXt compute
        moved = (layer.activation.movedim(3, 1), layer.gradient.movedim(3, 1))
        return Seen(layer.name, *moved, layer.is_norm)
    return None


def _grid(layer: Seen, image: tuple[int, int], grid: tuple[int, int] | None) -> Seen | None:
    if layer.activation.dim() != 3:
        return None
    tokens = layer.activation.shape[1]
    found = grid if grid and 0 <= tokens - math.prod(grid) <= MOST_PREFIX else _square(tokens)
    if found is None or not _alike(found, image):
        return None

    def on_grid(values: Tensor) -> Tensor:
        return values[:, tokens - math.prod(found) :].transpose(1, 2).unflatten(2, found)

    return Seen(layer.name, on_grid(layer.activation), on_grid(layer.gradient), layer.is_norm)


def _square(tokens: int) -> tuple[int, int] | None:
    """The largest square grid that leaves only a few tokens (class, registers) before it."""
    side = math.isqrt(tokens)
    return (side, side) if side > 1 and tokens - side * side <= MOST_PREFIX else None


def _is_norm(layer: Seen | None) -> bool:
    return layer is not None and layer.is_norm


def _matters(layer: Seen) -> bool:
    return bool(torch.count_nonzero(layer.gradient))
