"""Kernels and weight matrices, and how far they have come from where they began.

Zero is the middle grey, and both pictures of a layer have the scale of its present largest
weight: a change that is pale is small beside the weights. Of large layers a fixed, evenly spaced
part is shown, whose first values are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lampwork.watching.pictures.pixels import MAX_SIDE, Snapshot, around_zero, largest, spread

MOST_CONVOLUTIONS = 3
MOST_KERNELS = 32
MOST_MATRICES = 4


@dataclass
class _Shown:
    """One weight that is shown: `view` cuts its images out of it."""

    name: str
    kind: str
    module: nn.Module
    parameter: str
    first: Tensor | None = None


class Kernels:
    """The first, a middle and the last convolution; without any, some of the weight matrices."""

    def __init__(self, model: nn.Module) -> None:
        self._shown: list[_Shown] = []
        self.follow(model)

    def follow(self, model: nn.Module) -> None:
        """Choose anew; of layers that stay the first values are kept."""
        before = {shown.name: shown for shown in self._shown}
        layers = [item for item in model.named_modules() if isinstance(item[1], nn.Conv2d)]
        layers = [item for item in layers if max(_kernel_size(item[1])) > 1]
        self._shown = [
            _Shown(layers[i][0], "kernels", layers[i][1], "weight")
            for i in spread(len(layers), MOST_CONVOLUTIONS)
        ]
        matrices = _matrices(model)
        most = 1 if layers else MOST_MATRICES
        chosen = [len(matrices) - 1] if layers and matrices else spread(len(matrices), most)
        self._shown += [matrices[i] for i in chosen]
        for i, shown in enumerate(self._shown):
            known = before.get(shown.name)
            if known is not None and known.module is shown.module:
                self._shown[i] = known

    @torch.no_grad()
    def take(self, image: tuple[int, ...] | None = None) -> list[Snapshot]:
        """Pictures of all weights as they are now.

        Args:
            image: shape (channels, height, width) of the model's input: a linear layer with as
                many features is shown as images of that shape.
        """
        return [shot for shown in self._shown for shot in _pictures(shown, image)]


def _pictures(shown: _Shown, image: tuple[int, ...] | None) -> list[Snapshot]:
    # Read anew each time: a parametrisation, an FSDP unit or `to(device)` may have replaced it.
    weight = getattr(shown.module, shown.parameter, None)
    if not isinstance(weight, Tensor) or not _readable(weight):
        return []
    weight = weight.detach()
    looks_like_image = (
        weight.dim() == 2
        and image is not None
        and weight.shape[1] == image[0] * image[1] * image[2]
    )
    if looks_like_image and image is not None and max(image[1:]) <= MAX_SIDE:
        images = _kernels(weight.reshape(-1, *image))
        kind = "kernels"
    else:
        kind = shown.kind
        images = _kernels(weight) if weight.dim() == 4 else _part(weight)[None]
    if shown.first is None or shown.first.shape != images.shape:
        shown.first = images.clone()
    first = shown.first = shown.first.to(images.device)
    scale = largest(images)
    shots = [Snapshot(shown.name, kind, around_zero(images, scale))]
    change = around_zero(images.float() - first.float(), scale)
    return [*shots, Snapshot(shown.name, f"{kind}_change", change)]


def _kernels(weight: Tensor) -> Tensor:
    """Images (n, h, w), or (n, h, w, 3) of a layer that takes RGB, of weights (out, in, h, w)."""
    channels = weight.shape[1]
    if channels == 3:
        return weight[spread(len(weight), MOST_KERNELS)].movedim(1, -1)
    flat = weight.reshape(-1, *weight.shape[2:])
    # Of each filter one input channel, a different one each time.
    chosen = spread(len(weight), MOST_KERNELS)
    return flat[[out * channels + i % channels for i, out in enumerate(chosen)]]


def _part(weight: Tensor) -> Tensor:
    rows, columns = (spread(size, MAX_SIDE) for size in weight.shape)
    return weight[rows][:, columns]


def _matrices(model: nn.Module) -> list[_Shown]:
    found, seen = [], set()
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if _is_matrix(parameter) and id(parameter) not in seen:
                seen.add(id(parameter))
                found.append(_Shown(f"{name}.{key}".removeprefix("."), "weights", module, key))
    return found


def _is_matrix(parameter: Tensor) -> bool:
    if is_lazy(parameter) or parameter.is_nested:
        return False
    return parameter.dim() == 2 and min(parameter.shape) > 1


def _readable(weight: Tensor) -> bool:
    plain = not (is_lazy(weight) or weight.is_meta or hasattr(weight, "placements"))
    return (
        plain
        and weight.layout == torch.strided
        and weight.is_floating_point()
        and weight.numel() > 0
    )


def _kernel_size(module: Any) -> tuple[int, ...]:
    return module.kernel_size
