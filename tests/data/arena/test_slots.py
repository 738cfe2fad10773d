"""Room for the next batch: free slots, slots that move, and what is said when there is none."""

import errno
import itertools
import mmap
import os
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.data.arena import memory as memories
from lampwork.data.arena import slots as slots_module
from lampwork.data.arena.notices import MOST_SLOTS, SIZE
from lampwork.data.arena.slots import aligned
from tests.data.arena.sides import Arena, needs_memfd

pytestmark = needs_memfd
PAGE = mmap.PAGESIZE


def resident_bytes(arena):
    """How much memory the memfd really takes."""
    return os.fstat(arena.fd).st_blocks * 512


def taken(arena):
    """A slot that counts as filled from now on."""
    slot = arena.slots.take()
    arena.board.taken[slot.index] = 1
    return slot


@given(st.integers(0, 1 << 40))
def test_aligned(offset):
    """The next multiple of 64 bytes is the smallest one that is not below the offset."""
    assert aligned(offset) % 64 == 0
    assert 0 <= aligned(offset) - offset < 64


def test_lowest_free_slot_is_taken(arena):
    """A slot that was let go of is taken before a new one is made, the lowest first."""
    assert [taken(arena).index for _ in range(4)] == [0, 1, 2, 3]
    arena.board.taken[2] = arena.board.taken[1] = 0
    assert [taken(arena).index for _ in range(3)] == [1, 2, 4]


def test_new_slot_is_as_large_as_the_largest(arena):
    """A new slot has room for the largest batch so far, and begins empty."""
    first = taken(arena)
    assert first.size == 0
    arena.slots.enlarge(first, 5 * PAGE)
    second = taken(arena)
    assert (second.size, second.used) == (5 * PAGE, 0)
    assert second.offset >= first.offset + first.size


def test_first_slot_is_exact_and_a_moved_one_has_slack(arena):
    """Whole pages at first; a quarter more when the slot had to move."""
    slot = arena.slots.take()
    arena.slots.enlarge(slot, PAGE + 1)
    assert slot.size == 2 * PAGE
    arena.slots.enlarge(slot, 8 * PAGE)
    assert slot.size == 10 * PAGE


@settings(deadline=None)
@given(st.lists(st.integers(0, 3 * PAGE), min_size=1, max_size=12))
def test_room_is_aligned_and_disjoint(sizes):
    """Every piece begins at a multiple of 64 bytes, none reaches into another or past the end."""
    with Arena() as arena:
        slot = arena.slots.take()
        arena.slots.enlarge(slot, 8 * PAGE)
        end = 0
        for size in sizes:
            used, offset = slot.used, slot.room(size)
            if offset is None:
                assert aligned(used) + size > slot.size
                assert slot.used == used
                continue
            assert offset % 64 == 0
            assert end <= offset <= offset + size <= slot.size
            end = offset + size


def test_slots_never_overlap(arena):
    """Whatever moved whereto: all slots lie behind the notices and beside each other."""
    slots = [taken(arena) for _ in range(5)]
    for step, slot in enumerate(slots * 3):
        arena.slots.enlarge(slot, (step * 7 % 5 + 1) * PAGE)
    stretches = sorted((slot.offset, slot.offset + slot.size) for slot in slots)
    assert stretches[0][0] >= SIZE
    for (_, end), (begin, _) in itertools.pairwise(stretches):
        assert end <= begin


def test_empty_tensors(arena):
    """An uninitialised tensor lies in the slot; there is none without elements or without room."""
    slot = arena.slots.take()
    assert slot.empty((3,), torch.float32) is None
    arena.slots.enlarge(slot, PAGE)
    for shape, dtype in (((), torch.bool), ((2, 3), torch.complex128), ((5, 1), torch.bfloat16)):
        tensor = slot.empty(shape, dtype)
        assert tensor is not None
        assert (tensor.shape, tensor.dtype) == (shape, dtype)
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == 0
        assert slot.holds(tensor.data_ptr())
    used = slot.used
    assert slot.empty((2, 0), torch.float32) is None
    assert slot.empty((PAGE,), torch.float32) is None
    assert slot.used == used


def test_slot_holds_its_own_addresses_only(arena):
    """An address belongs to the slot from its first byte to its last."""
    slot = arena.slots.take()
    assert not slot.holds(slot.address)
    arena.slots.enlarge(slot, PAGE)
    assert slot.holds(slot.address)
    assert slot.holds(slot.address + PAGE - 1)
    assert not slot.holds(slot.address - 1)
    assert not slot.holds(slot.address + PAGE)


def test_moving_gives_memory_back(arena):
    """The pages that a slot leaves behind go back: ever larger batches cost the last one only."""
    slot = arena.slots.take()
    for step in range(1, 30):
        arena.slots.enlarge(slot, step * 64 * PAGE)
        slot.write(0, b"x" * slot.size)
    assert resident_bytes(arena) <= slot.size + 2 * SIZE


@pytest.mark.parametrize("name", ["MADV_REMOVE", "_POPULATE"])
def test_advice_that_the_kernel_refuses(arena, name, monkeypatch):
    """Where the kernel knows one of the advices not, slots move as well."""
    if name == "_POPULATE":
        monkeypatch.setattr(slots_module, name, 9999)
    else:
        monkeypatch.setattr(mmap, name, 9999)
    slot = arena.slots.take()
    for pages in (1, 3):
        arena.slots.enlarge(slot, pages * PAGE)
        tensor = slot.empty((PAGE,), torch.uint8)
        tensor.fill_(7)
        assert tensor.eq(7).all()


def test_no_address_space_left():
    """The error names the batch, the address space and what to do; smaller batches still cross."""
    with Arena(size=SIZE + 10 * PAGE) as arena:
        with pytest.raises(MemoryError) as caught:
            arena.send(torch.ones(20 * PAGE))
        assert str(caught.value) == (
            f"a batch of {81 * PAGE:,} bytes no longer fits the worker's {SIZE + 10 * PAGE:,} "
            "bytes of address space: make batches smaller or raise the limit (ulimit -v)"
        )
        batch = arena.cross(torch.ones(PAGE))
        assert batch.eq(1).all()
        with pytest.raises(MemoryError, match="ulimit -v"):  # of what is left, by another slot
            arena.send(torch.ones(2 * PAGE))
        assert batch.eq(1).all()


def test_no_memory_left(arena, monkeypatch):
    """Where the system has no memory for a slot that is an error in time, and the slot stays."""
    slot = arena.slots.take()
    arena.slots.enlarge(slot, PAGE)
    before = slot.offset, slot.size

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            arena.send(torch.ones(PAGE), slot)
    assert (slot.offset, slot.size) == before
    assert arena.cross(torch.ones(PAGE)).eq(1).all()


def test_no_slot_left(arena):
    """When every slot there can be is taken the error counts them."""
    arena.board.taken[:] = b"\1" * MOST_SLOTS
    for _ in range(MOST_SLOTS):
        arena.slots.take()
    with pytest.raises(MemoryError) as caught:
        arena.slots.take()
    assert str(caught.value) == f"{MOST_SLOTS} batches wait in one worker's memory: keep fewer"


def test_mapping_where_address_space_is_limited(monkeypatch):
    """A memory is mapped as far as the limit allows, down to a least size, then it is an error."""
    asked, limit = [], [1 << 35]

    def limited(fd, size, flags):
        asked.append(size)
        if size > limit[0]:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return "mapped"

    fake = SimpleNamespace(mmap=limited, MAP_SHARED=mmap.MAP_SHARED)
    monkeypatch.setattr(memories, "mmap", fake)
    assert memories.mapped(0) == "mapped"
    assert memories.SMALLEST <= asked[-1] <= limit[0] < asked[-2]
    limit[0] = 1 << 20
    with pytest.raises(OSError, match="Cannot allocate"):
        memories.mapped(0)
    assert asked[-1] == memories.SMALLEST


def test_mapping_takes_no_memory():
    """A memory is mapped in full and is empty until a slot is made."""
    fd = memories.create("lampwork-test")
    mapping = memories.mapped(fd)
    assert len(mapping) >= memories.SMALLEST
    assert os.fstat(fd).st_blocks == 0
    mapping.close()
    os.close(fd)
