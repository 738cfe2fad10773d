"""Outputs of modules and their gradients during a recorded step.

A forward pass counts when autograd follows it and its output got a gradient: a validation pass
between two steps does not. Rows stay on the device until the step ends, so nothing synchronises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import local
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lampwork.taps.compiled import CompiledTaps
from lampwork.taps.statistic import (
    Flags,
    RawRow,
    channel_dim,
    has_1d_convolutions,
    measure,
    measure_with_channels,
)
from lampwork.taps.structure import tensors
from lampwork.taps.tap import Inputs, Taps, Visit, on_gradient, release
from lampwork.watching.guard import Guard

_MOST_WAITING = 1000


class Key(NamedTuple):
    """What a row describes; with `record.schema.Tensor` as its description in the file."""

    kind: str
    name: str
    call: int = 1
    part: int = 0


class Seen(NamedTuple):
    """A tensor at its first sight: what the record tells about it."""

    shape: tuple[int, ...]
    dtype: str
    facts: dict[str, Any]


@dataclass(eq=False)
class _Forward:
    """One forward pass of the whole model, and the backward that follows it."""

    training: bool
    trained: bool = False
    rows: list[tuple[Key, RawRow]] = field(default_factory=list)
    alive: list[tuple[Key, Flags]] = field(default_factory=list)
    first_run: set[str] = field(default_factory=set)
    hooks: list[RemovableHandle] = field(default_factory=list)
    forgotten: bool = False

    def forget(self) -> None:
        self.forgotten = True
        # An output may be a parameter itself, or be kept by the user: they outlive the step.
        for handle in self.hooks:
            handle.remove()


class _Here(local):
    """The pass that one thread began last."""

    forward: _Forward | None = None


@dataclass
class Taken:
    """What one step's forward and backward passes gave.

    Attributes:
        rows: (key, row as measured); keys repeat over micro-batches.
        alive: (key, which channels of an output were non-zero anywhere); keys repeat as well.
        training: whether the model was in training mode; None if no forward was seen.
        forwards: number of forward passes that were trained on.
    """

    rows: list[tuple[Key, RawRow]]
    alive: list[tuple[Key, Flags]]
    training: bool | None
    forwards: int


class Activations:
    """Taps on the modules of one model, installed for recorded steps only.

    Args:
        model: the model.
        modules: those that are tapped, by name.
        guard: of all hooks.
        begins: called when a pass of the whole model begins, before its modules are called.
    """

    def __init__(
        self,
        model: nn.Module,
        modules: dict[str, nn.Module],
        guard: Guard,
        begins: Callable[[], None],
    ) -> None:
        self._model, self._modules, self._guard, self._begins = model, modules, guard, begins
        self._channels_first = has_1d_convolutions(model)
        self._forwards: list[_Forward] = []
        self._here = _Here()
        self._reached: list[_Forward] = []
        self._root_taps: Taps | None = None
        self._taps: Taps | None = None
        self._compiled = CompiledTaps(model, modules)
        self._keys: dict[tuple[str, int, int], tuple[Key, Key]] = {}  # of an output, its gradient
        self._guarded_gradient = guard(self._gradient)
        self.seen: dict[Key, Seen] = {}

    def install(self) -> None:
        """Put the hooks on, unless they are."""
        if self._taps is None:
            begin, record = self._guard(self._begin), self._guard(self._record)
            self._root_taps = Taps({"": self._model}, before=begin, in_graphs=False)
            self._taps = Taps(self._modules, after=record, in_graphs=False)
        self._compiled.install()
        self._compiled.on = True

    def follow(self, modules: dict[str, nn.Module]) -> None:
        """Tap these modules from now on, also where the model is about to call them."""
        self._modules = modules
        self._channels_first = has_1d_convolutions(self._model)
        self.seen.clear()  # another layer gives another shape to all that come after it
        if self._taps is not None:
            self._taps.follow(modules)
        self._compiled.follow(modules)

    def rest(self) -> None:
        """Take the hooks off and forget what was not taken; what was compiled in stays, idle."""
        for taps in (self._taps, self._root_taps):
            if taps is not None:
                taps.remove()
        self._taps = self._root_taps = None
        self._forget()
        self._compiled.on = False
        if not self._compiled.traced:
            self._compiled.remove()

    def remove(self) -> None:
        """Take all hooks off, for good."""
        self.rest()
        self._compiled.remove()
        release(self._model.modules())

    def take(self) -> Taken:
        """Hand over what came since the last call.

        Gradients that still arrive for it, through a graph that the user keeps, are dropped.
        """
        forwards = [forward for forward in self._forwards if forward.trained] or self._forwards
        self._forget()
        if self._taps is not None:
            self._taps.restart_all()  # nobody else does in a model that is only called by its parts
        compiled = self._take_compiled()
        if compiled and not forwards:  # the model's own call is part of the graph
            forwards = [_Forward(self._model.training)]
        return Taken(
            rows=[row for forward in forwards for row in forward.rows] + compiled,
            alive=[flags for forward in forwards for flags in forward.alive],
            training=forwards[-1].training if forwards else None,
            forwards=len(forwards),
        )

    def backward_reached(self, *, cleared: bool) -> None:
        """A backward pass comes to a parameter, and whether it finds no gradient there.

        If so, what earlier passes since the last step had left was thrown away, as after a step
        that a GradScaler skipped, and they are no part of the next step.
        """
        if cleared:
            for forward in self._reached:
                forward.forget()
            self._forwards = [f for f in self._forwards if f not in self._reached]
        self._reached = [forward for forward in self._forwards if forward.trained]

    def _take_compiled(self) -> list[tuple[Key, RawRow]]:
        rows: list[tuple[Key, RawRow]] = []
        for read in self._compiled.take() if self._compiled.traced else ():
            key = Key("output", read.name, read.call, read.part)
            gradient_key = key._replace(kind="grad_output")
            if key not in self.seen:
                shape = tuple(int(size) for size in read.shape.tolist() if size >= 0)
                for each in (key, gradient_key):
                    self._describe(each, self._modules[read.name], shape, read.dtype)
            rows += [(key, read.output), (gradient_key, read.gradient)]
        return rows

    def _forget(self) -> None:
        for forward in self._forwards:
            forward.forget()
        self._forwards, self._reached = [], []

    def _begin(self, visit: Visit, inputs: Inputs) -> None:
        if not visit.recomputed and torch.is_grad_enabled():
            assert self._taps is not None
            assert self._root_taps is not None
            if self._root_taps.inside_of_itself(visit):
                return  # of a model that calls itself: calls are numbered on
            self._begins()
            self._taps.restart()
            self._compiled.begin()
            self._here.forward = _Forward(self._model.training)
            self._forwards.append(self._here.forward)
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        # A validation epoch without `no_grad` must not pile up: what waits too long is let go.
        waiting = [i for i, forward in enumerate(self._forwards) if not forward.trained]
        if len(waiting) > _MOST_WAITING:
            self._forwards.pop(waiting[0]).forget()

    def _current(self) -> _Forward:
        own = self._here.forward
        if own is not None and not own.forgotten:
            return own
        # A module called without its model, or by a thread that the model's own pass started, or
        # hooks that came while the model was running.
        if not self._forwards:
            self._forwards.append(_Forward(self._model.training, trained=True))
        return self._forwards[-1]

    def _record(self, visit: Visit, output: Any) -> None:
        if not torch.is_grad_enabled():
            return
        forward = self._current()
        if visit.recomputed and visit.name in forward.first_run:
            return
        if not visit.recomputed:
            forward.first_run.add(visit.name)
        if type(output) is Tensor and output.is_floating_point():  # what nearly every module gives
            self._output(forward, visit, 0, output)
            return
        for part, tensor in enumerate(tensors(output)):
            if tensor.is_floating_point() or tensor.is_complex():
                self._output(forward, visit, part, tensor)

    def _output(self, forward: _Forward, visit: Visit, part: int, tensor: Tensor) -> None:
        place = (visit.name, visit.call, part)
        keys = self._keys.get(place)
        if keys is None:
            own = Key("output", visit.name, max(visit.call, 1), part)
            keys = self._keys[place] = (own, own._replace(kind="grad_output"))
        key, gradient_key = keys
        dim = channel_dim(tensor, channels_first=self._channels_first)
        measured = measure_with_channels(tensor, dim)
        if measured is None:
            return
        row, flags = measured
        if key not in self.seen:
            self._describe(key, visit.module, tuple(tensor.shape), tensor.dtype)
        forward.rows.append((key, row))
        if flags is not None:
            forward.alive.append((key, flags))
        if tensor.requires_grad:
            # Described now and not when the gradient comes: ids are to follow the depth.
            if gradient_key not in self.seen:
                self._describe(gradient_key, visit.module, tuple(tensor.shape), tensor.dtype)
            hook = on_gradient(tensor, self._guarded_gradient, forward, gradient_key)
            forward.hooks.append(hook)

    def _gradient(self, forward: _Forward, key: Key, gradient: Tensor) -> None:
        forward.trained = True
        row = measure(gradient)
        if row is not None:
            forward.rows.append((key, row))

    def _describe(
        self, key: Key, module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype | str
    ) -> None:
        facts = {"module": type(module).__name__, "root": module is self._model}
        self.seen[key] = Seen(shape, str(dtype).removeprefix("torch."), facts)
