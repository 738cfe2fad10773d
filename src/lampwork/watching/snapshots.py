"""When pictures are taken, and of what: weights always, and what the probe shows where it can run.

The probe's forward is one of our own, at a picture step only: through a replica that shares the
weights (`pictures.replica`), in eval mode, under random states of its own. The training forward
would give pictures of another batch each time, augmented and with dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lampwork._core.clock import monotonic_s
from lampwork.watching.guard import Guard, log
from lampwork.watching.pictures import attribution, feature_maps
from lampwork.watching.pictures.attention import attention
from lampwork.watching.pictures.forward import look
from lampwork.watching.pictures.kernels import Kernels
from lampwork.watching.pictures.pixels import Snapshot, on_cpu
from lampwork.watching.pictures.probe import Probe, Waiting

SHARE = 0.01
"""Of the training time so far that pictures may have taken before the next ones are due."""


class Snapshots:
    """Pictures at step 0, then at doubling distances, as long as they take little of the time."""

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._waiting = Waiting(model, guard)
        self._kernels = Kernels(model)
        self._sees = True
        self._next = 0
        self._spent_s, self._began = 0.0, monotonic_s()

    def install(self) -> None:
        """Wait for the first examples that are trained on."""
        self._waiting.install()

    def follow(self, model: nn.Module) -> None:
        """The model has other modules than before."""
        self._waiting.follow()
        self._kernels.follow(model)

    def remove(self) -> None:
        """Take the hooks off."""
        self._waiting.remove()

    def due(self, step: int) -> bool:
        """Whether pictures are to be taken at this recorded step; if so, plan the next ones."""
        if step < self._next or self._spent_s > SHARE * (monotonic_s() - self._began):
            return False
        self._next = max(1, 2 * step)
        return True

    def take(self) -> list[Snapshot]:
        """Pictures of the model as it is now, on the CPU; empty where there is nothing to see.

        The only place where watching waits for a device: seldom, and at most `SHARE` of the time.
        """
        with _waiting_allowed():
            return self._taken()

    def _taken(self) -> list[Snapshot]:
        began = monotonic_s()
        probe = self._waiting.probe
        images = None if probe is None else probe.images
        shots = self._kernels.take(None if images is None else tuple(images.shape[1:]))
        if probe is not None and self._sees:
            try:
                shots += _seen(probe)
            except Exception as error:  # the model's own, in a forward that it never asked for
                self._sees = False
                log.debug("no pictures of what the model sees: %r", error)
        found = on_cpu(shots)
        self._spent_s += monotonic_s() - began
        return found


@contextmanager
def _waiting_allowed() -> Iterator[None]:
    """Whatever `torch.cuda.set_sync_debug_mode` says of the user's own training."""
    if not torch.cuda.is_initialized() or not torch.cuda.get_sync_debug_mode():
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _seen(probe: Probe) -> list[Snapshot]:
    result = look(probe)
    with torch.no_grad():
        shots = [*feature_maps.feature_maps(result.maps), *attention(result.attention)]
        if probe.images is None:
            return shots
        height, width = probe.images.shape[-2:]
        grid = attribution.patch_grid(result.grids, (height, width))
        layer = attribution.last_spatial(result.seen, (height, width), grid)
        shots += [feature_maps.inputs(probe.name, probe.images)]
        return shots + attribution.attribution(probe.name, probe.images, result.gradient, layer)
