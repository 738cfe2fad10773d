"""Which steps are recorded."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from lampwork._core.errors import InputError

_RECENT = 15
"""Steps of either kind by which the next ones are judged: what else happens in one is no rule."""
_TO_KNOW, _MOST_IN_A_ROW = 3, 64
"""So many steps are left alone at the beginning, and one after so many, to know how long one is."""
_LEAST_ROOM = 0.1
"""Of a budget that goes to recording, also where what runs between recorded steps eats it up."""


class Schedule:
    """Every so many steps; with a budget, seldom enough to stay within it.

    A recorded step is charged with what our own callbacks took, or with how much longer it was than
    the steps around it, whichever is more: caches that it emptied and threads that it held up show
    in no callback. What runs at the other steps is charged as well. Each recording is paid for
    before the next one.

    Args:
        every: record steps 0, every, 2·every, …
        budget: the share of the training time that watching may take, e.g. 0.02. Steps in
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
        self._bare_s: deque[float] = deque(maxlen=_RECENT)  # of steps that are not recorded
        self._between_s: deque[float] = deque(maxlen=_RECENT)  # what we took of them
        self._longer_s: deque[float] = deque(maxlen=_RECENT)  # recorded ones than those
        self._owed_s = 0.0  # spent on recording beyond what was granted until now
        self._in_a_row = 0
        self.dense = every == 1
        """Whether one recorded step follows the other, as far as is known."""

    def due(self, step: int) -> bool:
        """Whether this step is to be recorded."""
        return step == self._next

    def passed(self, step: int, duration_s: float, own_s: float) -> None:
        """A step has ended: all are told, in their order.

        Args:
            step: its number.
            duration_s: how long it took, all in all.
            own_s: how much of that was spent in our callbacks.
        """
        if self.due(step):
            self._next = step + self._distance(duration_s, own_s)
            self.dense = self._next - step == 1
        elif self._budget is not None:
            self._bare_s.append(duration_s - own_s)
            self._between_s.append(own_s)
            self._owed_s -= self._granted_s(duration_s - own_s, own_s)
            self._in_a_row = 0

    def _distance(self, duration_s: float, own_s: float) -> int:
        """How many steps after this recorded one the next is due."""
        if self._budget is None:
            return self.every
        bare_s, between_s = duration_s - own_s, 0.0
        cost_s = own_s
        if self._bare_s:
            bare_s, between_s = median(self._bare_s), median(self._between_s)
            self._longer_s.append(duration_s - bare_s)
            cost_s = max(own_s, median(self._longer_s))
        granted_s = self._granted_s(bare_s, between_s)
        if granted_s <= 0:  # the clock saw no time pass
            return self.every
        # What was saved once is not spent at one go.
        self._owed_s = max(self._owed_s, 0.0) + cost_s
        steps = self._owed_s / granted_s - 1e-6  # of rounding
        self._owed_s -= granted_s
        self._in_a_row += 1
        if len(self._bare_s) < _TO_KNOW:
            steps = max(steps, _TO_KNOW + 1)
        elif self._in_a_row >= _MOST_IN_A_ROW:
            steps = max(steps, 2)
        return self.every * max(1, math.ceil(steps / self.every))

    def _granted_s(self, bare_s: float, between_s: float) -> float:
        """What recording may take for a step of training, beside what we take of it anyway."""
        assert self._budget is not None
        return max(self._budget * bare_s - between_s, _LEAST_ROOM * self._budget * bare_s)
