"""The order of a sampler that is not known: passed on as it is, and given once more."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
)

from lampwork.data.drawn import random_state
from lampwork.data.order import order_of
from tests.data.orders import (
    rest_of,
    through_text,
)


class Custom(Sampler):
    """Yields what its function makes of its size; asked before its first index, or eagerly."""

    def __init__(self, make, size=20, eager=False):
        self.make, self.size, self.eager = make, size, eager

    def __iter__(self):
        made = (index for _ in range(1) for index in self.make(self.size))
        return iter(list(made)) if self.eager else made


def by_python(size):
    """A shuffled list, from Python's generator."""
    return random.sample(range(size), size)


def by_numpy(size):
    """A shuffled list, from numpy's generator."""
    return np.random.permutation(size).tolist()


def by_torch(size):
    """A shuffled list, from torch's generator."""
    return torch.randperm(size).tolist()


def one_by_one(size):
    """Numbers that are drawn when they are asked for, from two generators."""
    return (random.randrange(1000) + int(torch.randint(1000, ())) for _ in range(size))


def lists(size):
    """Batches of a shuffled order."""
    order = torch.randperm(size).tolist()
    return [order[:3], order[3:4], order[4:]]


MAKERS = [by_python, by_numpy, by_torch, one_by_one, lists]


def seed_all(seed):
    """Seed the global generators of torch, Python and numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("own_batches", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_a_sampler_of_the_users_own_goes_on(make, own_batches, eager):
    """Its indices are passed on as they are, and come again from the random state of then."""
    sampler = Custom(make, eager=eager)
    given = (None, sampler) if own_batches else (sampler, None)
    seed_all(1)
    expected = list(sampler)
    seed_all(1)
    order = order_of(*given)
    had = [next(order) for _ in range(2)]
    state = through_text(order.state(batches=1, taken=len(had[0]) if make is lists else 1))
    assert had + rest_of(order) == expected

    seed_all(2)
    outside = random_state()
    order = order_of(*given, state=state)
    assert order.taken == state["taken"]
    assert order.state(batches=1, taken=state["taken"]) == state
    assert rest_of(order) == expected[1:]
    assert random_state() == outside


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_what_torch_began_is_gone_on_with(make, eager):
    """A loader of torch's has the iterator made and then draws a seed: neither is in the way."""

    def begin(**state):
        before = random_state()
        started = iter(sampler)
        torch.empty((), dtype=torch.int64).random_()
        return order_of(sampler, None, started=started, before=before, **state)

    sampler = Custom(make, eager=eager)
    seed_all(1)
    order = begin()
    had = next(order)
    state = through_text(order.state(batches=1, taken=len(had) if make is lists else 1))
    expected = rest_of(order)
    seed_all(2)
    assert rest_of(begin(state=state)) == expected


@pytest.mark.parametrize("indices", [range(9), list("abcdefghi"), [None] * 9, [(1, 2)] * 9])
@pytest.mark.parametrize("eager", [False, True])
def test_a_sampler_that_draws_nothing_has_a_small_state(indices, eager):
    """Whatever its indices are, no random state is kept of a sampler that needs none."""
    sampler = Custom(lambda _: indices, eager=eager)
    before, started = random_state(), iter(sampler)
    torch.empty((), dtype=torch.int64).random_()
    order = order_of(sampler, BatchSampler(sampler, 2, False), started=started, before=before)
    next(order)
    state = order.state(batches=1, taken=2)
    assert len(repr(state)) < 100
    order = order_of(sampler, BatchSampler(sampler, 2, False), state=through_text(state))
    assert list(itertools.chain(*rest_of(order))) == list(indices)[2:]


class Stateful(Custom):
    """Counts its epochs itself; tells the count, in a dict that it goes on to use, and loads it."""

    def __init__(self):
        super().__init__(None)
        self.told = {"epochs": 0}

    def __iter__(self):
        self.told["epochs"] += 1
        return iter(np.random.RandomState(self.told["epochs"]).permutation(self.size).tolist())

    def state_dict(self):
        return self.told

    def load_state_dict(self, state):
        self.told = state


@pytest.mark.parametrize("begun", [False, True])
def test_a_sampler_that_has_a_state_tells_it(begun):
    """What its `state_dict` told before it was asked is loaded; its epochs go on from there.

    Also where torch's loader has asked it for an iterator before the state came.
    """
    sampler = Stateful()
    list(order_of(sampler, None))
    order = order_of(sampler, None)
    had = [next(order) for _ in range(7)]
    state = through_text(order.state(batches=4, taken=4))
    expected = had[4:] + rest_of(order)
    next_epoch = list(order_of(sampler, None))
    other = Stateful()
    for _ in range(2):
        started = iter(other) if begun else None
        assert rest_of(order_of(other, None, state=state, started=started)) == expected
        assert list(order_of(other, None)) == next_epoch


@pytest.mark.parametrize("size", [20, 2])
def test_another_order_than_before_is_noticed(size):
    """A sampler that cannot give the same again, or has less, is warned about, and goes on."""
    sampler = Custom(lambda size: range(size))
    order = order_of(sampler, None)
    for _ in range(5):
        next(order)
    state = order.state(batches=4, taken=4)
    other = order_of(Custom(lambda _: range(1, size + 1)), None, state=state)
    with pytest.warns(UserWarning, match="Custom did not give the same 4 samples again"):
        found = rest_of(other)
    assert found == list(range(5, size + 1))


def test_an_end_that_comes_too_early_is_noticed():
    """That a sampler has less than was taken is told of indices of any kind."""
    order = order_of(Custom(lambda _: "abc"), None)
    assert [next(order) for _ in range(3)] == ["a", "b", "c"]
    other = order_of(Custom(lambda _: "ab"), None, state=order.state(batches=3, taken=3))
    with pytest.warns(UserWarning, match="Custom did not give the same 3 samples again"):
        assert rest_of(other) == []


def test_an_empty_batch_takes_a_turn():
    """A sampler may give empty lists: each is gone past as a batch."""
    sampler = Custom(lambda _: [[], [], [1], []])
    order = order_of(None, sampler)
    assert [next(order), next(order)] == [[], []]
    assert order.taken == 2
    assert rest_of(order_of(None, sampler, state=order.state(batches=2, taken=2))) == [[1], []]


class ByEpoch(Sampler):
    """Another order for each epoch that it is told."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(np.random.RandomState(self.epoch).permutation(20).tolist())


class Every(Sampler):
    """Every other batch of a batch sampler, as one of two ranks has them."""

    def __init__(self, batch_sampler):
        self.batch_sampler = batch_sampler

    def __iter__(self):
        return itertools.islice(iter(self.batch_sampler), 1, None, 2)

    def __len__(self):
        raise TypeError("nobody knows")


@pytest.mark.parametrize("begun", [False, True])
def test_the_epoch_of_a_sampler_inside_of_others_is_told(begun):
    """It is that of the state again, also where torch has asked for an iterator in another."""
    inner = ByEpoch()
    inner.set_epoch(5)
    expected = list(Every(BatchSampler(inner, 3, False)))
    order = order_of(None, Every(BatchSampler(inner, 3, False)))
    assert next(order) == expected[0]
    state = through_text(order.state(batches=1, taken=3))
    other = Every(BatchSampler(ByEpoch(), 3, False))
    started = iter(other) if begun else None
    assert rest_of(order_of(None, other, state=state, started=started)) == expected[1:]


def test_the_generator_of_a_sampler_inside_of_others_is_told():
    """A shuffled order inside of two samplers comes again from the generator's state."""

    def made(seed):
        inner = RandomSampler(range(20), generator=torch.Generator().manual_seed(seed))
        return Every(BatchSampler(inner, 3, False))

    order = order_of(None, made(1))
    had = next(order)
    state = through_text(order.state(batches=1, taken=3))
    expected = rest_of(order)
    assert [had, *expected] != list(made(2))
    assert rest_of(order_of(None, made(2), state=state)) == expected
