"""Messages to and from workers: whole, in order and exactly what was sent."""

import fcntl
import os
import random
import struct
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.data.workers import channel
from lampwork.data.workers.channel import Answer, Kind, Receiver, Sender, task_of
from lampwork.data.workers.contract import Task

SMALLEST_PIPE = 4096
F_SETPIPE_SZ = 1031


@contextmanager
def connection():
    """A sender and a receiver with the smallest pipe between them that the kernel gives."""
    read, write = channel.pipe_from_trainer()
    fcntl.fcntl(write, F_SETPIPE_SZ, SMALLEST_PIPE)
    try:
        yield Sender(write), Receiver(read)
    finally:
        channel.close(write)
        os.close(read)


def received(sender, receiver):
    """All frames on the way, read and sent on in turn until nothing is left."""
    frames = []
    while True:
        receiver.read()
        while (frame := receiver.next()) is not None:
            frames.append(frame)
        if not sender.behind:
            return frames
        sender.flush()


def through(task, number=7):
    """Number and task as they arrive, and the kind of the frame."""
    with connection() as (sender, receiver):
        sender.task(number, task)
        ((kind, body),) = received(sender, receiver)
    return (*task_of(kind, body), kind)


def exact(value):
    """A value with the types of all it holds: 1, True and np.int64(1) are equal, but not this."""
    if isinstance(value, list | tuple):
        return type(value), [exact(part) for part in value]
    if isinstance(value, np.ndarray | torch.Tensor):
        return type(value), value.dtype, value.tolist()
    return type(value), value


lengths = st.sampled_from([0, 1, 8, 9, 4086, 4087, 4088, 65_527, 65_536, 300_000]) | st.integers(
    0, 20_000
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(Kind), lengths, st.booleans()), min_size=1, max_size=8),
    st.integers(0, 99),
)
def test_frames_of_any_length_arrive_whole_and_in_order_through_a_full_pipe(frames, seed):
    """However full the pipe is and whenever the other side reads, no byte is lost or moved."""
    chance = random.Random(seed)
    sent = [(kind, chance.randbytes(length)) for kind, length, _ in frames]
    arrived = []
    with connection() as (sender, receiver):
        for (kind, body), (_, _, reads) in zip(sent, frames, strict=True):
            sender.send(kind, body)
            if reads:  # the worker now and then looks in between
                receiver.read()
                if (frame := receiver.next()) is not None:
                    arrived.append(frame)
        arrived += received(sender, receiver)
        assert receiver.next() is None
    assert arrived == sent


def test_sending_to_a_worker_that_does_not_read_never_blocks():
    """A busy worker does not hold up the trainer: what the pipe does not take is kept."""
    with connection() as (sender, receiver):
        body = bytes(10 * SMALLEST_PIPE)
        sender.send(Kind.TASK, body)
        assert sender.behind
        assert received(sender, receiver) == [(Kind.TASK, body)]
        assert not sender.behind


def test_sending_to_a_dead_worker_raises_nothing_and_keeps_nothing():
    """That the worker is gone is told by its sentinel, with a better text."""
    read, write = channel.pipe_from_trainer()
    sender = Sender(write)
    os.close(read)
    try:
        sender.send(Kind.TASK, bytes(100))
        assert not sender.behind
    finally:
        channel.close(write)


def test_the_receiver_notices_that_the_trainers_end_is_closed_once_all_is_read():
    """Frames that were sent before the end still arrive."""
    read, write = channel.pipe_from_trainer()
    receiver = Receiver(read)
    try:
        Sender(write).send(Kind.END, b"last")
        receiver.read()
        assert not receiver.closed
        channel.close(write)
        receiver.read()
        assert receiver.closed
        assert receiver.next() == (Kind.END, b"last")
    finally:
        os.close(read)


INT64 = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(st.lists(INT64, min_size=1), INT64, st.integers(0, 2**62), st.integers(0, 2**40))
def test_a_list_of_ints_arrives_as_ints(index, position, number, stride):
    """The short way for the usual index gives back Python's own ints, sign and size kept."""
    got_number, task, kind = through(Task(index, position, stride), number)
    assert kind == Kind.INDICES
    assert (got_number, task) == (number, Task(index, position, stride))
    assert exact(task.index) == exact(index)


numpy_ints = st.builds(np.int64, INT64) | st.builds(np.int32, st.integers(0, 2**31 - 1))
odd = (
    st.booleans()
    | st.integers(2**63, 2**80)
    | st.integers(-(2**80), -(2**63) - 1)
    | st.text(max_size=5)
    | st.floats(allow_nan=False)
    | st.none()
    | numpy_ints
    | st.tuples(INT64, st.text(max_size=3))
)


@settings(deadline=None)
@given(
    st.lists(INT64 | odd)
    | st.lists(st.booleans(), min_size=1)
    | st.lists(numpy_ints, min_size=1)
    | st.tuples(INT64, INT64)
    | st.lists(st.lists(INT64))
    | odd
    | INT64
)
def test_any_other_index_arrives_exactly_as_it_was(index):
    """Ints of numpy, bools, big ints, strings, tuples and mixtures keep their types and values."""
    number, task, _ = through(Task(index, 3, 2))
    assert (number, task.position, task.stride) == (7, 3, 2)
    assert exact(task.index) == exact(index)


@pytest.mark.parametrize(
    "index",
    [[], range(3), slice(0, 4, 2), np.arange(3), torch.arange(3), [torch.tensor(1)], {"a": 1}],
    ids=repr,
)
def test_an_index_of_a_batch_sampler_arrives_exactly_as_it_was(index):
    """A sampler may give ranges, slices, arrays or tensors: none of them is made a list."""
    _, task, kind = through(Task(index))
    assert kind == Kind.TASK
    assert exact(task.index) == exact(index)


def test_a_subclass_of_list_stays_one():
    """What a sampler marks by a class of its own reaches the dataset with that mark."""
    _, task, _ = through(Task(Marked([1, 2])))
    assert type(task.index) is Marked
    assert task.index == [1, 2]


class Marked(list):
    pass


def test_answers_arrive_whole_and_in_order():
    """Many at a time, each with all of its numbers, as far as 64 bits reach."""
    read, write = channel.pipe_to_trainer()
    sent = [Answer(*(task * 13 + place for place in range(13))) for task in range(600)]
    sent.append(Answer(*[2**63 - 1, -(2**63), *[0] * 11]))
    arrived = []
    try:
        assert list(channel.answers(read)) == []
        for told in sent[:600]:
            channel.answer(write, told)
        channel.answer(write, sent[600])
        while got := list(channel.answers(read)):
            arrived += got
    finally:
        channel.close(read)
        os.close(write)
    assert arrived == sent


def test_an_answer_is_written_at_once():
    """It is shorter than what the kernel writes undivided: a killed worker leaves no half of it."""
    assert struct.calcsize("<13q") == channel._ANSWER.size <= 512  # POSIX's least PIPE_BUF
    assert len(Answer._fields) == 13
