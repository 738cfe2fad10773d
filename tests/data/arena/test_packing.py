"""What is packed into a slot comes out alike to the bit; against plain pickle and torch's own."""

import contextlib
import os
import pickle
from multiprocessing import resource_sharer
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.data.arena.packing import is_plain, pack
from tests.data.arena.sides import (
    ARRAYS,
    EVERY_DTYPE,
    LAYOUTS,
    Arena,
    assert_alike,
    filled,
    needs_memfd,
    values,
)

pytestmark = [
    needs_memfd,
    # torch warns of the dtype complex32 as such.
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning"),
]


def torchs(value):
    """What the trainer gets of a value from torch's own worker."""
    try:
        return pickle.loads(ForkingPickler.dumps(value))
    finally:
        resource_sharer.stop(timeout=5)


@settings(deadline=None)  # other work on the machine is no failure
@given(st.lists(values(), min_size=1, max_size=3))
def test_values_cross_alike(batches):
    """Whatever a batch is made of arrives alike to the bit, also in a slot used before."""
    with Arena() as arena:
        for value in batches:
            assert_alike(arena.cross(value), value)


@pytest.mark.parametrize("dtype", EVERY_DTYPE.values(), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_dtype_and_layout(arena, dtype, layout):
    """Every dtype crosses in every memory layout, without dimensions and without elements too."""
    value = [LAYOUTS[layout](filled(shape, dtype)) for shape in ((), (3,), (2, 0), (2, 1, 5))]
    assert_alike(arena.cross(value), value)


@pytest.mark.parametrize("name", ARRAYS)
def test_every_kind_of_array(arena, name):
    """An array arrives as plain pickle would bring it."""
    value = {"array": ARRAYS[name]()}
    assert_alike(arena.cross(value), value)


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"far"}))
def test_strides_are_torchs(arena, layout):
    """Shape, strides and place in the storage are those that torch's own worker hands over."""
    for shape in ((), (3,), (1, 4), (3, 1, 2)):
        value = LAYOUTS[layout](filled(shape, torch.float32))
        ours, theirs = arena.cross(value), torchs(value)
        assert (ours.shape, ours.stride()) == (theirs.shape, theirs.stride())
        assert not ours.numel() or ours.storage_offset() == theirs.storage_offset()
        assert_alike(ours, theirs)


def test_batches_are_no_views(arena):
    """A tensor of a batch may be detached in place, which torch refuses for views."""
    for value in (torch.rand(2, 3), torch.rand(3, 2).t(), torch.rand(4)[1:], torch.rand(1, 2)):
        crossed = arena.cross(value)
        assert not crossed._is_view()
        crossed.requires_grad_().detach_()


def test_small_view_leaves_the_rest(arena):
    """Of a view of something much larger only what it shows is written."""
    large = torch.rand(1000, 1000)
    packed = arena.send({"column": large[:, 3], "row": large[5]})
    assert packed.slot.size < 20_000
    batch = arena.receive(packed)
    assert batch["column"].equal(large[:, 3])
    assert batch["row"].equal(large[5])


def test_aliases_stay_aliases(arena):
    """Tensors that share a storage share it afterwards, and one tensor twice is one tensor."""
    base = torch.arange(12).view(3, 4)
    value = [base, base.t(), base[1:], base.view(torch.float64), base]
    packed = arena.send(value)
    assert packed.pieces == 1
    batch = arena.receive(packed)
    assert_alike(batch, value)
    assert batch[0] is batch[4]
    batch[0][2, 3] = -7
    assert batch[1][3, 2] == batch[2][1, 3] == -7
    assert len({tensor.untyped_storage().data_ptr() for tensor in batch}) == 1


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(8, 12), st.sampled_from([torch.int8, torch.int32])
        ),
        min_size=2,
        max_size=5,
    )
)
def test_overlapping_windows_write_through(windows):
    """Writing into one of several windows of a storage shows in the others, as before crossing."""
    base = torch.arange(16, dtype=torch.int32)
    value = [base[begin : begin + extent].view(dtype) for begin, extent, dtype in windows]
    with Arena() as arena:
        batch = arena.cross(value)
        assert_alike(batch, value)
        value[0].fill_(77)
        batch[0].fill_(77)
        assert_alike(batch, value)


def test_same_address_other_length(arena):
    """Two storages that begin at the same address, one longer than the other, both cross."""
    array = np.arange(10.0)
    value = [torch.from_numpy(array[:3]), torch.from_numpy(array)]
    assert_alike(arena.cross(value), value)
    assert_alike(arena.cross(value[::-1]), value[::-1])


def test_storage_of_odd_length(arena):
    """A tensor crosses whose storage is no multiple of its item size."""
    odd = filled((5,), torch.uint8)
    value = [odd[:4].view(torch.int16), odd]
    assert_alike(arena.cross(value), value)


def test_every_piece_is_aligned(arena):
    """Tensors and arrays begin at multiples of 64 bytes, whatever lies between them."""
    odd = [torch.ones(extent, dtype=torch.uint8) for extent in (1, 63, 64, 65, 127)]
    value = [*odd, np.ones(3, np.uint8), torch.rand(2, 3).t(), np.asfortranarray(np.ones((2, 3)))]
    for _ in range(2):  # a second time into the slot as it is
        batch = arena.cross(value)
        assert_alike(batch, value)
        addresses = [
            piece.untyped_storage().data_ptr() if torch.is_tensor(piece) else piece.ctypes.data
            for piece in batch
        ]
        assert [address % 64 for address in addresses] == [0] * len(value)
        del batch


def test_later_writes_do_not_reach_the_batch(arena):
    """What the worker does to its tensor after sending it does not show in the batch."""
    value = torch.ones(100)
    batch = arena.cross(value)
    value.zero_()
    assert batch.eq(1).all()
    batch.fill_(2)
    assert value.eq(0).all()


SPECIAL = {
    "leaf with gradient": lambda: torch.rand(3).requires_grad_(),
    "parameter": lambda: torch.nn.Parameter(torch.rand(2, 2)),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "conjugate": lambda: torch.rand(3, dtype=torch.complex64).conj(),
    "negative": lambda: torch._neg_view(torch.rand(3)),
    "meta": lambda: torch.empty(3, device="meta"),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("name", SPECIAL)
def test_special_tensors_as_torch_sends_them(arena, name):
    """What is more than plain memory arrives as from torch's own worker."""
    value = SPECIAL[name]()
    assert name == "parameter" or not is_plain(value)
    ours, theirs = arena.cross([value])[0], torchs([value])[0]
    assert type(ours) is type(theirs)
    assert (ours.requires_grad, ours.layout) == (theirs.requires_grad, theirs.layout)
    assert (ours.is_conj(), ours.is_neg(), ours.device) == (
        theirs.is_conj(),
        theirs.is_neg(),
        theirs.device,
    )
    if ours.device.type == "cpu":
        # With torch's own mistakes: it forgets on the way that a tensor is conjugate or negated.
        assert ours.to_dense().equal(theirs.to_dense())


def test_result_of_gradients_is_refused_as_by_torch(arena):
    """A tensor with a history is refused in torch's words, and the slot is good for another."""
    value = [torch.ones(100), torch.rand(3, requires_grad=True) * 2]
    with pytest.raises(RuntimeError) as theirs:
        torchs(value)
    with pytest.raises(RuntimeError) as ours:
        arena.send(value)
    assert str(ours.value) == str(theirs.value)
    assert_alike(arena.cross(value[:1]), value[:1])


@pytest.mark.parametrize("stacked", [False, True], ids=["other memory", "stacked in the slot"])
def test_unpicklable_leaves_the_slot_usable(arena, stacked):
    """A value that does not pickle raises pickle's error; the same slot takes the next value."""
    slot = arena.slots.take()
    arena.slots.enlarge(slot, 4096)
    tensor = slot.empty((8,), torch.float32) if stacked else torch.empty(8)
    tensor.fill_(3)
    for broken in (lambda: None, (number for number in ())):
        with contextlib.closing(open(os.devnull)) as file:
            for bad in (broken, file):
                with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
                    pack({"good": tensor, "bad": bad}, slot, arena.slots)
    batch = arena.receive(arena.send({"good": tensor}, slot))
    assert batch["good"].tolist() == [3] * 8


def test_stacked_content_survives_a_move(arena):
    """Tensors and arrays already in the slot arrive whole when the slot has to move for more."""
    slot = arena.slots.take()
    arena.slots.enlarge(slot, 4096)
    before = slot.offset
    one, other = slot.empty((10,), torch.int64), slot.empty((3, 3), torch.float32)
    one.copy_(torch.arange(10))
    other.copy_(torch.arange(9).view(3, 3))
    large = torch.rand(5000)
    value = {"large": large, "t": other.t(), "array": one.numpy(), "tail": one[5:]}
    expected = {"large": large, "t": other.t().clone(), "array": np.arange(10)}
    batch = arena.receive(arena.send(value, slot))
    assert slot.offset != before
    assert batch.pop("tail").tolist() == [5, 6, 7, 8, 9]
    assert batch.pop("t").tolist() == expected.pop("t").tolist()
    assert_alike(batch, expected)


def test_stacked_content_is_not_copied(arena):
    """A tensor in the slot is told by its place there; a second write does not happen."""
    slot = arena.slots.take()
    arena.slots.enlarge(slot, 100_000)
    stacked = slot.empty((10_000,), torch.float32)
    stacked.fill_(5)
    packed = arena.send([stacked], slot)
    assert slot.used < 41_000
    stacked.fill_(6)  # both sides see the same memory
    assert arena.receive(packed)[0].eq(6).all()


def test_other_default_device(arena):
    """`torch.set_default_device` of the trainer's does not move what arrives."""
    base = torch.rand(4)
    value = [base, base[1:], base[:0], torch.rand(2, 3).t()]
    packed = arena.send(value)
    with torch.device("meta"):
        batch = arena.receive(packed)
    assert_alike(batch, value)


def test_nothing_to_lay_out(arena):
    """A value without any memory of its own crosses and keeps no slot."""
    for value in (None, [], {"a": (1, "two")}, ValueError("no")):
        crossed = arena.cross(value)
        assert repr(crossed) == repr(value)
        assert arena.leases.held == 0
