"""Watching a script that never heard of us: which models does it train, and with what loss?

The outermost module that runs a forward with autograd on and has trainable parameters is a model.
Hooks are put on it at that moment, so that torch.compile finds them there, which looks at a module
when it is first called; but a run is opened only when an optimizer first steps it.
The loss is the scalar that `backward()` is called on.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lampwork._core.errors import LampworkError
from lampwork.taps import select
from lampwork.taps.backward import on_backward
from lampwork.taps.compiling import Compiling
from lampwork.taps.tap import on_any_forward, on_optimizer_step
from lampwork.watching.guard import Guard
from lampwork.watching.session import Watch, watch_uncalled

LOOK_FOR_STEPS = 20
"""Models are looked for until so many optimizer steps are done; then the global hook goes, unless
torch has compiled something."""

_MOST_LOSSES = 1000


class Launcher:
    """Finds and watches the models of this process.

    Args:
        directory: the folder for runs.
        name: the run's name; a second model gets `-2` appended.
        every: record every so many steps.
        say: told in one sentence what cannot be watched, and why.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        name: str | None,
        every: int,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._options: dict[str, Any] = {"dir": directory, "name": name, "every": every}
        self._found: list[Watch] = []
        self._known: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._abandoned: set[Watch] = set()
        self._losses: list[Tensor] = []
        self._steps = 0
        self._guard = Guard(self._stop_looking)

    @property
    def sessions(self) -> list[Watch]:
        """The runs that were opened: one per model that an optimizer stepped."""
        return [session for session in self._found if session.path is not None]

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole process, whatever they stepped."""
        return self._steps

    def install(self) -> None:
        """Begin to look for models. Call it once, after `import torch`."""
        # A compiled model warns the user of global hooks; this one is ours, and soon gone.
        warnings.filterwarnings("ignore", message="Using `torch.compile.module.` when there are")
        meet = self._guard(self._meet)
        self._looking: list[RemovableHandle | Compiling] = [on_any_forward(meet), Compiling(meet)]
        self._handles = on_optimizer_step(
            self._guard(self._before_step), self._guard(self._after_step)
        )
        self._backward = on_backward(self._guard(self._note_loss))

    def close(self) -> None:
        """Take all hooks off and finish every run."""
        self._remove_hooks()
        for session in self._found:
            session.stop()

    def _remove_hooks(self) -> None:
        self._stop_looking()
        for handle in self._handles:
            handle.remove()
        self._backward.remove()

    def _stop_looking(self) -> None:
        while self._looking:
            self._looking.pop().remove()

    def _meet(self, module: nn.Module) -> None:
        if module in self._known or not torch.is_grad_enabled():
            return
        if type(module).__name__ in select.WRAPPERS:
            return
        # Its submodules are called next, from inside it: they are no models of their own.
        for inner in module.modules():
            self._known.add(inner)
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return
        try:
            session = watch_uncalled(module, **self._options)
        except LampworkError as error:
            self._say(f"{type(module).__name__} is not watched: {error}")
            return
        session.attach()
        self._found.append(session)

    def _before_step(self, optimizer: Optimizer) -> None:
        running = [session for session in self._found if session not in self._abandoned]
        stepped = [session for session in running if session.steps_with(optimizer)]
        for session in stepped:
            if session.path is None:
                self._open(session)
            if session.path is not None and self._losses:
                loss = torch.stack([loss.to(self._losses[0].device) for loss in self._losses]).sum()
                session.log_at(session.step, loss=loss)
        if stepped:
            self._losses.clear()

    def _open(self, session: Watch) -> None:
        try:
            session.open()
        except LampworkError as error:
            self._say(f"this run is not recorded: {error}")
            session.abandon()
            self._abandoned.add(session)

    def _after_step(self, optimizer: Optimizer) -> None:
        self._steps += 1
        # Of what is compiled the hook is a part, and without it torch would compile anew.
        if self._steps == LOOK_FOR_STEPS and not select.anything_compiled():
            self._stop_looking()

    def _note_loss(self, tensor: Tensor) -> None:
        if tensor.numel() == 1 and len(self._losses) < _MOST_LOSSES:
            self._losses.append(tensor.detach().reshape(()).double())
