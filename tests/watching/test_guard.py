"""What fails in our own code never fails in the user's."""

import logging
import os

import pytest

from lampwork.watching import guard as guard_module
from lampwork.watching.guard import Guard


def fail(*args):
    """A callback with a defect."""
    raise ZeroDivisionError("inside")


def test_an_error_ends_watching_and_is_told_once(caplog):
    """The first exception is logged with its traceback, the hooks go, later calls do nothing."""
    given_up, calls = [], []
    guard = Guard(lambda: given_up.append(True))
    guarded, other = guard(fail), guard(lambda: calls.append(True))
    other()
    guarded(1, 2)
    guarded(1, 2)
    other()
    assert (given_up, calls) == ([True], [True])
    (record,) = caplog.records
    assert record.getMessage() == "watching ends: an error in lampwork; training goes on"
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is ZeroDivisionError


def test_an_interrupt_passes():
    """Ctrl-C during a callback interrupts the training as it would without us."""

    def interrupt():
        raise KeyboardInterrupt

    guard = Guard(lambda: None)
    with pytest.raises(KeyboardInterrupt):
        guard(interrupt)()
    assert not guard.failed


def test_the_time_of_the_callbacks_is_added_up(monkeypatch):
    """The cost is the clock's time spent inside, also where the callback failed."""
    now = 0.0
    monkeypatch.setattr(guard_module, "monotonic_s", lambda: now)

    def work(seconds):
        nonlocal now
        now += seconds

    def work_and_fail(seconds):
        work(seconds)
        fail()

    guard = Guard(lambda: None)
    guard(work)(2.0)
    work(10.0)
    guard(work)(0.5)
    guard(work_and_fail)(0.25)
    assert guard.cost_s == 2.75


def test_a_forked_child_does_nothing(monkeypatch):
    """In another process than the one that made the guard, callbacks are not called."""
    calls = []
    guarded = Guard(lambda: None)(lambda: calls.append(True))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    guarded()
    assert calls == []
