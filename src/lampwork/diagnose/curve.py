"""The course of the loss: does it fall, stand still, or run away."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lampwork.diagnose.layers import units, weighted_layers
from lampwork.record.reader import Record

_NOT_TRAINING = {"val", "valid", "validation", "test", "eval", "dev"}


@dataclass(frozen=True)
class Curve:
    """The logged training loss, in the order it came; NaN and infinite values included."""

    name: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def start(self) -> float:
        """Median of the first five values, of fewer where the curve is short."""
        return self._median(self.values[: max(1, min(5, len(self) // 4))])

    @cached_property
    def end(self) -> float:
        """Median of the last fifth; infinite where most of it is not a number."""
        return self._median(self.values[-max(1, len(self) // 5) :])

    def until(self, step: int) -> float:
        """Median of the last five values up to that step, which is before its update."""
        before = self.values[self.steps <= step][-5:]
        return self._median(before if len(before) else self.values[:1])

    def highest_after(self, step: int) -> float:
        """The largest number from that step on; NaN and infinity, which have many causes, aside."""
        values = self.values[self.steps >= step]
        return float(values[np.isfinite(values)].max(initial=-np.inf))

    @property
    def fallen(self) -> float:
        """How far it fell, from 1 (all of it) over 0 to -1 (it rose without measure)."""
        if not math.isfinite(self.end):
            return -1.0
        return (self.start - self.end) / max(abs(self.start), abs(self.end), 1e-300)

    def _median(self, values: NDArray[np.float64]) -> float:
        return float(np.median(np.where(np.isfinite(values), values, np.inf)))


_known: WeakKeyDictionary[Record, Curve | None] = WeakKeyDictionary()


def training_loss(record: Record) -> Curve | None:
    """The curve of the training loss: what was logged as `loss`, else the first that says so."""
    if record not in _known:  # most rules ask for it, and a long run has many values
        _known[record] = _training_loss(record)
    return _known[record]


def _training_loss(record: Record) -> Curve | None:
    for name in sorted(record.scalar_names, key=lambda name: name != "loss"):
        words = set(re.split(r"[^a-z]+", name.lower()))
        if "loss" in words and not words & _NOT_TRAINING:
            return Curve(name, *record.scalar(name))
    return None


def guessing(record: Record) -> list[float]:
    """What the cross-entropy is without knowledge: ln C for each C that may be the classes.

    C is the width of the last weighted layer or of one of the model's outputs; a single output
    is taken for a yes or no, so it counts as two.
    """
    outputs = [layer.output for layer in weighted_layers(record)[-1:]]
    outputs += [record.summary(t) for t in record.of_kind("output") if t.facts.get("root")]
    classes = {max(2, int(units(output).max(initial=0))) for output in outputs}
    return sorted(math.log(count) for count in classes)


def knows(record: Record) -> bool:
    """Whether the loss ends clearly below what guessing gives, so that something was learnt."""
    curve, levels = training_loss(record), guessing(record)
    return curve is not None and bool(levels) and curve.end < 0.8 * levels[0]


def guesses(record: Record, loss: float, tolerance: float = 0.05) -> bool:
    """Whether a loss is what guessing gives."""
    return any(abs(loss / level - 1) <= tolerance for level in guessing(record))
