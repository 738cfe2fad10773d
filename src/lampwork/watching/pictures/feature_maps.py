"""Feature maps: what some layers from the first to the last make of the first example."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lampwork.watching.pictures.pixels import Snapshot, from_min_to_max, shrink, spread

MOST_LAYERS = 4
MOST_MAPS = 16


def is_spatial(output: Tensor) -> bool:
    """Whether it has the shape of feature maps: (examples, channels, height, width)."""
    return output.dim() == 4 and min(output.shape[2:]) > 1


def first_example(output: Tensor) -> Tensor:
    """Evenly spaced channels of the first example, averaged down: (channels, height, width).

    The channels are the same at every step, so that one can be followed through training.
    """
    return shrink(output.detach()[0][spread(output.shape[1], MOST_MAPS)].clone())


def feature_maps(maps: Mapping[str, Tensor]) -> list[Snapshot]:
    """Evenly spaced layers of those given, each map on its own scale."""
    names = list(maps)
    return [
        Snapshot(names[i], "feature_maps", from_min_to_max(maps[names[i]]))
        for i in spread(len(names), MOST_LAYERS)
    ]


def inputs(name: str, images: Tensor) -> Snapshot:
    """The examples: RGB where they have three channels, else the mean of the channels in grey."""
    small = shrink(images)
    if images.shape[1] == 3:
        rgb = from_min_to_max(small, (-3, -2, -1)).movedim(1, -1).contiguous()
        return Snapshot(name, "input", rgb)
    return Snapshot(name, "input", from_min_to_max(small.mean(1)))
