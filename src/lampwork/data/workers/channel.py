"""Messages between the trainer and its workers, over pipes that neither side ever waits to fill.

To a worker go frames: a kind, a length and so many bytes. Whatever a full pipe does not take is
kept and sent on later, so that the trainer is never held up by a busy worker, however long its
index lists. From all workers come answers of one fixed length over one pipe; being shorter than
`PIPE_BUF`, they are written whole or not at all, so a worker that is killed leaves no half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import struct
from array import array
from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from lampwork.data.workers.contract import Task

_F_SETPIPE_SZ = 1031
_ROOM = 1 << 18
"""Bytes that a pipe to a worker takes: thousands of indices, so that most frames go at once."""

_HEAD = struct.Struct("<Bq")
_TASK = struct.Struct("<3q")


class Kind(IntEnum):
    """What a frame to a worker says."""

    BEGIN = 0  # an epoch, with its settings
    INDICES = 1  # a task whose index is a list of Python ints: all of it as 64-bit numbers
    TASK = 2  # any other task, pickled
    REST = 3  # an epoch is over: wait for the next, but not for ever
    END = 4  # nothing more comes
    SOON = 5  # an epoch begins soon, if nothing has changed: its seed


_open: set[int] = set()
"""The trainer's ends of all pipes: a forked worker closes them, so that no worker keeps another
one's pipe open once the trainer is gone."""


def close_trainers_ends() -> None:
    """In a new worker: close what fork has copied of the trainer's ends."""
    for fd in _open:
        os.close(fd)
    _open.clear()


def pipe_from_trainer() -> tuple[int, int]:
    """(read, write): the worker's end and the trainer's, which never blocks."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    with contextlib.suppress(OSError):  # over the user's quota of pipe memory: then it stays small
        fcntl.fcntl(write, _F_SETPIPE_SZ, _ROOM)
    _open.add(write)
    return read, write


def pipe_to_trainer() -> tuple[int, int]:
    """(read, write): the trainer's end, which never blocks, and the workers'."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    _open.add(read)
    return read, write


def close(fd: int) -> None:
    """Close one of the trainer's ends."""
    if fd in _open:
        _open.remove(fd)
        os.close(fd)


class Sender:
    """The trainer's end of the pipe to one worker."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._kept: deque[memoryview] = deque()
        self.corked = False
        """Whether frames are kept until `flush`, so that a sleeping worker is woken once."""

    @property
    def behind(self) -> bool:
        """Whether something is left that the pipe did not take."""
        return bool(self._kept)

    def send(self, kind: Kind, body: bytes) -> None:
        """Send a frame, now or as soon as the pipe takes it."""
        self._kept.append(memoryview(_HEAD.pack(kind, len(body)) + body))
        if not self.corked:
            self.flush()

    def task(self, number: int, task: Task) -> None:
        """Send a task with the number by which it is answered."""
        numbers = _as_numbers(task.index)
        if numbers is None:
            body = pickle.dumps((number, task), pickle.HIGHEST_PROTOCOL)
            self.send(Kind.TASK, body)
        else:
            self.send(Kind.INDICES, _TASK.pack(number, task.position, task.stride) + numbers)

    def flush(self) -> None:
        """Send what was left, as far as the pipe takes it."""
        if len(self._kept) > 1:
            self._kept = deque([memoryview(b"".join(self._kept))])
        while self._kept:
            first = self._kept[0]
            try:
                sent = os.write(self.fd, first)
            except BlockingIOError:
                return
            except BrokenPipeError:  # the worker is gone, which the caller will see for itself
                self._kept.clear()
                return
            if sent == len(first):
                self._kept.popleft()
            else:
                self._kept[0] = first[sent:]


def _as_numbers(index: Any) -> bytes | None:
    """A plain list of Python's ints as bytes, None for anything else: it must arrive as it is."""
    if type(index) is not list or set(map(type, index)) != {int}:
        return None
    try:
        return array("q", index).tobytes()
    except OverflowError:
        return None


class Receiver:
    """The worker's end of that pipe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._bytes = bytearray()
        self.closed = False

    def read(self) -> None:
        """Take in what has arrived."""
        try:
            while arrived := os.read(self.fd, 1 << 16):
                self._bytes += arrived
                if len(arrived) < 1 << 16:
                    return
            self.closed = True
        except BlockingIOError:
            pass

    def next(self) -> tuple[Kind, bytes] | None:
        """The next frame that is there as a whole."""
        if len(self._bytes) < _HEAD.size:
            return None
        kind, length = _HEAD.unpack_from(self._bytes)
        end = _HEAD.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(memoryview(self._bytes)[_HEAD.size : end])
        del self._bytes[:end]
        return Kind(kind), body


def task_of(kind: Kind, body: bytes) -> tuple[int, Task]:
    """Number and task, as given to `Sender.task`."""
    if kind == Kind.TASK:
        return pickle.loads(body)
    number, position, stride = _TASK.unpack_from(body)
    return number, Task(array("q", body[_TASK.size :]).tolist(), position, stride)


class Answer(NamedTuple):
    """What a worker tells about a task; the batch itself lies in a slot.

    Attributes:
        worker: who answers.
        task: what is answered.
        content: what the slot holds, see `Content`.
        slot, offset, size: which slot, and its stretch of the worker's memory in bytes.
        at, pieces, pickled: where the batch is in the slot, see `packing`.
        samples: how many were loaded.
        busy_ns: how long it took.
        slowest_ns, slowest: the longest time for one sample, and its place in the batch.
    """

    worker: int
    task: int
    content: int
    slot: int
    offset: int
    size: int
    at: int
    pieces: int
    pickled: int
    samples: int
    busy_ns: int
    slowest_ns: int
    slowest: int


class Content(IntEnum):
    """What lies in the slot of an answer."""

    BATCH = 0
    WITH_NEWS = 1  # (batch, skipped samples, state of the dataset)
    ERROR = 2  # a wrapped exception, instead of a batch
    NO_BATCH = 3  # like WITH_NEWS, but no sample was left for a batch
    STREAM_END = 4  # nothing: an IterableDataset is exhausted


_ANSWER = struct.Struct("<13q")


def answer(fd: int, told: Answer) -> None:
    """Write an answer, in the worker."""
    os.write(fd, _ANSWER.pack(*told))


def answers(fd: int) -> Iterator[Answer]:
    """The answers that have arrived, in the trainer."""
    try:
        arrived = os.read(fd, _ANSWER.size * 512)
    except BlockingIOError:
        return
    yield from map(Answer._make, _ANSWER.iter_unpack(arrived))
