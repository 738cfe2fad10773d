"""A run in progress: from `watch` to the verdict, and what its user may ask and tell of it."""

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
from torch.optim import Optimizer

from lampwork._core import ranks
from lampwork._core.errors import InputError, RecordError
from lampwork.record import runs
from lampwork.record.writer import Writer
from lampwork.taps import select
from lampwork.watching.guard import log
from lampwork.watching.images import as_pixels
from lampwork.watching.notebook import as_html
from lampwork.watching.recorder import Recorder
from lampwork.watching.scalars import Scalars
from lampwork.watching.schedule import Schedule

if TYPE_CHECKING:
    from lampwork.diagnose.finding import Finding
    from lampwork.record.reader import Record


class Watch:
    """A run in progress; `watch` makes it. Use it as a context manager, or `start` and `stop`."""

    def __init__(
        self, recorder: Recorder, directory: str | os.PathLike[str], name: str | None, kind: str
    ) -> None:
        self.path: Path | None = None
        self._recorder: Recorder | None = recorder  # until the end
        self._steps = 0  # from then on
        self._directory, self._name, self._kind = directory, name, kind
        self._writer: Writer | None = None

    @property
    def step(self) -> int:
        """How many steps there were: the number of the next one."""
        return self._steps if self._recorder is None else self._recorder.step

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
        assert self._recorder is not None
        # A script may change its working directory later.
        path = runs.create(self._directory, self._name).absolute()
        self._writer = Writer(runs.database(path), _facts() | self._recorder.facts())
        self.path, self._owner = path, os.getpid()
        self._scalars = Scalars(self._writer)
        self._recorder.tell(self._writer, self._scalars)
        atexit.register(self.stop)

    def attach(self) -> None:
        """Put the hooks on; the second half of `start`, or the first where a run may never come."""
        assert self._recorder is not None
        self._recorder.attach()

    def steps_with(self, optimizer: Optimizer) -> bool:
        """Whether a step of this optimizer is a step of this run."""
        return self._recorder is not None and self._recorder.steps_with(optimizer)

    def abandon(self) -> None:
        """Do nothing more; may be called from inside an optimizer's step, unlike `stop`."""
        if self._recorder is not None:
            self._recorder.abandon()

    def stop(self) -> None:
        """Take all hooks off, finish the record and write `report.json`; idle the second time."""
        recorder = self._recorder
        if recorder is None:
            return
        recorder.remove_hooks()
        writer, self._writer = self._writer, None
        if writer is None:
            return
        atexit.unregister(self.stop)
        if os.getpid() != self._owner:
            return  # in a forked child: the run is its parent's
        recorder.finish(writer)
        writer.meta("finished", True)
        error = writer.close()
        if error is not None:
            log.warning("%s", error)
        elif ranks.rank() == 0:
            self._write_report()
        # Hold nothing of the model any more: a run may be kept for long, for its findings.
        self._steps, self._recorder = recorder.step, None

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
            assert self._recorder is not None
            self._recorder.deliver()
            self._writer.flush()
        return Record(self.path)

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


def _facts() -> dict[str, Any]:
    """What a record tells of the program from the beginning."""
    return {
        "lampwork": _version(),
        "torch": torch.__version__,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "argv": sys.argv,
        "optimizers": [],
        "finished": False,
    }


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
    recorder = Recorder(model, Schedule(every, budget), optimizer, pictures)
    return Watch(recorder, dir, name, type(model).__name__)


def watch_uncalled(
    model: nn.Module,
    *,
    dir: str | os.PathLike[str],
    name: str | None,
    every: int,
    budget: float | None = None,
    pictures: bool = True,
) -> Watch:
    """As `watch`, of a model that was not called yet, and may be compiled already.

    Of one that was, parameters alone are recorded, and a warning tells so.

    Raises:
        InputError: as `watch`, and for a model that was scripted.
    """
    model = select.inside(model)
    recorder = Recorder(model, Schedule(every, budget), None, pictures, uncalled=True)
    return Watch(recorder, dir, name, type(model).__name__)
