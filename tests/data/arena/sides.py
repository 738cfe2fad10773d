"""A worker's memory with both of its sides in one process, and values to send through it."""

import collections
import dataclasses
import mmap
import os
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from lampwork.data.arena.leases import Leases
from lampwork.data.arena.memory import create
from lampwork.data.arena.notices import Notices
from lampwork.data.arena.packing import pack
from lampwork.data.arena.slots import Slots
from tests.data.test_gather import DTYPES, bits

needs_memfd = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the arena needs memfd")


class Arena:
    """One worker's memory and both of its sides, in one process."""

    def __init__(self, budget=1 << 30, size=1 << 30):
        self.fd = create("lampwork-test")
        self.memory = mmap.mmap(self.fd, size, mmap.MAP_SHARED)
        self.board = Notices(self.memory)
        self.slots = Slots(self.fd, self.memory, self.board)
        # The trainer has a mapping of its own, as in life.
        trainers = mmap.mmap(self.fd, size, mmap.MAP_SHARED)
        self.leases = Leases(trainers, Notices(trainers), budget)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def send(self, value, slot=None):
        """The worker's part."""
        packed = pack(value, slot or self.slots.take(), self.slots)
        self.board.taken[packed.slot.index] = 1
        return packed

    def receive(self, packed):
        """The trainer's part."""
        slot = packed.slot
        return self.leases.open(slot.index, (slot.offset, slot.size), tuple(packed[1:]))

    def cross(self, value):
        return self.receive(self.send(value))


Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Record:
    first: Any
    second: Any


class Thing:
    """A user's object; its parts are pickled through its `__dict__`."""

    def __init__(self, part):
        self.part = part


def parts(value):
    """What a container or an object holds."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, Record | Thing):
        return list(vars(value).values())
    return list(value)


def assert_alike(value: Any, expected: Any, path: str = "value") -> None:
    """Structure, types, memory layout and every bit."""
    assert type(value) is type(expected), path
    if isinstance(expected, torch.Tensor):
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape), path
        if not far(expected):
            assert value.stride() == expected.stride(), path
        assert not value.numel() or bits(value).equal(bits(expected)), path
    elif isinstance(expected, np.ndarray):
        # Plain pickle of the same protocol tells how an array is to arrive.
        plain = pickle.loads(pickle.dumps(expected, 5))
        assert (value.dtype, value.shape, value.strides) == (
            plain.dtype,
            plain.shape,
            plain.strides,
        )
        assert value.flags.writeable == plain.flags.writeable, path
        assert value.tolist() == expected.tolist(), path
    elif isinstance(expected, dict | list | tuple | Record | Thing):
        if isinstance(expected, dict):
            assert list(value) == list(expected), path
        for number, (one, other) in enumerate(zip(parts(value), parts(expected), strict=True)):
            assert_alike(one, other, f"{path}[{number}]")
    else:
        assert value == expected, path


def far(tensor: torch.Tensor) -> bool:
    """Whether it shows less than half of its storage: such a view crosses without the rest."""
    shown = tensor.numel() * tensor.dtype.itemsize
    return tensor.untyped_storage().nbytes() > 2 * shown > 0


def filled(shape, dtype, seed=0):
    """A tensor of random bits."""
    generator = torch.Generator().manual_seed(seed)
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    raw = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator)
    if dtype == torch.bool:
        raw &= 1
    return raw.view(dtype).view(shape)


def expanded(tensor):
    """Thrice the same along a new last dimension, without a copy."""
    return tensor[..., None].expand(*tensor.shape, 3)


LAYOUTS = {
    "whole": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.permute(list(reversed(range(tensor.dim())))),
    "expanded": expanded,
    "strided": lambda tensor: tensor[..., ::2] if tensor.dim() else tensor,
    "sliced": lambda tensor: tensor[1:] if tensor.dim() else tensor,
    "far": lambda tensor: tensor.expand(40, *tensor.shape).clone()[3],
}
EVERY_DTYPE = {**DTYPES, "torch.complex32": torch.complex32}


def tensors() -> st.SearchStrategy[torch.Tensor]:
    """Small tensors of every dtype and memory layout."""
    return st.builds(
        lambda shape, dtype, seed, layout: LAYOUTS[layout](filled(shape, EVERY_DTYPE[dtype], seed)),
        st.lists(st.integers(0, 4), max_size=4),
        st.sampled_from(list(EVERY_DTYPE)),
        st.integers(0, 99),
        st.sampled_from(list(LAYOUTS)),
    )


def read_only(array):
    """The array, which may not be written from now on."""
    array.flags.writeable = False
    return array


ARRAYS = {
    "C order": lambda: np.arange(12.0).reshape(3, 4),
    "Fortran order": lambda: np.asfortranarray(np.arange(12).reshape(3, 4)),
    "strided": lambda: np.arange(20, dtype=np.int16)[::3],
    "read-only": lambda: read_only(np.arange(5)),
    "objects": lambda: np.array([None, "text", (1, 2)], dtype=object),
    "empty": lambda: np.empty((3, 0, 2), np.float32),
    "no dimensions": lambda: np.array(2 + 1j),
    "strings": lambda: np.array(["a", "long"]),
    "dates": lambda: np.array(["2024-02-29"], dtype="datetime64[D]"),
    "records": lambda: np.array([(1, 2.0)], dtype=[("n", "i4"), ("x", "f8")]),
    "bool": lambda: np.array([True, False]),
}


def values() -> st.SearchStrategy[Any]:
    """Whatever a batch may be made of, nested."""
    plain = st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.booleans()
    leaves = tensors() | st.sampled_from(list(ARRAYS)).map(lambda name: ARRAYS[name]()) | plain
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
            st.builds(Pair, inner, inner),
            st.builds(Record, inner, inner),
            st.builds(Thing, inner),
        ),
        max_leaves=8,
    )
