"""Between a user's training and our own code: what fails in here never fails out there."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from lampwork._core.clock import monotonic_s

log = logging.getLogger("lampwork")


class Guard:
    """Wraps callbacks: times them, and turns the first exception into the end of watching.

    Args:
        give_up: called once, after the first exception, to take all hooks off.

    Attributes:
        cost_s: seconds spent in the callbacks so far.
        failed: whether watching was given up.
    """

    def __init__(self, give_up: Callable[[], None]) -> None:
        self._give_up = give_up
        self.cost_s = 0.0
        self.failed = False
        self._owner = os.getpid()

    def __call__(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, guarded."""

        def guarded(*args: Any) -> None:
            # A forked child has our hooks, but neither our file nor the thread that writes it.
            if self.failed or os.getpid() != self._owner:
                return
            began = monotonic_s()
            try:
                callback(*args)
            except Exception:
                self.failed = True
                log.exception("watching ends: an error in lampwork; training goes on")
                self._give_up()
            finally:
                self.cost_s += monotonic_s() - began

        return guarded
