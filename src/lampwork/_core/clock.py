"""Monotonic time and deadlines: every wait has one."""

from __future__ import annotations

import time

monotonic_s = time.perf_counter
"""Seconds on a clock that never goes back; only differences mean something."""


class Deadline:
    """A moment `seconds` from now, for waits that are made of several shorter ones."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic_s() + seconds

    def left_s(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self._end - monotonic_s())

    def passed(self) -> bool:
        """Whether the moment is over."""
        return self.left_s() == 0.0
