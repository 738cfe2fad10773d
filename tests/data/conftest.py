from collections import deque

import pytest

from lampwork._core import meters


class Clock:
    """A clock that stands still until it is told to go, in this process only."""

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        monkeypatch.setattr("lampwork._core.clock.monotonic_s", lambda: self.now_s)
        # On a machine that started a moment ago this time is to come: later runs would take the
        # meters of such a test for theirs.
        monkeypatch.setattr("lampwork._core.meters._entered", deque(maxlen=meters.KEPT))

    def go(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    """A fake clock in place of the real one."""
    return Clock(monkeypatch)
