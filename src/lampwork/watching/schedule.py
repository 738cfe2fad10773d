"""Which steps are recorded."""

from __future__ import annotations

import math

from lampwork._core.errors import InputError


class Schedule:
    """Every so many steps; with a budget, seldom enough to stay within it.

    Args:
        every: record steps 0, every, 2·every, …
        budget: the share of the training time that recording may take, e.g. 0.02. Steps in
            between then grow, in multiples of `every`, until the measured cost fits.

    Raises:
        InputError: a value out of range.
    """

    def __init__(self, every: int, budget: float | None) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise InputError(f"every={every!r} must be a whole number of steps, 1 or more")
        if budget is not None and not 0 < budget < 1:
            raise InputError(f"budget={budget!r} is a share of the step time: 0.02 means 2 %")
        self.every, self._budget = every, budget
        self._next = 0
        self.dense = every == 1
        """Whether one recorded step follows the other, as far as is known."""

    def due(self, step: int) -> bool:
        """Whether this step is to be recorded."""
        return step == self._next

    def recorded(self, step: int, cost_s: float, bare_step_s: float) -> None:
        """Note what recording `step` cost beside a step that is not recorded, in seconds."""
        distance = self.every
        if self._budget is not None and bare_step_s > 0:
            distance *= math.ceil(max(1.0, cost_s / (self._budget * bare_step_s * self.every)))
        self._next = step + distance
        self.dense = distance == 1
