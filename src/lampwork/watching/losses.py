"""The loss functions of a step and their targets, looked at just before each backward pass.

At a recorded step all that the graph tells; at the first few steps of a run also whether the same
targets come again, which shows at neighbouring steps only. A walk over the last nodes of a graph
takes some 30 µs; nothing of the graph is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from lampwork.taps.criterion import Criterion, criteria
from lampwork.watching.excerpt import Arrays, excerpt, fingerprint
from lampwork.watching.labels import describe, labels, mean_loss
from lampwork.watching.passes import Passes

FIRST_STEPS = 64
"""Steps at the start of a run of which the targets are known again, recorded or not."""
_MOST = 16
"""Backward passes of a step that are looked at."""


@dataclass
class _Early:
    """The targets of one of the first steps, until they are here."""

    targets: list[Tensor] = field(default_factory=list)
    classes: list[Tensor] = field(default_factory=list)
    ignored: int | None = None
    arrays: Arrays | None = None

    def sent(self) -> _Early:
        """This, on its way."""
        self.arrays = Arrays([*self.targets, *self.classes])
        return self

    @property
    def here(self) -> bool:
        """Whether it can be read without waiting."""
        return self.arrays is not None and self.arrays.here

    def read(self) -> dict[str, Any]:
        """What the record tells of it."""
        found = [] if self.arrays is None else self.arrays.read()
        count = len(self.targets)
        told = describe(found[count:], self.ignored) or {}
        return {"fingerprint": fingerprint(found[:count])} | told


class Losses:
    """What the backward passes of one step started from.

    Args:
        passes: the forward passes of the model at this step, to know its outputs by.
    """

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._told: list[tuple[dict[str, Any], int | None, list[Tensor | None]]] = []
        self._seen = 0
        self._now = _Early()
        self._first: list[_Early | dict[str, Any] | None] = []

    def look(self, loss: Tensor, *, recorded: bool) -> None:
        """Note what a loss was computed with; of a step that is not recorded, only the targets."""
        early = len(self._first) < FIRST_STEPS
        if self._seen >= _MOST or not (recorded or early):
            return
        self._seen += 1
        for criterion in criteria(loss):
            classes = labels(criterion)
            if early:
                target = None if criterion.target is None else excerpt(criterion.target)
                self._now.targets += [] if target is None else [target]
                self._now.classes += [] if classes is None else [classes]
                self._now.ignored = criterion.ignored
            if recorded:
                kept = [classes, mean_loss(criterion)]
                self._told.append((self._describe(criterion), criterion.ignored, kept))

    def _describe(self, criterion: Criterion) -> dict[str, Any]:
        told = {
            "name": criterion.name,
            "shape": criterion.shape,
            "direct": self._passes.gave(criterion.trail, criterion.target),
        }
        if criterion.classes is not None:
            told["classes"] = criterion.classes
        if criterion.squashed is not None:
            told["squashed"] = criterion.squashed
            told["at"] = self._passes.squashers.get(criterion.squasher or -1)
        if criterion.broadcast is not None:
            told["broadcast"] = criterion.broadcast
        return told

    def next_step(self) -> None:
        """A step has ended."""
        if len(self._first) < FIRST_STEPS:
            self._first.append(self._now.sent() if self._now.targets else None)
            self._now = _Early()
        self._told.clear()
        self._seen = 0

    def notes(self) -> Callable[[], dict[str, Any]]:
        """`criterion`, the loss function that says most, and `targets`; of a recorded step.

        Once asked.
        """
        if not self._told:
            return dict
        told = list(self._told)
        arrays = Arrays([t for _, _, kept in told for t in kept if t is not None])
        return lambda: self._read(told, arrays)

    def _read(
        self, all_told: list[tuple[dict[str, Any], int | None, list[Tensor | None]]], sent: Arrays
    ) -> dict[str, Any]:
        arrays = iter(sent.read())
        read = [
            (told, ignored, [None if t is None else next(arrays) for t in kept])
            for told, ignored, kept in all_told
        ]
        for told, _, (_, value) in read:
            if value is not None:
                told["value"] = round(float(value), 5) if np.isfinite(value) else None
        # Of a step in which a model's output went into one loss and past it into another, that one.
        own = [item for item in read if item[0]["direct"]] or read
        fullest = max(own, key=lambda item: ("classes" in item[0], item[2][0] is not None))
        found: dict[str, Any] = {"criterion": dict(fullest[0])}
        for key in ("squashed", "at", "broadcast"):
            for told, _, _ in own:
                if told.get(key) is not None:
                    found["criterion"].setdefault(key, told[key])
        classes = [kept[0] for _, _, kept in own if kept[0] is not None]
        targets = describe(classes, fullest[1])
        return found if targets is None else found | {"targets": targets}

    def first_steps(self, *, wait: bool) -> list[dict[str, Any] | None]:
        """Of each of the first steps the targets, as `notes` has them, with a `fingerprint`.

        Unless told to wait, those that have not arrived from a device are None.
        """
        for i, kept in enumerate(self._first):
            if isinstance(kept, _Early) and (wait or kept.here):
                self._first[i] = kept.read()
        return [kept if isinstance(kept, dict) else None for kept in self._first]
