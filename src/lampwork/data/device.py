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
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data._utils.pin_memory import pin_memory

Result = tuple[Any, Any, int]
"""A batch, its task and the number of its samples."""
Next = Callable[[bool], Result | None]
"""The next result; told whether to wait for it, and None if it is not there and shall not."""

_TENSORS = (Tensor, PackedSequence)


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor, and whatever else has a method `to`, on the device.

    To CUDA tensors are copied on the current stream, out of page-locked memory, and not waited for.
    """
    if device.type != "cuda":
        return _each(batch, lambda leaf: leaf.to(device))
    moved = _each(batch, lambda leaf: _sent(leaf, device), _TENSORS)
    return _each(moved, lambda leaf: _object_sent(leaf, device))


def _each(batch: Any, change: Callable[[Any], Any], kinds: tuple[type, ...] = (object,)) -> Any:
    """The batch with whatever can move itself changed, where it is of these kinds."""

    def changed(leaf: Any) -> Any:
        return change(leaf) if isinstance(leaf, kinds) and _moves(leaf) else leaf

    # Whatever can move itself is no container: a PackedSequence keeps a part of it on the CPU.
    return tree_map(changed, batch, is_leaf=_moves)


def _moves(leaf: Any) -> bool:
    return callable(getattr(leaf, "to", None))


def _sent(leaf: Any, device: torch.device) -> Any:
    """A tensor on the device, by way of page-locked memory, which torch keeps until it is there."""
    plain = not isinstance(leaf, Tensor) or (leaf.is_cpu and leaf.layout is torch.strided)
    return (leaf.pin_memory() if plain else leaf).to(device, non_blocking=True)


def _object_sent(leaf: Any, device: torch.device) -> Any:
    return leaf if isinstance(leaf, _TENSORS) else leaf.to(device)


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
        self._index = torch.accelerator.current_device_index() if pin_for is not None else None

    def begin(self) -> None:
        """Called once in the thread that sends."""
        if self._index is not None:
            torch.accelerator.set_device_index(self._index)  # not to open the first device as well

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

    def begin(self) -> None:
        """Called once in the thread that sends."""
        torch.cuda.set_device(self._stream.device)

    def send(self, batch: Any) -> Any:
        with torch.cuda.stream(self._stream):
            moved = _each(batch, lambda leaf: _sent(leaf, self._device), _TENSORS)
            return moved, self._stream.record_event()

    def receive(self, sent: Any) -> Any:
        moved, copied = sent
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)
        for leaf in tree_leaves(moved, is_leaf=_moves):
            parts = (leaf,) if isinstance(leaf, Tensor) else ()
            if isinstance(leaf, PackedSequence):
                parts = leaf.data, leaf.sorted_indices, leaf.unsorted_indices
            for tensor in parts:
                # Its memory is the copying stream's, which must not use it before this one is done.
                if tensor is not None and tensor.is_cuda:
                    tensor.record_stream(current)
        # What is inside of other objects nobody can see: they move on the stream that uses them.
        return _each(moved, lambda leaf: _object_sent(leaf, self._device))


class _Ahead(Handover):
    """Has the next batch sent while the last one is in use."""

    def __init__(self, way: _Plain | _ToCuda) -> None:
        self._way = way
        # A thread of an executor ends with it: when the iterator that owns this is gone.
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="lampwork-handover", initializer=way.begin
        )
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
