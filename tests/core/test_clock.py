"""Deadlines, on a clock that the test moves."""

import pytest

from lampwork._core import clock
from lampwork._core.clock import Deadline


def test_a_deadline_counts_down_to_zero(monkeypatch):
    """What is left shrinks with the clock, stops at zero, and then the deadline has passed."""
    now = 100.0
    monkeypatch.setattr(clock, "monotonic_s", lambda: now)
    deadline = Deadline(2.5)
    assert deadline.left_s() == 2.5
    now = 102.0
    assert deadline.left_s() == pytest.approx(0.5)
    assert not deadline.passed()
    now = 103.0
    assert deadline.left_s() == 0.0
    assert deadline.passed()
