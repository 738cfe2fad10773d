"""The dataset on its way to workers that do not inherit it: pickled once, for all of them.

The pickle lies in one memfd that every worker maps. File descriptors that belong to what is pickled
(of shared tensors, of multiprocessing's values and queues) are passed to each worker beside it,
which `multiprocessing` would do anew, with a new pickle, for each.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import time
from multiprocessing import context, reduction  # type: ignore[attr-defined]
from typing import Any

from lampwork._core.clock import Deadline

MOST_FDS = 128
"""File descriptors that are passed with a shipment; a fork server takes 256 in all."""


LARGE = 1 << 20
"""Bytes of a pickle from which workers take turns at it."""
PATIENCE_S = 3.0


class TooManyDescriptors(Exception):
    """More file descriptors than can be passed: each worker needs a pickle of its own."""


class Shipment:
    """A value for all workers of a crew, told once.

    Attributes:
        fd: the memory that it lies in; the crew closes it.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("lampwork-dataset")
        self._fds: list[int] = []

    def pack(self, value: Any) -> None:
        """Pickle a value as for a new process, before the workers start.

        Raises:
            TooManyDescriptors: it holds more than can be passed on.
            Exception: whatever pickling raises.
        """
        carrier = _Carrier()
        context.set_spawning_popen(carrier)
        try:
            with open(self.fd, "wb", closefd=False) as file:
                reduction.ForkingPickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
        finally:
            context.set_spawning_popen(None)
        if len(carrier.fds) > MOST_FDS:
            raise TooManyDescriptors
        self._fds = carrier.fds

    def put(self, pickled: bytes) -> None:
        """Let workers that run already have this pickle."""
        os.ftruncate(self.fd, len(pickled))
        os.pwrite(self.fd, pickled, 0)

    @property
    def filled(self) -> bool:
        """Whether there is something to unpack."""
        return os.fstat(self.fd).st_size > 0

    def unpack(self, worker: int) -> Any:
        """In a worker: a copy of its own of the value."""
        _carried[:] = self._fds
        size = os.fstat(self.fd).st_size
        with mmap.mmap(self.fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ) as pickled:
            if size < LARGE:
                return pickle.loads(pickled)
            turnstile = worker % len(os.sched_getaffinity(0))
            _wait_for_turn(self.fd, turnstile)
            try:
                return pickle.loads(pickled)
            finally:
                fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, turnstile)

    def __getstate__(self) -> dict[str, Any]:
        # While a worker is being started, what is pickled for it takes its descriptors along.
        return {"fd": reduction.DupFd(self.fd), "fds": [reduction.DupFd(fd) for fd in self._fds]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.fd = state["fd"].detach()
        self._fds = [fd.detach() for fd in state["fds"]]


def _wait_for_turn(fd: int, turnstile: int) -> None:
    """One worker a core unpacks at a time: the first batch waits for worker 0 alone.

    Only for so long: what is unpacked may itself wait for the other workers.
    """
    deadline = Deadline(PATIENCE_S)
    while not deadline.passed():
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, turnstile)
            return
        except OSError:  # another worker has it; or the system knows no such locks
            time.sleep(0.002)


_carried: list[int] = []
"""In a worker: the descriptors that came with the shipment, in order."""


class _Carrier:
    """Stands for the process that is being started, and only notes what it is to be handed."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.fds.append(fd)
        return len(self.fds) - 1

    @staticmethod
    def DupFd(place: int) -> _Carried:  # noqa: N802  multiprocessing's name
        return _Carried(place)


class _Carried:
    """A file descriptor in a shipment."""

    def __init__(self, place: int) -> None:
        self._place = place

    def detach(self) -> int:
        """A copy of it, in the worker; whoever asks closes it."""
        return os.dup(_carried[self._place])
