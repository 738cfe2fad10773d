"""What besides the tensors of a model tells why it does not learn: its batches, losses, modes.

Watched at recorded steps, and as little as possible between them; everything goes into the notes
of a step or the facts of the run. A mistake in here ends the witness and not the recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lampwork.record.writer import Writer
from lampwork.taps.backward import Listening, on_backward
from lampwork.watching.activations import Key, Seen
from lampwork.watching.flight import Flight
from lampwork.watching.guard import Guard
from lampwork.watching.losses import Losses
from lampwork.watching.origin import Origin
from lampwork.watching.passes import Passes
from lampwork.watching.reading import Rows
from lampwork.watching.slopes import Slopes
from lampwork.watching.strays import Strays
from lampwork.watching.validation import Validation


class Witness:
    """Everything of that kind for one model.

    Args:
        model: the model.
        recorded: whether the step under way is to be recorded.
    """

    def __init__(self, model: nn.Module, recorded: Callable[[], bool]) -> None:
        self._recorded = recorded
        self._was_recorded = True
        self._guard = Guard(self.remove)
        self._passes = Passes(model, self._guard)
        self._losses = Losses(self._passes)
        self._slopes = Slopes(model, self._passes.squashers)
        self._flight, self._strays = Flight(model), Strays(model)
        self._origin = Origin(model, self._guard)
        self._step = 0
        self._validation = Validation(model, self._guard)
        self._told: dict[str, Any] = {}
        self._listening: Listening | None = on_backward(self._guard(self._before_backward))

    @property
    def cost_s(self) -> float:
        """Seconds that it has taken so far."""
        return self._guard.cost_s

    @property
    def seen(self) -> dict[Key, Seen]:
        """What the record tells about the tensors of `take`."""
        return self._passes.seen

    def install(self) -> None:
        """Put the hooks of a recorded step on."""
        if not self._guard.failed:
            self._passes.install()
            self._origin.install()

    def remove(self) -> None:
        """Take all hooks off, for good."""
        self._passes.remove()
        self._origin.remove()
        self._validation.remove()
        if self._listening is not None:
            self._listening.remove()
            self._listening = None

    def follow(self) -> None:
        """The model has other modules than before; it may be about to call them."""
        parts = (self._passes, self._slopes, self._flight, self._origin, self._validation)
        for part in parts:
            self._guard(part.follow)()

    def before_step(self, step: int) -> None:
        """An optimizer is about to step, be it recorded or not."""
        self._guard(self._flight.look)(step)

    def take(self) -> tuple[Rows, Callable[[], dict[str, Any]]]:
        """Rows of the recorded step that ends, and its notes, to be asked for when all is here."""
        self._guard(self._strays.look)()
        parts: list[Callable[[], dict[str, Any]]] = []
        sources = (self._passes, self._losses, self._slopes)
        self._guard(lambda: parts.extend(source.notes() for source in sources))()

        def notes() -> dict[str, Any]:
            found: dict[str, Any] = {}

            def gather() -> None:
                for part in parts:
                    found.update(part())

            self._guard(gather)()
            return found

        return self._passes.rows, notes

    def next_step(self, *, recorded: bool) -> None:
        """A step has ended, and whether the next one is to be recorded."""
        if not recorded:
            self._passes.remove()
        self._origin.remove()
        self._step += 1
        self._passes.next_step()
        self._losses.next_step()
        self._validation.next_step()
        self._slopes.next_step(recorded=self._was_recorded)
        self._was_recorded = recorded

    def tell(self, writer: Writer, *, wait: bool = False) -> None:
        """Write what is known of the run as a whole, as far as it has changed and is here."""
        self._guard(self._tell)(writer, wait)

    def _tell(self, writer: Writer, wait: bool) -> None:
        facts = {
            "first_steps": self._losses.first_steps(wait=wait),
            "spoiled_gradient": self._flight.found,
            "spoiled_output": self._origin.found,
            "strays": self._strays.told(),
            "validation": self._validation.told(),
        }
        for key, value in facts.items():
            if self._told.get(key) != value and any(value):
                self._told[key] = value
                writer.meta(key, value)

    def _before_backward(self, loss: Tensor) -> None:
        self._validation.trained()
        self._origin.hear(loss, self._step)
        recorded = self._recorded()
        self._losses.look(loss, recorded=recorded)
        if recorded:
            self._slopes.look(loss)
