"""Forward passes without gradients between steps: in which mode does the model validate?

Only for models that have two modes, since only they keep a hook between recorded steps: a bare one
on the model itself, which takes less than a microsecond of a training pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from lampwork.taps.tap import on_every_pass
from lampwork.watching.guard import Guard

_MOST = 64
"""Phases that are told one by one."""


class Validation:
    """Counts passes in training mode that nobody can learn from.

    A phase is a run of them that no training interrupts: neither a pass that autograd follows nor
    any backward pass of the process, so that what a generator makes for its critic is no phase.
    """

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._model, self._see_guarded = model, guard(self._see)
        self._step = self._run = 0
        self._phases: list[tuple[int, int]] = []
        self._more = 0
        self._handle: RemovableHandle | None = None
        self.follow()

    def follow(self) -> None:
        """Look up the model's modules anew."""
        self._modal = [m for m in self._model.modules() if differs_in_eval(m)]
        if self._modal and self._handle is None:
            self._handle = on_every_pass(self._model, self._see_guarded)

    def remove(self) -> None:
        """Take the hook off."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def trained(self) -> None:
        """A backward pass begins, of whatever model."""
        if self._run:
            if len(self._phases) < _MOST:
                self._phases.append((self._step, self._run))
            else:
                self._more += 1
            self._run = 0

    def next_step(self) -> None:
        """An optimizer has stepped."""
        self.trained()
        self._step += 1

    def told(self) -> dict[str, Any]:
        """`phases`, of each the step after which it came and how many passes it had, and `more`."""
        phases = [*self._phases, *([(self._step, self._run)] if self._run else [])]
        return {"phases": phases, "more": self._more} if phases else {}

    def _see(self, model: nn.Module) -> None:
        if torch.is_grad_enabled():
            self.trained()
        elif model.training and self._step and self._validates():
            self._run += 1

    def _validates(self) -> bool:
        # A momentum of None averages over all that comes: statistics are being measured anew, on
        # purpose (torch.optim.swa_utils.update_bn).
        anew = any(getattr(module, "momentum", 0.1) is None for module in self._modal)
        return not anew and any(module.training for module in self._modal)


def differs_in_eval(module: nn.Module) -> bool:
    """Whether a module works in another way in evaluation mode."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return isinstance(module, _NormBase) and module.track_running_stats
