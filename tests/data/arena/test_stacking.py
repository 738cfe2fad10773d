"""Stacking into a slot against torch's function in a worker of torch's: same bits and errors."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import default_collate, get_worker_info
from torch.utils.data._utils import collate as collating
from torch.utils.data._utils import worker as torchs_worker

from lampwork.data import DataLoader
from lampwork.data.arena.stacking import Stacking
from tests.data.arena.sides import DTYPES, Arena, Pair, assert_alike, filled, needs_memfd

pytestmark = needs_memfd


class Nothing(torch.utils.data.Dataset):
    """A worker has a dataset."""


@pytest.fixture(autouse=True, scope="module")
def in_worker():
    """Torch's function stacks as in a worker: into memory that is there before."""
    info = torchs_worker.WorkerInfo(id=0, num_workers=1, seed=0, dataset=Nothing())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchs_worker, "_worker_info", info)
        assert get_worker_info() is info
        yield


@contextlib.contextmanager
def stacking_into(slot):
    """The table as it is in a worker of ours that makes a batch."""
    stacking = Stacking()
    stacking.slot = slot
    stacking.install()
    try:
        yield stacking
    finally:
        stacking.remove()


def roomy(arena):
    """A slot in which a good deal fits."""
    slot = arena.slots.take()
    arena.slots.enlarge(slot, 1 << 20)
    return slot


def roomless_and_roomy(arena):
    """A slot in which nothing fits, and one in which a good deal does."""
    roomless = arena.slots.take()
    arena.board.taken[roomless.index] = 1
    return roomless, roomy(arena)


def outcome(batch):
    """What collating gives or raises."""
    try:
        return default_collate(batch)
    except Exception as error:
        return type(error), str(error)


def assert_same_outcome(batch, arena):
    """As torch's, both where it fits the slot and where it does not."""
    expected = outcome(batch)
    for slot in (*roomless_and_roomy(arena), None):
        with stacking_into(slot):
            assert_alike(outcome(batch), expected)


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from(list(DTYPES)),
    count=st.integers(1, 5),
)
def test_stacks_as_torch(shape, dtype, count):
    """Samples of any shape and dtype stack to the same bits, which cross as they are."""
    samples = [filled(shape, DTYPES[dtype], seed) for seed in range(count)]
    expected = default_collate(samples)
    with Arena() as arena:
        slot = roomy(arena)
        with stacking_into(slot):
            stacked = default_collate(samples)
        assert_alike(stacked, expected)
        assert slot.holds(stacked.data_ptr()) == (stacked.numel() > 0)
        assert_alike(arena.receive(arena.send(stacked, slot)), expected)


def test_nested_samples(arena):
    """Every tensor in a nested sample lies in the slot, and the whole is torch's."""
    samples = [
        {
            "x": torch.rand(3),
            "pair": Pair(np.full(2, index), [index, float(index)]),
            "s": str(index),
        }
        for index in range(4)
    ]
    expected = default_collate(samples)
    slot = roomy(arena)
    with stacking_into(slot):
        stacked = default_collate(samples)
    assert type(stacked["pair"]) is Pair
    assert stacked["x"].equal(expected["x"])
    assert stacked["pair"].left.equal(expected["pair"].left)
    assert [part.tolist() for part in stacked["pair"].right] == [[0, 1, 2, 3], [0.0, 1.0, 2.0, 3.0]]
    assert slot.holds(stacked["x"].data_ptr())
    assert slot.holds(stacked["pair"].left.data_ptr())
    batch = arena.receive(arena.send(stacked, slot))
    assert batch["x"].equal(expected["x"])
    assert batch["s"] == ["0", "1", "2", "3"]


CASES = {
    "shapes differ": lambda: [torch.rand(2), torch.rand(3)],
    "dimensions differ": lambda: [torch.rand(2, 2), torch.rand(4)],
    "wider dtype later": lambda: [torch.rand(2), torch.rand(2).double()],
    "narrower dtype later": lambda: [torch.rand(2).double(), torch.rand(2)],
    "float after int": lambda: [torch.ones(2, dtype=torch.int64), torch.rand(2)],
    "int after float": lambda: [torch.rand(2), torch.ones(2, dtype=torch.int64)],
    "complex after float": lambda: [torch.rand(2), torch.rand(2, dtype=torch.complex64)],
    "bool after uint8": lambda: [torch.ones(2, dtype=torch.uint8), torch.ones(2, dtype=torch.bool)],
    "gradient": lambda: [torch.rand(2), torch.rand(2, requires_grad=True)],
    "gradient first": lambda: [torch.rand(2, requires_grad=True), torch.rand(2)],
    "parameters": lambda: [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))],
    "transposed": lambda: [torch.arange(6).view(2, 3).t(), torch.arange(6).view(3, 2)],
    "expanded": lambda: [torch.ones(1).expand(4)] * 2,
    "sparse": lambda: [torch.eye(3).to_sparse()] * 2,
    "no elements": lambda: [torch.empty(0, 3)] * 2,
    "lists of other lengths": lambda: [[torch.ones(1)], [torch.ones(1)] * 2],
    "text later": lambda: [torch.ones(1), "text"],
    "number later": lambda: [torch.ones(1), 2.5],
    "nothing later": lambda: [torch.ones(1), None],
    "array later": lambda: [torch.ones(1), np.ones(1, np.float32)],
    "one sample": lambda: [torch.rand(2, 3)],
    "named by a subclass": lambda: [torch.ones(2).as_subclass(Labelled)] * 2,
    "subclass later": lambda: [torch.ones(2), torch.ones(2).as_subclass(Labelled)],
}


class Labelled(torch.Tensor):
    """A tensor of the user's."""


@pytest.mark.parametrize("name", sorted(set(CASES) - {"sparse"}))
def test_odd_batches_as_torch(arena, name):
    """Samples that differ, or are more than plain, give torch's result or torch's error."""
    assert_same_outcome(CASES[name](), arena)


def test_sparse_as_torch(arena):
    """Sparse samples are refused in torch's words."""
    batch = CASES["sparse"]()
    expected = outcome(batch)
    with stacking_into(roomy(arena)):
        assert str(outcome(batch)) == str(expected)


def test_other_default_device(arena):
    """`torch.set_default_device` does not move what is stacked, whether it fits or not."""
    samples = [torch.rand(3), torch.rand(3)]
    expected = torch.stack(samples)
    for slot in roomless_and_roomy(arena):
        with stacking_into(slot), torch.device("meta"):
            stacked = default_collate(samples)
        assert_alike(stacked, expected)


def test_batch_larger_than_the_slot(arena):
    """What does not fit is stacked beside the slot, and crosses as well."""
    slot = arena.slots.take()
    arena.slots.enlarge(slot, 4096)
    samples = [(torch.full((700,), float(index)), torch.tensor(index)) for index in range(3)]
    expected = default_collate(samples)
    with stacking_into(slot):
        stacked = default_collate(samples)
    assert not slot.holds(stacked[0].data_ptr())
    assert slot.holds(stacked[1].data_ptr())
    assert_alike(arena.receive(arena.send(stacked, slot)), expected)


def test_the_users_table_is_respected(arena, monkeypatch):
    """A function that the user put in torch's table for tensors is neither replaced nor removed."""
    calls = []

    def largest(batch, *, collate_fn_map=None):
        calls.append(len(batch))
        return torch.stack(batch).amax(0)

    monkeypatch.setitem(collating.default_collate_fn_map, torch.Tensor, largest)
    slot = roomy(arena)
    with stacking_into(slot):
        assert default_collate([torch.ones(2), torch.zeros(2)]).tolist() == [1, 1]
    assert collating.default_collate_fn_map[torch.Tensor] is largest
    assert calls == [2]
    assert slot.used == 0


def test_the_users_own_types_and_tensors(arena, monkeypatch):
    """A function for the user's own type is called, and stacks its tensors into the slot."""

    def labelled(batch, *, collate_fn_map=None):
        plain = [sample.as_subclass(torch.Tensor) for sample in batch]
        return {"labelled": collating.collate(plain, collate_fn_map=collate_fn_map)}

    before = dict(collating.default_collate_fn_map)
    # In front of the entry for tensors, which would take a subclass as well.
    monkeypatch.setattr(
        collating, "default_collate_fn_map", {Labelled: labelled} | before, raising=True
    )
    slot = roomy(arena)
    with stacking_into(slot):
        batch = default_collate([torch.ones(2).as_subclass(Labelled)] * 3)
    assert batch["labelled"].tolist() == [[1, 1]] * 3
    assert slot.holds(batch["labelled"].data_ptr())


def test_remove_gives_the_place_back():
    """Installed twice and removed twice, torch's function stands where it stood."""
    torchs = collating.default_collate_fn_map[torch.Tensor]
    stacking = Stacking()
    stacking.install()
    stacking.install()
    assert collating.default_collate_fn_map[torch.Tensor] is stacking
    stacking.remove()
    stacking.remove()
    assert collating.default_collate_fn_map[torch.Tensor] is torchs


def test_between_batches_torch_stacks():
    """While no batch is being made the function is torch's."""
    with stacking_into(None):
        assert default_collate([torch.ones(2)] * 2).equal(torch.ones(2, 2))


def test_large_batches_are_torchs_too():
    """What is stacked past the caches arrives bit for bit, the last short batch as well."""
    images = [torch.randn(3, 256, 256) for _ in range(50)]
    theirs = list(torch.utils.data.DataLoader(images, 24))
    ours = list(DataLoader(images, 24, num_workers=1))
    assert [x.shape[0] for x in ours] == [24, 24, 2]
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
