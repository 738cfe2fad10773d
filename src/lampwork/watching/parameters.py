"""Parameters, their gradients and their updates, read at the optimizer.

There, and only there, a gradient is what the optimizer will use: reduced over ranks, unscaled,
and summed over micro-batches. A hook on the parameter would see it too early.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lampwork.taps.statistic import Arrival, all_zero
from lampwork.taps.tap import on_gradient
from lampwork.watching import callers
from lampwork.watching.activations import Key, Seen
from lampwork.watching.guard import Guard
from lampwork.watching.reading import Old, Reading, Rows, key_of

Groups = tuple[int, ...]
Named = list[tuple[str, nn.Parameter]]


class Parameters:
    """The parameters of one model.

    Args:
        model: the model.
        guard: of all hooks.
        reached: told of each backward pass of a recorded step whether it finds gradients cleared.

    Attributes:
        seen: what the record tells about each key, in the order of the model's parameters.
    """

    def __init__(self, model: nn.Module, guard: Guard, reached: Callable[..., None]) -> None:
        self._model, self._guard, self._reached = model, guard, reached
        self._named: dict[str, nn.Parameter] = {}
        self._owned: WeakKeyDictionary[Optimizer, tuple[Groups, dict[str, nn.Parameter]]]
        self._owned = WeakKeyDictionary()
        self._optimized: set[str] = set()
        self._old = Old()
        self._clean: list[bool | Arrival] = []
        self._clean_for: Optimizer | None = None
        self._clean_handle: RemovableHandle | None = None
        self.seen: dict[Key, Seen] = {}
        self._described: dict[str, tuple[torch.Size, torch.dtype, bool, bool]] = {}
        self.follow()

    def follow(self) -> None:
        """Look up which parameters the model has now."""
        before, self._named = self._named, dict(self._model.named_parameters())
        self._owner = {
            f"{prefix}.{name}" if prefix else name: type(module).__name__
            for prefix, module in self._model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }
        other = {name for name, p in before.items() if self._named.get(name) is not p}
        self._old.forget(other)
        self._optimized -= other
        for name in other:
            self._described.pop(name, None)
            for kind in ("weight", "grad", "update"):
                self.seen.pop(Key(kind, name), None)
        for optimizer, (groups, _) in list(self._owned.items()):
            self._owned[optimizer] = groups, self._look_up(optimizer)
            self._optimized |= self._owned[optimizer][1].keys()

    def _look_up(self, optimizer: Optimizer) -> dict[str, nn.Parameter]:
        ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {name: p for name, p in self._named.items() if id(p) in ids}

    def owned_by(self, optimizer: Optimizer) -> dict[str, nn.Parameter]:
        """Those of the model's parameters that the optimizer steps, by name."""
        # Asked at every step, also where nothing is recorded; groups change once in a run, if ever.
        known = self._owned.get(optimizer)
        if known is None:  # it may come with new parameters, of a layer that was replaced
            self.follow()
        groups = tuple(len(group["params"]) for group in optimizer.param_groups)
        if known is None or known[0] != groups:
            known = self._owned[optimizer] = groups, self._look_up(optimizer)
        return known[1]

    def note_optimizer(self, optimizer: Optimizer) -> None:
        """Note which parameters an optimizer owns, also where its steps are not recorded."""
        self._optimized |= self.owned_by(optimizer).keys()

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer) -> Rows:
        """Rows of weights and gradients as the optimizer is about to see them."""
        self.note_optimizer(optimizer)
        ready = self._ready()
        self._describe(ready)
        reading = Reading()
        self._old.add_weights(reading, ready, self.owned_by(optimizer))
        self._add_gradients(reading, ready, optimizer)
        return reading.rows()

    @torch.no_grad()
    def gradients(self, optimizer: Optimizer) -> Rows:
        """Rows of the gradients as this optimizer sees them now."""
        reading = Reading()
        self._add_gradients(reading, self._ready(), optimizer)
        return reading.rows()

    def _add_gradients(self, reading: Reading, ready: Named, optimizer: Optimizer) -> None:
        owned = self.owned_by(optimizer)
        # A fused optimizer divides by the scale of the GradScaler itself, after this hook.
        own_scale = getattr(optimizer, "grad_scale", None)
        scale, unscaled = self._scaled(optimizer)
        for name, parameter in ready:
            gradient = parameter.grad
            if gradient is not None:
                by = own_scale if name in owned else None if name in unscaled else scale
                gradient = gradient if by is None else gradient / by
                reading.add(key_of("grad", name), gradient)

    def _scaled(self, optimizer: Optimizer) -> tuple[Tensor | None, set[str]]:
        """By what gradients of other optimizers, or of none, are too large; and which are not."""
        scaler = callers.scaler()
        if scaler is None:
            return None, set()
        others = [other for other in self._owned if callers.has_unscaled(scaler, other)]
        unscaled = {name for other in others for name in self.owned_by(other)}
        return callers.scale_of(scaler), unscaled

    @torch.no_grad()
    def after_step(self, *, again: bool) -> Rows:
        """Rows of the updates, new value minus old, and of weights that were not read before.

        Args:
            again: the next step is likely to be recorded too.
        """
        reading = Reading()
        self._old.add_updates(reading, self._named, again=again)
        return reading.rows()

    def watch_stale_gradient(self, optimizer: Optimizer | None = None) -> None:
        """From now, just after its step, to `stale_gradient`: look whether gradients are cleared.

        A hook on one parameter sees its `grad` just before each backward pass adds to it. Before
        the first step no optimizer is known; then any parameter will do.
        """
        self._clean, self._clean_for = [], optimizer
        some = self.owned_by(optimizer).values() if optimizer else (p for _, p in self._ready())
        for parameter in some:
            known = optimizer is None or parameter.grad is not None
            if known and parameter.is_leaf and parameter.requires_grad:
                self._clean_handle = on_gradient(
                    parameter, self._guard(partial(self._look, parameter))
                )
                return

    def stale_gradient(self, optimizer: Optimizer) -> Callable[[], bool]:
        """Whether every backward pass since this optimizer's last step added to a gradient of then.

        One pass that found it cleared is enough to acquit: in a GAN the generator's pass runs
        through the discriminator before that one's gradients are cleared. Where another optimizer
        has stepped in between, nothing is known. The answer may have to come from a device.
        """
        self.remove()
        clean = self._clean if optimizer is self._clean_for else []
        self._clean_for = None

        def stale() -> bool:
            return bool(clean) and not any(
                bool(c.array()) if isinstance(c, Arrival) else c for c in clean
            )

        return stale

    def remove(self) -> None:
        """Take the hook off, if there is one."""
        if self._clean_handle is not None:
            self._clean_handle.remove()
            self._clean_handle = None

    def _look(self, parameter: nn.Parameter, _: Tensor) -> None:
        self._reached(cleared=parameter.grad is None)
        self._clean.append(parameter.grad is None or all_zero(parameter.grad))

    def describe(self) -> None:
        """Bring `seen` up to date."""
        self._describe(self._ready())

    def _describe(self, ready: Named) -> None:
        for name, parameter in ready:
            optimized = name in self._optimized
            known = parameter.shape, parameter.dtype, parameter.requires_grad, optimized
            if self._described.get(name) == known:
                continue
            self._described[name] = known
            facts = {
                "module": self._owner.get(name, ""),
                "requires_grad": parameter.requires_grad,
                "optimized": optimized,
            }
            dtype = str(parameter.dtype).removeprefix("torch.")
            for kind in ("weight", "grad", "update"):
                self.seen[key_of(kind, name)] = Seen(tuple(parameter.shape), dtype, facts)

    def _ready(self) -> Named:
        """The parameters that have values: those of a lazy module come with its first call.

        Nested ones are left out, which have neither one shape nor numbers that can be read.
        """
        return [(name, p) for name, p in self._named.items() if not (is_lazy(p) or p.is_nested)]
