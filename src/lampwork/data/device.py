"""Handing batches over to pinned memory or a device, one ahead of the training loop.

A thread copies the next batch while the loop works on the last one: into page-locked memory of
torch's own pool, which knows when a copy out of it has ended, and with `device=` on from there on a
stream of its own. So no memory is used again while it is still read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data._utils.pin_memory import pin_memory

Result = tuple[Any, Any, int]
"""A batch, its task and the number of its samples."""
Next = Callable[[bool], Result | None]
"""The next result; told whether to wait for it, and None if it is not there and shall not."""


def to_device(batch: Any, device: torch.device, *, non_blocking: bool = False) -> Any:
    """The batch with every tensor, and whatever else has a method `to`, on the device."""

    def moved(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.to(device, non_blocking=non_blocking)
        return leaf.to(device) if callable(getattr(leaf, "to", None)) else leaf

    # Whatever can move itself is no container: a PackedSequence keeps a part of it on the CPU.
    return tree_map(moved, batch, is_leaf=lambda leaf: callable(getattr(leaf, "to", None)))


class Handover:
    """Passes batches on as they are."""

    @staticmethod
    def to(device: torch.device | None, pin_for: str | None) -> Handover:
        """The way to a device, or with None to memory pinned for one, or to nowhere else."""
        if device is None and pin_for is None:
            return Handover()
        if device is not None and device.type == "cpu":
            return Handover()
        if device is not None and device.type == "cuda":
            return _Ahead(_ToCuda(device))
        return _Ahead(_Plain(device, pin_for))

    def clear(self) -> None:
        """Forget what was passed on ahead."""

    def next(self, take: Next) -> Result:
        """The next result."""
        result = take(True)
        assert result is not None
        return result


class _Plain:
    """Pins, or moves where the device has no streams that we know how to use."""

    def __init__(self, device: torch.device | None, pin_for: str | None) -> None:
        self._device = device
        self._pin_for = pin_for

    def send(self, batch: Any) -> Any:
        if self._device is None:
            return pin_memory(batch, self._pin_for)
        return to_device(batch, self._device)

    def receive(self, sent: Any) -> Any:
        return sent


class _ToCuda:
    """Copies on a stream of its own, which the training loop's stream waits for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def send(self, batch: Any) -> Any:
        pinned = pin_memory(batch, "cuda")
        with torch.cuda.stream(self._stream):
            moved = to_device(pinned, self._device, non_blocking=True)
            return moved, self._stream.record_event()

    def receive(self, sent: Any) -> Any:
        moved, copied = sent
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)

        def used_here(leaf: Any) -> Any:
            # Its memory is the copying stream's, which must not use it before this one is done.
            if isinstance(leaf, Tensor) and leaf.is_cuda:
                leaf.record_stream(current)
            return leaf

        return tree_map(used_here, moved)


class _Ahead(Handover):
    """Has the next batch sent while the last one is in use."""

    def __init__(self, way: _Plain | _ToCuda) -> None:
        self._way = way
        # A thread of an executor ends with it: when the iterator that owns this is gone.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lampwork-handover")
        self._sent: deque[tuple[Future[Any], Any, int] | BaseException] = deque()

    def clear(self) -> None:
        self._sent.clear()

    def next(self, take: Next) -> Result:
        if not self._sent:
            self._send(take, wait=True)
        first = self._sent.popleft()
        if not self._sent and not isinstance(first, BaseException):
            self._send(take, wait=False)
        if isinstance(first, BaseException):
            raise first
        future, task, samples = first
        return self._way.receive(future.result()), task, samples

    def _send(self, take: Next, *, wait: bool) -> None:
        try:
            result = take(wait)
        except BaseException as error:  # to be raised when it is its turn
            self._sent.append(error)
            return
        if result is not None:
            batch, task, samples = result
            self._sent.append((self._thread.submit(self._way.send, batch), task, samples))
