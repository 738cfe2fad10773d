import pytest


class Clock:
    """A clock that stands still until it is told to go, in this process only."""

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        monkeypatch.setattr("lampwork._core.clock.monotonic_s", lambda: self.now_s)

    def go(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    """A fake clock in place of the real one."""
    return Clock(monkeypatch)
