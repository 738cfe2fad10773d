"""Recorded steps whose numbers are still on their way from a device.

What was measured on the CPU is written in the same step. From a device it arrives a step or two
later, and is written then, in order: the training thread looks after each step, and waits only
where somebody asks for the record or the run ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.summary import divided
from lampwork.record.writer import Writer
from lampwork.taps.statistic import Arrival, Collected, Flags
from lampwork.watching.activations import Key
from lampwork.watching.ledger import Ledger
from lampwork.watching.reading import Rows


@dataclass(frozen=True, slots=True)
class _Step:
    writer: Writer
    number: int
    elapsed_s: float
    keys: list[Key]
    channels: list[Key]
    collected: Collected
    notes: dict[str, Any]
    later: Callable[[], dict[str, Any]]


class Deliveries:
    """Passes steps on to the writer, in order, once all that belongs to them is here.

    Args:
        ledger: knows the ids of the rows, which were announced.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: deque[_Step] = deque()

    def send(
        self,
        writer: Writer,
        number: int,
        elapsed_s: float,
        rows: Rows,
        alive: list[tuple[Key, Flags]],
        notes: dict[str, Any],
        later: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Let one step's rows and flags travel.

        Args:
            writer: who takes them then.
            number: of the step.
            elapsed_s: seconds since the run began.
            rows: what was measured, by key.
            alive: which channels of outputs were not silent, by key.
            notes: what else is known of the step; a callable among the values is called when all
                has arrived.
            later: more notes, asked for then.
        """
        collected = Collected([row for _, row in rows], [flags for _, flags in alive])
        keys, channels = [key for key, _ in rows], [key for key, _ in alive]
        self._waiting.append(
            _Step(writer, number, elapsed_s, keys, channels, collected, notes, later)
        )
        self.arrive()

    def arrive(self, *, wait: bool = False) -> None:
        """Write the steps that are here, or all of them."""
        while self._waiting and (wait or self._waiting[0].collected.here):
            step = self._waiting.popleft()
            flags = step.collected.flags()
            self._ledger.count_silent(zip(step.channels, flags, strict=True))
            notes: dict[str, Any] = {
                k: value() if callable(value) else value for k, value in step.notes.items()
            }
            measured = step.collected.rows()
            if "grad_scale" in notes:
                _unscale(step.keys, measured, *notes["grad_scale"])
            rows = self._ledger.table(step.keys, measured)
            step.writer.step(step.number, step.elapsed_s, rows, notes | step.later())


def _unscale(keys: list[Key], rows: NDArray[np.float64], scale: float) -> None:
    """Divide gradients of outputs by the scale of the loss; parameters were read unscaled."""
    scaled = [place for place, key in enumerate(keys) if key.kind == "grad_output"]
    if scaled and 0 < scale < math.inf:
        rows[scaled] = divided(rows[scaled], scale)


def numbers(values: list[Any]) -> Any:
    """Numbers for a step's notes; those on a device are read when they are here."""
    waiting = [Arrival(value.detach()) if hasattr(value, "is_cuda") else value for value in values]

    def read() -> list[float]:
        return [float(v.array()) if isinstance(v, Arrival) else float(v) for v in waiting]

    return read if any(isinstance(value, Arrival) for value in waiting) else read()
