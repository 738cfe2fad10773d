"""Recording a model step by step: the optimizer's step is the clock.

Before it, the step's activations, weights and gradients are read; after it, the updates; then the
rows travel to the CPU together and on to the writer's thread. Between recorded steps no module has
a hook, but for one on a model that has two modes (`validation`).
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lampwork._core import origins
from lampwork._core.clock import monotonic_s
from lampwork._core.errors import InputError
from lampwork.record.writer import Writer
from lampwork.taps import select
from lampwork.taps.layout import Layout, difference
from lampwork.taps.statistic import Flags, prepare
from lampwork.taps.tap import on_optimizer_step
from lampwork.watching import callers
from lampwork.watching.activations import Activations, Key
from lampwork.watching.deliveries import Deliveries, numbers
from lampwork.watching.guard import Guard, log
from lampwork.watching.ledger import Ledger
from lampwork.watching.loaders import Loaders
from lampwork.watching.parameters import Parameters
from lampwork.watching.reading import Rows
from lampwork.watching.scalars import Scalars
from lampwork.watching.schedule import Schedule
from lampwork.watching.snapshots import Snapshots
from lampwork.watching.validation import differs_in_eval
from lampwork.watching.witness import Witness

_MOST_CHANGES = 20
"""Of a model that has other modules all the time, the first so many are noted."""


class Recorder:
    """Reads a model while it trains, and tells a writer. All that a run holds of a model is here.

    Args:
        model: what is trained.
        schedule: which of its steps are recorded.
        optimizer: the one whose steps count; each that owns parameters of the model if None.
        pictures: whether pictures are taken as well.
        uncalled: nobody has called the model, so that of what is compiled nothing is traced yet.

    Attributes:
        step: how many steps there were: the number of the next one.

    Raises:
        InputError: a model without parameters, or one that was compiled before.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        optimizer: Optimizer | None,
        pictures: bool,
        *,
        uncalled: bool = False,
    ) -> None:
        if not any(True for _ in model.parameters()):
            raise InputError(f"{type(model).__name__} has no parameters, so nothing can be trained")
        self.step = 0
        self._model, self._schedule = model, schedule
        self._optimizer, self._pictures = optimizer, pictures
        if uncalled:
            select.refuse_scripted(model)
        else:
            select.refuse_unhookable(model)
            select.refuse_compiled_code(model)
        self._modules = select.worth_watching(model)
        self._writer: Writer | None = None
        self._handles: list[RemovableHandle] = []
        self._unseen_told = False
        self._changes = 0

    def facts(self) -> dict[str, Any]:
        """What a record tells of the model and its schedule from the beginning."""
        modules = self._model.modules()
        parameters = [p for p in self._model.parameters() if not is_lazy(p)]
        return {
            "model": type(self._model).__name__,
            "parameters": sum(p.numel() for p in parameters),
            "mode_modules": sorted({type(m).__name__ for m in modules if differs_in_eval(m)}),
            "every": self._schedule.every,
            **origins.told(self._model.modules()),
        }

    def tell(self, writer: Writer, scalars: Scalars) -> None:
        """Write there from now on; without it, a step is not to end."""
        self._writer, self._scalars = writer, scalars

    def attach(self) -> None:
        """Put the hooks on."""
        self._guard = Guard(self._untap)
        self._layout, self._looked = Layout(self._model), False
        self._activations = Activations(self._model, self._modules, self._guard, self._follow)
        reached = self._activations.backward_reached
        self._parameters = Parameters(self._model, self._guard, reached)
        self._snapshots = Snapshots(self._model, self._guard) if self._pictures else None
        self._witness = Witness(self._model, lambda: self._schedule.due(self.step))
        self._ledger, self._loaders = Ledger(), Loaders()
        self._deliveries = Deliveries(self._ledger)
        self._rows: Rows = []
        self._alive: list[tuple[Key, Flags]] = []
        self._notes: dict[str, Any] = {}
        self._optimizers: list[str] = []
        self._stepping: list[Optimizer] = []
        prepare(self._model.parameters())
        self._began = self._step_began = monotonic_s()
        self._spent_before_s = 0.0
        count = Guard(self._untap)  # its own: steps are counted on where recording was given up
        self._handles = on_optimizer_step(count(self._before_step), count(self._after_step))
        self._tap()
        self._parameters.watch_stale_gradient()

    def steps_with(self, optimizer: Optimizer) -> bool:
        """Whether a step of this optimizer is a step of this run."""
        if self._optimizer is not None:
            return optimizer is self._optimizer
        return bool(self._parameters.owned_by(optimizer))

    def abandon(self) -> None:
        """Do nothing more; may be called from inside an optimizer's step, unlike `stop`."""
        self._guard.failed = True
        self._untap()

    def remove_hooks(self) -> None:
        """Take all hooks off; idle the second time."""
        if self._handles:
            for handle in self._handles:
                handle.remove()
            self._handles = []
            self._untap()

    def deliver(self) -> None:
        """Have the writer know all that was read so far."""
        self._scalars.resolve()
        self._deliveries.arrive(wait=True)

    def finish(self, writer: Writer) -> None:
        """Tell the writer what remains, also where recording was given up."""
        self._loaders.tell(writer)
        Guard(self._untap)(self._write_end)(writer)

    def _follow(self) -> None:
        """Look whether modules of the model were replaced since; then watch those that it has."""
        self._looked = True
        if not self._layout.changed():
            return
        before, self._modules = self._modules, select.worth_watching(self._model)
        self._activations.follow(self._modules)
        self._parameters.follow()
        self._witness.follow()
        if self._snapshots is not None:
            self._snapshots.follow(self._model)
        told = difference(before, self._modules)
        if told and self._writer is not None and self._changes < _MOST_CHANGES:
            self._changes += 1
            self._writer.note(self.step, f"modules of the model {told}")

    def _tap(self) -> None:
        self._activations.install()
        self._witness.install()
        if self._snapshots is not None:
            self._snapshots.install()

    def _untap(self) -> None:
        # The optimizer hooks stay: torch forbids removing them from inside one of them.
        self._parameters.remove()
        self._witness.remove()
        if self._snapshots is not None:
            self._snapshots.remove()
        self._activations.remove()  # last, since it takes off what the others had to leave

    def _before_step(self, optimizer: Optimizer) -> None:
        if not self.steps_with(optimizer):
            return
        if optimizer in self._stepping:  # one that raised, or this one lies inside of it
            self._forget_steps(optimizer, callers.depth(optimizer) - 1)
        self._stepping.append(optimizer)
        # An optimizer that is stepped by another one, which wraps it, makes no step of its own.
        if len(self._stepping) == 1:
            self._witness.before_step(self.step)
            if self._schedule.due(self.step):
                self._guard(self._read_step)(optimizer)

    def _after_step(self, optimizer: Optimizer) -> None:
        self._parameters.note_optimizer(optimizer)
        begun = self._stepping.count(optimizer)
        self._forget_steps(optimizer, callers.depth(optimizer) - 1 if begun > 1 else 0)
        if not begun or self._stepping:
            return
        if type(optimizer).__name__ not in self._optimizers:
            self._optimizers.append(type(optimizer).__name__)
        if self._schedule.due(self.step):
            self._guard(self._write_step)(optimizer)
        else:
            self._guard(self._deliveries.arrive)()
        now, spent_s = monotonic_s(), self._guard.cost_s + self._witness.cost_s
        self._schedule.passed(self.step, now - self._step_began, spent_s - self._spent_before_s)
        self._step_began, self._spent_before_s = now, spent_s
        self.step += 1
        self._guard(self._await_step)(optimizer)

    def _forget_steps(self, optimizer: Optimizer, running: int) -> None:
        """Forget the steps of an optimizer inside of so many that are running, and all in them."""
        places = [i for i, other in enumerate(self._stepping) if other is optimizer]
        if len(places) > running:
            del self._stepping[places[running] :]

    def _read_step(self, optimizer: Optimizer) -> None:
        assert self._writer is not None
        if not self._looked:  # a model that was only called by its parts
            self._follow()
        self._looked = False
        if self._layout.parameters_changed():
            self._parameters.follow()
        taken = self._activations.take()
        self._rows = taken.rows + self._parameters.before_step(optimizer)
        self._notes = {
            "training": self._model.training if taken.training is None else taken.training,
            "stale_gradient": self._parameters.stale_gradient(optimizer),
            "lr": numbers([group["lr"] for group in optimizer.param_groups if "lr" in group]),
            "optimizer": type(optimizer).__name__,
            "forwards": taken.forwards,
        }
        if (scale := callers.scale_of(callers.scaler())) is not None:
            self._notes["grad_scale"] = numbers([scale])
        self._alive = taken.alive
        if self._snapshots is not None:
            self._snapshots.remove()  # the probe is taken
            if self._snapshots.due(self.step):
                self._take_pictures(self._writer)

    def _look_for_unseen_layers(self) -> None:
        """Tell once, where parameters have gradients and no layer called our hooks."""
        kinds = {key.kind for key, _ in self._rows if key.name}
        if "output" in kinds:  # what is compiled before has none from the first step on
            self._unseen_told = True
        if self._unseen_told or "grad" not in kinds or len(self._modules) < 2:
            return
        if select.anything_compiled():
            self._unseen_told = True
            log.warning(
                "no layer of %s is seen, only its parameters: it was compiled before it was "
                "watched. torch.compiler.reset() first, then watch, then torch.compile",
                type(self._model).__name__,
            )

    def _read_closure(self, optimizer: Optimizer) -> None:
        """What `step(closure)` computed: the gradients that were used last, and the outputs where
        none were computed before it.
        """
        taken = self._activations.take()
        if not taken.forwards:
            return
        before = [(key, row) for key, row in self._rows if key.kind != "grad"]
        self._rows = before + self._parameters.gradients(optimizer)
        if not self._notes["forwards"]:
            self._rows += taken.rows
            self._notes |= {"training": taken.training, "forwards": taken.forwards}
            self._alive = self._alive + taken.alive

    def _write_step(self, optimizer: Optimizer) -> None:
        assert self._writer is not None
        self._read_closure(optimizer)
        self._look_for_unseen_layers()
        witnessed, later = self._witness.take()
        self._rows += self._parameters.after_step(again=self._schedule.dense) + witnessed
        seen = {**self._activations.seen, **self._parameters.seen, **self._witness.seen}
        self._ledger.announce(seen, self._writer)
        self._scalars.send()
        self._loaders.tell_at_times(self._writer)
        if loaded := self._loaders.so_far():
            self._notes["loaded"] = loaded
        elapsed_s = monotonic_s() - self._began
        self._deliveries.send(
            self._writer, self.step, elapsed_s, self._rows, self._alive, self._notes, later
        )
        self._rows, self._alive = [], []
        self._witness.tell(self._writer)

    def _await_step(self, last: Optimizer) -> None:
        self._witness.next_step(recorded=self._schedule.due(self.step))
        if self._schedule.due(self.step):
            self._tap()
            self._parameters.watch_stale_gradient(last)
        else:
            self._activations.rest()

    def _write_end(self, writer: Writer) -> None:
        self._deliveries.arrive(wait=True)
        self._witness.tell(writer, wait=True)
        writer.meta("steps", self.step)
        writer.meta("optimizers", self._optimizers)
        self._scalars.resolve()
        if self.step > 0:
            self._parameters.describe()
            self._ledger.announce(self._parameters.seen, writer)
            if self._snapshots is not None and not self._guard.failed:
                self._take_pictures(writer)

    def _take_pictures(self, writer: Writer) -> None:
        assert self._snapshots is not None
        for shot in self._snapshots.take():
            pixels = shot.pixels.numpy()
            writer.picture(self.step, shot.name, shot.kind, pixels.shape, pixels.tobytes())
