"""A batch as bytes in a slot, and back without copying.

pickle (protocol 5) writes down what the batch is; the memory of tensors and arrays is left out of
it and lies in the slot, each piece at a multiple of 64 bytes. Behind them stand a table of where
they are, then the pickle. What has no plain memory (a sparse, quantised or CUDA tensor) crosses as
torch sends it between processes.
"""

from __future__ import annotations

import ctypes
import io
import pickle
from array import array
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lampwork.data.arena.slots import Slot, Slots, aligned

_ENTRY = 16
"""Bytes of the table per piece: where it begins and how long it is, in bytes."""
_WASTE = 2
"""A view crosses with the memory around it if that is at most so many times its own."""


class Packed(NamedTuple):
    """Where a batch lies in its slot: the table begins at `at`, the pickle behind it."""

    slot: Slot
    at: int
    pieces: int
    pickled: int
    """Length of the pickle in bytes."""


class _Memory(NamedTuple):
    """A piece that is to lie in the slot, or does already."""

    address: int
    size: int
    owner: Any
    """What keeps the memory alive."""


def pack(value: Any, slot: Slot, slots: Slots) -> Packed:
    """Write a value into the slot, which grows if it has to.

    Raises:
        Exception: whatever pickling raises, the slot is free for another value then.
        OSError: there is no memory for a slot of this size.
    """
    apart = _Pieces()
    file = io.BytesIO()
    _Packer(file, apart).dump(value)
    pieces = apart.found
    pickled = file.getbuffer()
    tail = len(pieces) * _ENTRY + len(pickled)
    outside = sum(aligned(piece.size) for piece in pieces if not slot.holds(piece.address))
    if aligned(slot.used) + outside + tail > slot.size:
        pieces = [_saved(piece) if slot.holds(piece.address) else piece for piece in pieces]
        slots.enlarge(slot, sum(aligned(piece.size) for piece in pieces) + tail)
    table = array("q")
    for piece in pieces:
        table.extend((_placed(piece, slot), piece.size))
    at = slot.room(tail)
    assert at is not None, "the slot was made large enough above"
    behind = at + len(table) * table.itemsize
    slot.write(at, memoryview(table).cast("B"))
    slot.write(behind, pickled)
    return Packed(slot, at, len(pieces), len(pickled))


def length(at: int, pieces: int, pickled: int) -> int:
    """How many bytes of its slot a packed value takes."""
    return at + pieces * _ENTRY + pickled


def unpack(view: memoryview, at: int, pieces: int, pickled: int) -> Any:
    """The value that `pack` wrote into the memory in view; its tensors lie over that memory."""
    behind = at + pieces * _ENTRY
    table = view[at:behind].cast("q")
    buffers = [view[table[i] : table[i] + table[i + 1]] for i in range(0, 2 * pieces, 2)]
    return pickle.loads(view[behind : behind + pickled], buffers=buffers)


def _placed(piece: _Memory, slot: Slot) -> int:
    """The offset of a piece in the slot, where it is copied unless it lies there."""
    if slot.holds(piece.address):
        return piece.address - slot.address
    offset = slot.room(piece.size)
    assert offset is not None, "the slot was made large enough before"
    ctypes.memmove(slot.address + offset, piece.address, piece.size)
    return offset


def _saved(piece: _Memory) -> _Memory:
    """A piece of a slot that is about to move, in memory of its own."""
    copy = ctypes.create_string_buffer(piece.size)
    ctypes.memmove(copy, piece.address, piece.size)
    return _Memory(ctypes.addressof(copy), piece.size, copy)


# A buffer that stands for the memory of a tensor while it is pickled; it must be writable, for so
# the memory is.
_MARK = bytearray(1)


class _Pieces:
    """The memory that is left out of a pickle, in the order of its buffers.

    Apart from the pickler, which holds its callback and, until it dies, all that it has pickled:
    a callback that held the pickler in turn would keep every batch, and so its slot, until the
    next garbage collection.
    """

    def __init__(self) -> None:
        self.found: list[_Memory] = []
        self.announced: _Memory | None = None
        """The tensor whose buffer comes next."""

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether the buffer is to be in the pickle."""
        if self.announced is not None:
            self.found.append(self.announced)
            self.announced = None
            return False
        raw = buffer.raw()
        if raw.readonly or not raw.nbytes:  # neither tells its address
            return True
        memory = torch.frombuffer(raw, dtype=torch.uint8)
        self.found.append(_Memory(memory.data_ptr(), raw.nbytes, memory))
        return False


class _Packer(ForkingPickler):
    """Pickles a value but for its memory."""

    def __init__(self, file: io.BytesIO, pieces: _Pieces) -> None:
        super().__init__(file, 5, True, pieces)
        self._pieces = pieces
        self._by_storage: dict[tuple[int, int], Tensor] = {}

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Tensor and is_plain(value):
            return self._tensor(value)
        return NotImplemented

    def _tensor(self, tensor: Tensor) -> Any:
        dtype, shape = tensor.dtype, tuple(tensor.shape)
        if not tensor.numel():
            return empty, (dtype, shape, tensor.stride())
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        first = self._by_storage.get((address, size))
        if first is not None:
            return _alias, (first, dtype, shape, tensor.stride(), tensor.storage_offset())
        if size > _WASTE * tensor.numel() * dtype.itemsize or size % dtype.itemsize:
            # A small view of something large, or of bytes that do not divide into this dtype:
            # only what it shows crosses.
            tensor = tensor.clone()
            storage = tensor.untyped_storage()
            address, size = storage.data_ptr(), storage.nbytes()
        else:
            self._by_storage[address, size] = tensor
        self._pieces.announced = _Memory(address, size, tensor)
        # Where an extent is 1 its stride is free, and told as it is.
        dense = tensor.is_contiguous() and 1 not in shape
        if dense and size == tensor.numel() * dtype.itemsize:
            return whole, (pickle.PickleBuffer(_MARK), dtype, shape)
        return strided, (
            pickle.PickleBuffer(_MARK),
            dtype,
            shape,
            tensor.stride(),
            tensor.storage_offset(),
        )


def is_plain(tensor: Tensor) -> bool:
    """Whether all there is to a tensor is its memory, dtype, shape and strides."""
    return (
        tensor.is_cpu
        and tensor.layout == torch.strided
        and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg() or tensor.is_nested)
        and not tensor.is_quantized
        and not tensor.__dict__
        and not tensor._backward_hooks
    )


def whole(buffer: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A contiguous tensor over all of the memory of a buffer."""
    # In place, here and below: a view of another tensor refuses `detach_()`.
    return torch.frombuffer(buffer, dtype=dtype).resize_(shape)


def strided(
    buffer: Any,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
) -> Tensor:
    """A tensor over the memory of a buffer, whose size is a multiple of the dtype's."""
    flat = torch.frombuffer(buffer, dtype=dtype)
    return flat.set_(flat.untyped_storage(), offset, shape, stride)


def _alias(
    first: Tensor, dtype: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> Tensor:
    # With the device told, here and below: `torch.set_default_device` may name another one.
    none = torch.empty(0, dtype=dtype, device="cpu")
    return none.set_(first.untyped_storage(), offset, shape, stride)


def empty(dtype: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """A tensor without values; its memory, if it needs any, holds anything."""
    return torch.empty_strided(shape, stride, dtype=dtype, device="cpu")
