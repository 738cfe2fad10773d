"""Threads that are certain to be in a model together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 30.0


class Meeting:
    """A place where threads wait for one another, until it is over.

    Args:
        count: of the threads.
    """

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=TIMEOUT_S)
        self._turn = threading.Condition()
        self._came = 0
        self._is_over = False

    def wait(self, x: Any = None) -> Any:
        """Wait for all others, and give back what was given."""
        if not self._is_over:
            self._barrier.wait()
        return x

    def enter(self, x: Any) -> Any:
        """Note that one more thread is in the model, and give back what was given."""
        with self._turn:
            self._came += 1
            self._turn.notify_all()
        return x

    def in_turn(self, k: int) -> None:
        """Wait until `k` threads are in the model."""
        with self._turn:
            assert self._turn.wait_for(lambda: self._came >= k, TIMEOUT_S)

    def over(self) -> None:
        """From now on nobody waits."""
        self._is_over = True


def side_by_side(
    work: Callable[[int], None], count: int, *, raises: bool = False
) -> list[BaseException | None]:
    """Run `work(0)`, … each in a thread of its own; what each of them raised."""
    errors: list[BaseException | None] = [None] * count

    def run(k: int) -> None:
        try:
            work(k)
        except BaseException as error:
            errors[k] = error

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if not raises:
        assert errors == [None] * count, errors
    return errors
