"""Watching a model while it trains: from the first step to the verdict.

The optimizer's step is the clock. Before it, the step's activations, weights and gradients are
read; after it, the updates; then the rows travel to the CPU together and on to the writer's
thread. Between recorded steps no module has a hook, but for one on a model that has two modes
(`validation`).
"""

from __future__ import annotations

import atexit
import datetime
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lampwork._core import origins, ranks
from lampwork._core.clock import monotonic_s
from lampwork._core.errors import InputError, RecordError
from lampwork.record import runs
from lampwork.record.writer import Writer
from lampwork.taps import select
from lampwork.taps.layout import Layout, difference
from lampwork.taps.statistic import Flags, prepare
from lampwork.taps.tap import on_optimizer_step
from lampwork.watching import callers
from lampwork.watching.activations import Activations, Key
from lampwork.watching.deliveries import Deliveries, numbers
from lampwork.watching.guard import Guard, log
from lampwork.watching.images import as_pixels
from lampwork.watching.ledger import Ledger
from lampwork.watching.loaders import Loaders
from lampwork.watching.notebook import as_html
from lampwork.watching.parameters import Parameters
from lampwork.watching.reading import Rows
from lampwork.watching.scalars import Scalars
from lampwork.watching.schedule import Schedule
from lampwork.watching.snapshots import Snapshots
from lampwork.watching.validation import differs_in_eval
from lampwork.watching.witness import Witness

if TYPE_CHECKING:
    from lampwork.diagnose.finding import Finding
    from lampwork.record.reader import Record

_HOLDING = ("_model", "_modules", "_optimizer", "_layout", "_activations", "_parameters")
_HOLDING += ("_snapshots", "_witness", "_stepping", "_rows", "_alive", "_notes")
"""Attributes of a `Watch` that hold the model, or something of it."""
_MOST_CHANGES = 20
"""Of a model that has other modules all the time, the first so many are noted."""


class Watch:
    """A run in progress; `watch` makes it. Use it as a context manager, or `start` and `stop`."""

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        directory: str | os.PathLike[str],
        name: str | None,
        optimizer: Optimizer | None,
        pictures: bool,
    ) -> None:
        if not any(True for _ in model.parameters()):
            raise InputError(f"{type(model).__name__} has no parameters, so nothing can be trained")
        self.path: Path | None = None
        self.step = 0
        self._model, self._schedule, self._kind = model, schedule, type(model).__name__
        self._directory, self._name = directory, name
        self._optimizer, self._pictures = optimizer, pictures
        self._modules = select.with_values(model)
        select.refuse_compiled_code(model)
        self._writer: Writer | None = None
        self._handles: list[RemovableHandle] = []
        self._unseen_told = False
        self._changes = 0

    def start(self) -> Watch:
        """Make the run's folder and begin with the next step.

        Raises:
            RecordError: the folder cannot be written.
            InputError: it was started before.
        """
        if self.path is not None:
            raise InputError(f"this run was started before, in {str(self.path)!r}: watch anew")
        self.open()
        try:
            self.attach()
        except BaseException:  # of a model that cannot even be looked at
            writer, self._writer = self._writer, None
            atexit.unregister(self.stop)
            if writer is not None:
                writer.close()
            raise
        return self

    def open(self) -> None:
        """Make the run's folder and its record; the first half of `start`.

        Raises:
            RecordError: the folder cannot be written.
        """
        # A script may change its working directory later.
        path = runs.create(self._directory, self._name).absolute()
        self._writer = Writer(runs.database(path), self._meta())
        self.path, self._owner = path, os.getpid()
        self._scalars = Scalars(self._writer)
        atexit.register(self.stop)

    def attach(self) -> None:
        """Put the hooks on; the second half of `start`, or the first where a run may never come."""
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

    def stop(self) -> None:
        """Take all hooks off, finish the record and write `report.json`; idle the second time."""
        self._remove_hooks()
        writer, self._writer = self._writer, None
        if writer is None:
            return
        atexit.unregister(self.stop)
        if os.getpid() != self._owner:
            return  # in a forked child: the run is its parent's
        self._loaders.tell(writer)
        Guard(self._untap)(self._write_end)(writer)
        writer.meta("finished", True)
        error = writer.close()
        if error is not None:
            log.warning("%s", error)
        elif ranks.rank() == 0:
            self._write_report()
        self._let_go()

    def _let_go(self) -> None:
        """Hold nothing of the model any more: a run may be kept for long, for its findings."""
        for name in _HOLDING:
            vars(self).pop(name, None)

    def __enter__(self) -> Watch:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def log(self, /, **scalars: float | Tensor) -> None:
        """Keep numbers of this step, e.g. `run.log(loss=loss, accuracy=0.9)`.

        Tensors on an accelerator are read later, together, so that logging does not wait for it.

        Raises:
            InputError: not one number, or the run is not in progress.
        """
        self.log_at(max(self.step - 1, 0), **scalars)

    def log_at(self, step: int, /, **scalars: float | Tensor) -> None:
        """As `log`, for a given step."""
        self._in_progress("log")
        for name, value in scalars.items():
            self._scalars.add(step, name, value)

    def image(self, name: str, array: Any) -> None:
        """Keep a picture of this step, e.g. `run.image("reconstruction", output[0])`.

        Args:
            name: what to call it; pictures of one name are shown over time.
            array: a tensor or array of shape (H, W), (1, H, W), (3, H, W) or (H, W, 3), uint8, or
                floating point within [0, 1]; at most 512 pixels a side are kept.

        Raises:
            InputError: another shape, type or range, or the run is not in progress.
        """
        writer = self._in_progress("image")
        pixels = as_pixels(name, array)
        writer.picture(max(self.step - 1, 0), name, "image", pixels.shape, pixels.tobytes())

    def note(self, text: str) -> None:
        """Keep a line of text with this step, e.g. `run.note("unfroze the encoder")`.

        Raises:
            InputError: not a text, or the run is not in progress.
        """
        if not isinstance(text, str):
            raise InputError(f"a note is a text, not a {type(text).__name__}: use str(…)")
        self._in_progress("note").note(max(self.step - 1, 0), text)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong so far, the one to mend first standing first; empty if nothing is."""
        from lampwork.diagnose.verdict import diagnose

        return [] if self.path is None else diagnose(self._recorded())

    def _in_progress(self, method: str) -> Writer:
        if self._writer is None:
            raise InputError(f"the run is not in progress: {method} inside the `with` block")
        return self._writer

    def __repr__(self) -> str:
        model = self._kind
        if self.path is None:
            return f"<Watch of {model}, not started>"
        ended = "" if self._writer else ", ended"
        return f"<Watch of {model}, run {self.path.name!r}, step {self.step}{ended}>"

    def _repr_html_(self) -> str:
        """The state of the run, as a notebook shows it at the end of a cell."""
        if self.path is None:
            return as_html(repr(self), [], "not started", [])
        from lampwork.diagnose.curve import training_loss
        from lampwork.diagnose.verdict import diagnose, verdict

        try:
            record = self._recorded()
        except RecordError as error:  # a notebook shows its cells all the same
            return as_html(f"run {self.path.name}", [("record", str(error))], "unreadable", [])
        loss, found = training_loss(record), diagnose(record)
        facts = [
            ("model", self._kind),
            ("step", f"{self.step}{'' if self._writer else ', ended'}"),
            *([] if loss is None else [(loss.name, f"{loss.start:.4g} → {loss.end:.4g}")]),
            ("record", str(self.path)),
        ]
        return as_html(f"run {self.path.name}", facts, verdict(found), found)

    def _recorded(self) -> Record:
        """What is on disk, after all that was told so far is."""
        from lampwork.record.reader import Record

        assert self.path is not None
        if self._writer is not None:
            self._scalars.resolve()
            self._deliveries.arrive(wait=True)
            self._writer.flush()
        return Record(self.path)

    def _meta(self) -> dict[str, Any]:
        modules = self._model.modules()
        parameters = [p for p in self._model.parameters() if not is_lazy(p)]
        return {
            "lampwork": _version(),
            "torch": torch.__version__,
            "model": self._kind,
            "parameters": sum(p.numel() for p in parameters),
            "mode_modules": sorted({type(m).__name__ for m in modules if differs_in_eval(m)}),
            "every": self._schedule.every,
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "argv": sys.argv,
            "optimizers": [],
            "finished": False,
            **origins.told(self._model.modules()),
        }

    def abandon(self) -> None:
        """Do nothing more; may be called from inside an optimizer's step, unlike `stop`."""
        self._guard.failed = True
        self._untap()

    def _remove_hooks(self) -> None:
        if self._handles:
            for handle in self._handles:
                handle.remove()
            self._handles = []
            self._untap()

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

    def steps_with(self, optimizer: Optimizer) -> bool:
        """Whether a step of this optimizer is a step of this run."""
        if self._optimizer is not None:
            return optimizer is self._optimizer
        return bool(self._parameters.owned_by(optimizer))

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
                self._kind,
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

    def _write_report(self) -> None:
        assert self.path is not None
        try:
            from lampwork.diagnose.verdict import report
            from lampwork.record.reader import Record

            text = json.dumps(report(Record(self.path)), indent=1, allow_nan=False)
            # Whoever sees a report sees a whole one.
            half = self.path / f".report-{os.getpid()}.json"
            half.write_text(text + "\n", encoding="utf-8")
            half.replace(self.path / "report.json")
        except Exception:  # whatever it is, a trained model must not be lost over a report
            log.exception("%s is recorded, but its report could not be written", self.path)


def _version() -> str:
    try:
        return version("lampwork")
    except PackageNotFoundError:  # used from its sources
        return "unknown"


def watch(
    model: nn.Module,
    *,
    every: int = 10,
    budget: float | None = None,
    dir: str | os.PathLike[str] = "runs",
    name: str | None = None,
    optimizer: Optimizer | None = None,
    pictures: bool = True,
) -> Watch:
    """Keep a statistic of every tensor of the model while it trains.

    A step is one `optimizer.step()`. Recorded are: outputs of modules and their gradients,
    parameters, their gradients and their updates, each as one row of numbers, in `DIR/NAME/`.

    Args:
        model: the model as it is trained. It may be compiled afterwards, by torch.compile or
            `model.compile`; one that was compiled before is refused, since torch ignores hooks
            that come later.
        every: record steps 0, every, 2·every, …
        budget: share of the training time that this may take, e.g. 0.02, by the clock and all in
            all; records more seldom where `every` would cost more.
        dir: the folder that holds the runs.
        name: the run's folder in it; by default the time. A name that is taken gets a number.
        optimizer: count only this optimizer's steps, by default each one that owns parameters
            of the model.
        pictures: also keep small pictures: feature maps, kernels, attention, and where a
            classifier looks.

    Returns:
        A context manager with `log`, `findings` and `path`; also `start()` and `stop()`.

    Raises:
        InputError: a value out of range, a compiled model, a model without parameters.
        RecordError: when it starts, if the folder cannot be written.
    """
    return Watch(model, Schedule(every, budget), dir, name, optimizer, pictures)
