"""A batch that the user still holds is never overwritten, and what is let go of is used again."""

import gc
import os
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork.data.arena import leases as leases_module
from tests.data.arena.sides import Arena, needs_memfd

pytestmark = [
    needs_memfd,
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
MiB = 1 << 20


def held(arena):
    """What the notices say: how many slots the worker may not touch."""
    return sum(arena.board.taken)


def numbers(seed, size=1000):
    """A batch of tensors and an array, its values told by the seed."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(size, generator=generator),
        "y": [torch.randint(9, (size // 2, 2), generator=generator), np.full(size, seed)],
    }


def pieces(part):
    """All arrays and tensors of a batch, as arrays."""
    if isinstance(part, dict | list):
        inner = part.values() if isinstance(part, dict) else part
        return [piece for one in inner for piece in pieces(one)]
    return [np.asarray(part)]


def content(part):
    """The bytes of all pieces."""
    return [piece.tobytes() for piece in pieces(part)]


TAKE = {
    "all": lambda batch: batch,
    "tensor": lambda batch: batch["x"],
    "view": lambda batch: batch["x"].unfold(0, 5, 3)[1],
    "slice": lambda batch: batch["y"][0][3:7, 1],
    "numpy": lambda batch: batch["x"].numpy(),
    "slice of numpy": lambda batch: batch["y"][0].numpy()[::3],
    "array": lambda batch: batch["y"][1],
    "slice of array": lambda batch: batch["y"][1][5:],
    "tensor of array": lambda batch: torch.from_numpy(batch["y"][1]),
    "detached": lambda batch: batch["x"].detach(),
    "memoryview": lambda batch: memoryview(batch["y"][1]),
}


@pytest.mark.parametrize("name", TAKE)
def test_any_part_keeps_the_slot(arena, name):
    """A view, slice or array of a batch keeps its slot; with the last of them it is free."""
    batch = arena.cross(numbers(1))
    part = TAKE[name](batch)
    expected = content(part)
    del batch
    assert (held(arena), arena.leases.held) == (1, 1)
    others = [arena.cross(numbers(seed)) for seed in range(2, 5)]
    assert content(part) == expected
    del others
    assert held(arena) == 1
    del part
    assert (held(arena), arena.leases.held) == (0, 0)


steps = st.one_of(
    st.tuples(st.just("produce"), st.integers(2, 3000)),
    st.tuples(st.just("drop"), st.integers(0, 99)),
    st.tuples(st.sampled_from(list(TAKE)), st.integers(0, 99)),
)


def follow(program, arena):
    """Do what the program says, look at all that is held after each step; the most that was."""
    hands, most = [], 0
    for number, (step, detail) in enumerate(program):
        if step == "produce":
            batch = arena.cross(numbers(number, max(14, detail)))
            hands.append((batch, content(batch)))
        elif hands:
            batch, _ = hands.pop(detail % len(hands))
            if step != "drop" and isinstance(batch, dict):
                part = TAKE[step](batch)
                hands.append((part, content(part)))
                del part
        batch = None
        most = max(most, len(hands))
        for value, expected in hands:
            assert content(value) == expected
        value = None
        assert held(arena) == arena.leases.held <= len(hands)
    return most


@settings(deadline=None)  # other work on the machine is no failure
@given(st.lists(steps, max_size=40), st.sampled_from([0, 50_000, MiB, 1 << 30]))
def test_held_batches_are_never_overwritten(program, budget):
    """However batches are made, held, cut down and dropped: what is held keeps every bit."""
    with Arena(budget) as arena:
        most = follow(program, arena)
        assert held(arena) == arena.leases.held == 0
        assert len(arena.slots._slots) <= most + 1


@pytest.mark.parametrize("stacked", [False, True], ids=["copied", "stacked in the slot"])
def test_slots_are_used_again(arena, stacked, no_collector):
    """A loop that holds two batches at a time needs three slots, however long it runs.

    Without the garbage collector: what the worker stacked into a slot must not wait for it.
    """
    used, window = set(), []
    for seed in range(200):
        slot = arena.slots.take()
        batch = in_the_slot(arena, slot, numbers(seed)) if stacked else numbers(seed)
        packed = arena.send(batch, slot)
        del batch
        used.add(packed.slot.index)
        window = [*window[-1:], arena.receive(packed)]
    assert used <= {0, 1, 2}
    assert content(window[1]) == content(numbers(199))


@pytest.fixture
def no_collector():
    """No cyclic garbage is collected during the test."""
    gc.disable()
    yield
    gc.enable()


def in_the_slot(arena, slot, batch):
    """A batch of tensors as a worker stacks it."""
    if not slot.size:
        arena.slots.enlarge(slot, 1 << 16)
    x, (y, array) = batch["x"], batch["y"]
    x, y = (slot.empty(tensor.shape, tensor.dtype).copy_(tensor) for tensor in (x, y))
    return {"x": x, "y": [y, array]}


def test_dropped_batches_free_their_slot(arena):
    """The slot of a batch that nobody wants is free without being opened."""
    packed = arena.send(numbers(0))
    assert held(arena) == 1
    arena.leases.drop(packed.slot.index)
    assert held(arena) == 0
    assert arena.slots.take() is packed.slot


def test_beyond_the_budget_batches_are_copied_out():
    """Two slots are always lent; beyond the budget a batch is a copy, right, and its slot free."""
    size = 100_000
    for budget, lent in ((0, 2), (1, 2), (5 * size, 4)):
        with Arena(budget) as arena:
            batches = [arena.cross(numbers(seed, size // 20)) for seed in range(9)]
            assert arena.leases.held == held(arena) == lent
            for seed, batch in enumerate(batches):
                assert content(batch) == content(numbers(seed, size // 20))
                batch["x"].fill_(seed)  # a copy is as writable
            assert [batch["x"][0].item() for batch in batches] == list(range(9))
            batches[0] = None  # a lease that ends makes room for the next one
            batch = None
            batches.append(arena.cross(numbers(9, size // 20)))
            assert held(arena) == lent


def test_no_more_than_the_most_are_lent(monkeypatch):
    """The worker always has slots to go on with, whatever the budget allows."""
    monkeypatch.setattr(leases_module, "MOST_HELD", 5)
    with Arena() as arena:
        batches = [arena.cross(numbers(seed)) for seed in range(8)]
        assert held(arena) == 5
        for seed, batch in enumerate(batches):
            assert content(batch) == content(numbers(seed))


def test_slot_in_a_cycle_is_freed_by_the_collector(arena):
    """A batch that only a reference cycle holds frees its slot when the cycle is collected."""
    batch = arena.cross(numbers(0))
    batch["self"] = batch
    gone = weakref.ref(batch["x"])
    del batch
    gc.collect()
    assert gone() is None
    assert held(arena) == 0


def test_failure_to_rebuild_frees_the_slot(arena):
    """When a batch cannot be rebuilt in the trainer the error is told and the slot is free."""
    packed = arena.send([torch.ones(10), Unwilling()])
    with pytest.raises(ZeroDivisionError):
        arena.receive(packed)
    gc.collect()  # the traceback of the error held the slot
    assert held(arena) == 0


class Unwilling:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return divmod, (1, 0)


def in_fork(action):
    """The exit code of a forked child that does this."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = action()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_forked_child_frees_nothing(arena):
    """A child that drops its copies of held batches frees no slot of its parent."""
    batches = [arena.cross(numbers(seed)) for seed in range(3)]

    def drop():
        batches.clear()
        gc.collect()
        return 10 + held(arena)

    assert in_fork(drop) == 13
    assert held(arena) == arena.leases.held == 3
    later = [arena.cross(numbers(seed)) for seed in range(3, 6)]
    assert [content(batch) for batch in batches] == [content(numbers(seed)) for seed in range(3)]
    later.clear()
    batches.clear()
    assert held(arena) == 0


def test_forked_child_reads_held_batches(arena):
    """A batch that is held when a process is forked can be read there."""
    batch = arena.cross(numbers(4))
    assert in_fork(lambda: 7 if content(batch) == content(numbers(4)) else 8) == 7


def test_batches_outlive_the_arena():
    """A batch stays as it is after the worker's memory is closed and its books are gone."""
    with Arena() as arena:
        batches = [arena.cross(numbers(seed)) for seed in range(4)]
    gone = weakref.ref(arena.leases)
    del arena
    gc.collect()
    assert gone() is None
    for seed, batch in enumerate(batches):
        assert content(batch) == content(numbers(seed))
        batch["x"].zero_()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors under /proc")
def test_descriptors_do_not_grow(arena):
    """Three hundred held batches take no file descriptor and no mapping more than one does."""

    def used():
        with open("/proc/self/maps") as maps:
            mappings = sum("lampwork-test" in line for line in maps)
        return len(os.listdir("/proc/self/fd")), mappings

    batches = [arena.cross(numbers(0))]
    before = used()
    batches += [arena.cross(numbers(seed)) for seed in range(1, 300)]
    assert used() == before
    assert held(arena) == 300
    assert all(content(batch) == content(numbers(seed)) for seed, batch in enumerate(batches))
