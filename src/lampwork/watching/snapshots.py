"""Small grey pictures of the first convolution: its kernels and its feature maps.

The feature maps are always those of the same example, the first one of the first batch, so that
what changes from picture to picture is the network and not the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lampwork.taps.structure import tensors
from lampwork.taps.tap import Inputs, Taps, Visit
from lampwork.watching.guard import Guard

MAX_MAPS = 32
MAX_SIDE = 64


@dataclass(frozen=True)
class Snapshot:
    """A stack of grey images, `pixels` uint8 of shape (images, height, width) on the CPU."""

    name: str
    kind: str
    pixels: Tensor


class Snapshots:
    """Pictures at steps 0, then at doubling distances, so that a long run has few of them."""

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._guard = guard
        convolutions = (item for item in model.named_modules() if isinstance(item[1], nn.Conv2d))
        self._name, self._convolution = next(convolutions, ("", None))
        self._probe: Tensor | None = None
        self._taps: Taps | None = None
        self._next = 0

    def install(self) -> None:
        """Wait for the first input of the convolution."""
        if isinstance(self._convolution, nn.Conv2d) and self._probe is None:
            self._taps = Taps({self._name: self._convolution}, before=self._guard(self._keep_probe))

    def remove(self) -> None:
        """Take the hooks off."""
        if self._taps is not None:
            self._taps.remove()
            self._taps = None

    def due(self, step: int) -> bool:
        """Whether pictures are to be taken at this recorded step; if so, plan the next ones."""
        if step < self._next:
            return False
        self._next = max(1, 2 * step)
        return True

    @torch.no_grad()
    def take(self) -> list[Snapshot]:
        """Kernels, input and feature maps as they are now; empty without a convolution."""
        convolution = self._convolution
        if not isinstance(convolution, nn.Conv2d):
            return []
        kernels = convolution.weight.detach().mean(dim=1)
        shots = [Snapshot(self._name, "kernels", _grey(kernels[: 2 * MAX_MAPS]))]
        if self._probe is not None:
            # The plain convolution with these weights, whatever a subclass adds: no hook of
            # anybody runs, no random number is drawn.
            probe = self._probe.to(convolution.weight)
            maps = nn.Conv2d.forward(convolution, probe)[0]
            shots.append(Snapshot(self._name, "input", _grey(self._probe[0].mean(0, keepdim=True))))
            shots.append(Snapshot(self._name, "feature_maps", _grey(maps[:MAX_MAPS])))
        return shots

    def _keep_probe(self, visit: Visit, inputs: Inputs) -> None:
        found = tensors(inputs)
        if found and found[0].dim() == 4 and len(found[0]) > 0 and self._probe is None:
            self._probe = found[0][:1].detach().clone()


def _grey(images: Tensor) -> Tensor:
    """Each image on its own scale from black to white, at most `MAX_SIDE` pixels high and wide."""
    images = images.detach().float()
    height, width = (min(side, MAX_SIDE) for side in images.shape[-2:])
    images = F.adaptive_avg_pool2d(images[None], (height, width))[0]
    low = images.amin(dim=(1, 2), keepdim=True)
    span = (images.amax(dim=(1, 2), keepdim=True) - low).clamp_min(1e-12)
    return ((images - low) / span * 255).nan_to_num().round().to(torch.uint8).cpu()
