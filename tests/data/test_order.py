"""The order of an epoch against torch's own samplers: indices, random states, resuming."""

import ast
import itertools
import json
import random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lampwork._core.errors import InputError
from lampwork.data import DistributedOrder
from lampwork.data.drawn import random_state
from lampwork.data.order import order_of

END = "end"
RANKS = (3, 1)
"""Three ranks, of which this is the second: for the samplers that know of them."""

KNOWN = [
    "sequential",
    "random",
    "random, many",
    "random, generator",
    "random, generator, many",
    "distributed",
    "distributed, cut",
    "distributed, plain",
    "ours",
    "ours, padded",
    "ours, cut",
    "ours, plain",
]
DRAWN = ["replacement", "replacement, generator", "weighted", "subset", "subset, generator"]


class Sized:
    """A dataset of which only the length is ever asked for."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


def sampler_of(kind, size, generator=None, many=None, ranks=(1, 0)):
    """A sampler of torch's, or our `DistributedOrder`; `generator` where the kind says so."""
    data, weights = Sized(size), torch.arange(1.0, size + 1)
    generator = generator if "generator" in kind else None
    many = many if "many" in kind else None
    torchs = {"cut": {"drop_last": True}, "plain": {"shuffle": False}}
    ours = {"padded": {"pad": True}, **torchs}
    match kind.split(", ")[0]:
        case "sequential":
            return SequentialSampler(data)
        case "random":
            return RandomSampler(data, num_samples=many, generator=generator)
        case "distributed":
            return DistributedSampler(data, *ranks, **torchs.get(kind.split(", ")[-1], {}))
        case "ours":
            return DistributedOrder(data, *ranks, **ours.get(kind.split(", ")[-1], {}))
        case "replacement":
            return RandomSampler(data, replacement=True, num_samples=many, generator=generator)
        case "weighted":
            return WeightedRandomSampler(weights, 2 * size, generator=generator)
        case _:
            return SubsetRandomSampler(range(5, size + 5), generator=generator)


def plain(index):
    """An index as torch's samplers give it."""
    if isinstance(index, torch.Tensor):
        assert (index.dtype, index.dim(), index.device.type) == (torch.int64, 1, "cpu")
        return index.tolist()
    return list(index) if isinstance(index, range) else index


def batched(sampler, batch_size, drop_last):
    """The batch sampler that torch's loader makes of these."""
    return None if batch_size is None else BatchSampler(sampler, batch_size, drop_last)


def ask(iterator):
    """The next index, or `END`."""
    try:
        return plain(next(iterator))
    except StopIteration:
        return END


def drawn(iterator, generator, most=1000):
    """Up to so many indices, the end included, with the random states after each."""
    found = []
    while len(found) < most and (not found or found[-1][0] != END):
        found.append((ask(iterator), torch.get_rng_state(), generator.get_state()))
    return found


def same(one, other):
    """Whether indices and random states are alike."""
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
        for a, b in zip(one, other, strict=True)
    )


def indices(found):
    """What was drawn, without the random states."""
    return [index for index, *_ in found if index != END]


def through_text(state):
    """The state as another process reads it, written as Python's literals and as JSON."""
    literal = ast.literal_eval(repr(state))
    assert literal == state
    return json.loads(json.dumps(literal))


cases = {
    "size": st.integers(1, 40),
    "batch_size": st.one_of(st.none(), st.integers(1, 12)),
    "drop_last": st.booleans(),
    "many": st.integers(1, 100),
    "seed": st.integers(0, 2**62),
}


@settings(max_examples=100)
@given(
    kind=st.sampled_from(KNOWN + DRAWN),
    stops=st.lists(st.one_of(st.just(1000), st.integers(0, 12)), min_size=1, max_size=4),
    leads=st.booleans(),
    **cases,
)
def test_every_order_is_torchs(kind, stops, leads, size, batch_size, drop_last, many, seed):
    """Batch by batch and over epochs, stopped early or not, indices and generators are torch's."""

    def run(begin):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed + 1)
        sampler = sampler_of(kind, size, generator, many, RANKS)
        found = []
        for stop in stops:
            iterator = begin(sampler, batched(sampler, batch_size, drop_last))
            if leads:  # as a loader with the same generator
                torch.empty((), dtype=torch.int64).random_(generator=generator)
            found += drawn(iterator, generator, stop)
        return found

    torchs = run(lambda sampler, batches: iter(sampler if batches is None else batches))
    assert same(run(order_of), torchs)


class Process:
    """A process that loads: a generator of its own, a sampler, one order after another."""

    def __init__(self, kind, size, batch_size, drop_last, many, seed, foreign=""):
        self.ranks = RANKS if kind.split(",")[0] in ("distributed", "ours") else (1, 0)
        self.generator = torch.Generator().manual_seed(seed)
        self.sampler = sampler_of(kind, size, self.generator, many, self.ranks)
        self.batches = batched(self.sampler, batch_size, drop_last)
        self.foreign = foreign
        if foreign:
            torch.rand(3, generator=self.generator)

    def begin(self, begin=order_of, **state):
        """As a loader that has the same generator as its sampler."""
        order = begin(self.sampler, self.batches, **state)
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        if self.foreign == "always":
            torch.rand(3, generator=self.generator)
        return order

    def epoch(self, most=1000):
        """The indices of a whole epoch, or the first of them."""
        return indices(drawn(self.begin(), self.generator, most))

    def state(self, order, had):
        """The state after these indices of the epoch."""
        taken = sum(len(index) if isinstance(index, list) else 1 for index in had) * self.ranks[0]
        return order.state(batches=len(had), taken=taken)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(KNOWN + DRAWN),
    epochs=st.lists(st.one_of(st.just(1000), st.integers(0, 5)), max_size=3),
    parts=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=3),
    foreign=st.sampled_from(["", "once", "always"]),
    **cases,
)
def test_a_state_gives_the_rest(kind, epochs, parts, foreign, seed, **case):
    """Told in one process and read in the next, time and again, exactly the rest comes.

    Whatever was drawn ahead, and whoever else drew from the generator. After it the generator is
    where it would be, so the next epoch is the same as well, and nothing else was drawn from.
    """
    torch.manual_seed(seed)
    whole = Process(kind, seed=seed, foreign=foreign, **case)
    for most in epochs:
        whole.epoch(most)
    expected, left = whole.epoch(), whole.generator.get_state()
    next_epoch = whole.epoch()

    torch.manual_seed(seed)
    process = Process(kind, seed=seed, foreign=foreign, **case)
    for most in epochs:
        process.epoch(most)
    order, had = process.begin(), []
    for place, (count, ahead) in enumerate(parts):
        # Of an order that was not begun there is nothing to tell.
        found = indices(drawn(order, process.generator, max(count + ahead, place == 0)))
        had += found[:count]
        state = through_text(process.state(order, had))
        process, outside = Process(kind, seed=3, foreign=foreign, **case), random_state()
        order = process.begin(state=state)
    had += indices(drawn(order, process.generator))
    assert had == expected
    assert random_state() == outside
    if "generator" in kind:
        assert torch.equal(process.generator.get_state(), left)
        assert process.epoch() == next_epoch


@pytest.mark.parametrize("kind", KNOWN)
def test_the_state_of_a_known_order_is_small(kind):
    """For ten epochs of a thousand samples, with the loader's seeds from the same generator."""
    process = Process(kind, 1000, 10, False, 3000, seed=2**63)
    for _ in range(10):
        order = process.begin()
        had = indices(drawn(order, process.generator))
        assert len(repr(process.state(order, had))) < 250


@pytest.mark.parametrize("kind", [kind for kind in KNOWN if kind not in ("random", "random, many")])
def test_an_order_can_be_told_before_it_is_begun(kind):
    """Where the order is settled before its first index, it comes in another process as well."""
    process = Process(kind, 20, 3, False, 50, seed=1)
    process.epoch()
    order = process.begin()
    state = through_text(process.state(order, []))
    expected = indices(drawn(order, process.generator))
    assert len(repr(process.state(order, expected))) < 250
    process = Process(kind, 20, 3, False, 50, seed=2)
    assert indices(drawn(process.begin(state=state), process.generator)) == expected


@pytest.mark.parametrize("kind", ["random", "random, many", *DRAWN])
def test_telling_draws_nothing(kind):
    """The state before the first index says that there is none, and asking leaves no trace."""
    process = Process(kind, 20, 3, False, 50, seed=1)
    order, before = process.begin(), (random_state(), process.generator.get_state())
    state = through_text(process.state(order, []))
    assert state == {"kind": "unbegun"}
    assert random_state() == before[0]
    assert torch.equal(process.generator.get_state(), before[1])
    torch.manual_seed(0)
    expected = process.epoch()
    torch.manual_seed(0)
    process = Process(kind, 20, 3, False, 50, seed=1)
    process.begin()
    assert indices(drawn(process.begin(state=state), process.generator)) == expected or (
        "generator" in kind
    )


# Ranks


def ranks_of(kind, size, ranks, batch_size=None, drop_last=False, state=None):
    """The order of each rank."""
    samplers = [sampler_of(kind, size, ranks=(ranks, rank)) for rank in range(ranks)]
    return [order_of(one, batched(one, batch_size, drop_last), state=state) for one in samplers]


def in_turn(shares):
    """The order of all ranks from the shares of each."""
    turns = itertools.zip_longest(*shares, fillvalue=END)
    return [index for turn in turns for index in turn if index != END]


def samples(order, most=1000):
    """All indices of up to so many batches."""
    found = list(itertools.takewhile(lambda index: index != END, (ask(order) for _ in range(most))))
    return list(itertools.chain(*found)) if found and isinstance(found[0], list) else found


@given(
    kind=st.sampled_from([kind for kind in KNOWN if kind.split(",")[0] in ("distributed", "ours")]),
    size=st.integers(1, 60),
    worlds=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    batch_sizes=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    steps=st.integers(0, 12),
    teller=st.integers(0, 4),
)
@example("ours", 7, (2, 1), (2, 3), 2, 1)  # the rank that tells had less in its last batch
def test_other_ranks_go_on(kind, size, worlds, batch_sizes, steps, teller):
    """After some steps of all ranks, other ranks with other batches share exactly the rest.

    Only what makes ranks even is repeated or left out; whichever rank tells, tells the same.
    """
    whole = samples(ranks_of(kind, size, 1, 1)[0])
    before = ranks_of(kind, size, worlds[0], batch_sizes[0])
    shares = [[ask(order) for _ in range(steps)] for order in before]
    had = in_turn([list(itertools.chain(*indices(zip(share)))) for share in shares])
    taken = worlds[0] * batch_sizes[0] * steps
    assert had == [whole[place % size] for place in range(len(had))]

    # At the end some may have had a batch more than others: who was told of the end tells no more.
    states = [
        through_text(order.state(batches=steps, taken=worlds[0] * sum(map(len, share))))
        for order, share in zip(before, shares, strict=True)
        if END not in share
    ]
    if not states:
        return
    state = states[teller % len(states)]
    found = in_turn(
        [samples(order) for order in ranks_of(kind, size, worlds[1], batch_sizes[1], state=state)]
    )
    left = whole[taken:]
    if "cut" in kind:
        assert found == whole[len(had) :][: len(found)]
        assert size - len(had) - len(found) < worlds[1]
    else:
        assert found[: len(left)] == left
        assert len(found) - len(left) < worlds[1]
    if kind in ("ours", "ours, plain"):
        assert found == left
        assert len({repr(state) for state in states}) == 1


@pytest.mark.parametrize("kind", ["ours", "distributed"])
def test_other_ranks_go_on_from_other_ranks(kind):
    """An order that was resumed in the middle of a former batch is told, and goes on, as well."""
    whole = samples(ranks_of(kind, 20, 1, 1)[0])
    state = ranks_of(kind, 20, 3, 2)[0]
    ask(state)
    state = state.state(batches=1, taken=6)
    for order in (orders := ranks_of(kind, 20, 2, 4, state=state)):
        ask(order)
        assert order.taken == 14
    states = [order.state(batches=2, taken=14) for order in orders]
    assert states[0] == states[1]
    assert (
        in_turn([samples(one) for one in ranks_of(kind, 20, 2, 3, state=states[0])]) == whole[14:]
    )


def test_positions_name_the_samples_of_all_ranks():
    """Sample j of a batch stands at taken + offset + j * stride of the order of all ranks."""
    whole = samples(ranks_of("ours", 31, 1, 1)[0])
    for order in ranks_of("ours", 31, 3, 4):
        for _ in range(3):
            first = order.taken + order.offset
            batch = ask(order)
            assert batch == whole[first :: order.stride][: len(batch)]


@pytest.mark.parametrize("kind", ["distributed", "ours"])
def test_seed_and_epoch_of_the_state_win(kind):
    """For the epoch that is resumed only; the next one is the sampler's own."""
    sampler = sampler_of(kind, 30)
    sampler.seed = 5
    sampler.set_epoch(7)
    order = order_of(sampler, BatchSampler(sampler, 4, False))
    ask(order)
    state = through_text(order.state(batches=1, taken=4))
    expected = samples(order)
    other = sampler_of(kind, 30)
    batches = BatchSampler(other, 4, False)
    assert samples(order_of(other, batches, state=state)) == expected
    assert samples(order_of(other, batches)) == list(other)
    assert (other.seed, other.epoch) == (0, 0)


@pytest.mark.parametrize("kind", ["distributed", "ours"])
def test_the_epoch_is_read_at_the_first_index(kind):
    """An epoch counts that is set after the order was made but before it is asked, as in torch."""
    sampler = sampler_of(kind, 30)
    order = order_of(sampler, BatchSampler(sampler, 30, False))
    sampler.set_epoch(3)
    found = ask(order)
    assert found == list(sampler)
    sampler.set_epoch(4)
    assert found != list(sampler)


# Samplers that are not known


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


def rest_of(order):
    """All that is left, as it is given."""
    return list(iter(lambda: next(order, END), END))


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


class Backwards(SequentialSampler):
    def __iter__(self):
        return iter(range(len(self) - 1, -1, -1))


class Sorted(RandomSampler):
    def __iter__(self):
        return iter(sorted(super().__iter__()))


class Doubled(DistributedSampler):
    def __iter__(self):
        return (2 * index for index in super().__iter__())


class Pairs(BatchSampler):
    def __iter__(self):
        return iter([[0, 1], [2, 3]])


def test_a_subclass_is_not_what_it_is_derived_from():
    """What a subclass of torch's samplers overrides is heeded."""
    sampler = Backwards(Sized(3))
    assert list(order_of(sampler, None)) == [2, 1, 0]
    assert list(order_of(sampler, BatchSampler(sampler, 2, False))) == [[2, 1], [0]]
    assert list(order_of(Sorted(Sized(30)), None)) == list(range(30))
    assert list(order_of(Doubled(Sized(3), 1, 0, shuffle=False), None)) == [0, 2, 4]
    assert list(order_of(sampler, Pairs(SequentialSampler(Sized(3)), 2, False))) == [[0, 1], [2, 3]]


# Generators


@pytest.mark.parametrize(("generator", "permutations"), [(None, 1), (torch.Generator(), 2)])
def test_a_last_permutation_is_drawn_only_for_others(generator, permutations, monkeypatch):
    """One more than is used, as torch does it; where nobody has the generator, it is left out."""
    drawn, randperm = [], torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *a, **k: drawn.append(a) or randperm(*a, **k))
    assert len(rest_of(order_of(sampler_of("random, generator", 9, generator), None))) == 9
    assert drawn == [(9,)] * permutations


@pytest.mark.parametrize("other", ["an order", "somebody"])
def test_a_generator_is_shared_in_mid_epoch(other):
    """What is drawn between two permutations of an epoch is heeded by the next epoch's state."""
    case = ("random, generator, many", 10, 4, False, 25)

    def run(begin):
        process = Process(*case, seed=1)
        order = process.begin(begin)
        found = drawn(order, process.generator, 1)
        if other == "somebody":
            torch.randperm(10, generator=process.generator)
            return process, found + drawn(order, process.generator)
        second = process.begin(begin)
        for _ in range(7):
            found += drawn(order, process.generator, 1) + drawn(second, process.generator, 1)
        return process, found

    process, found = run(order_of)
    assert same(found, run(lambda _, batches: iter(batches))[1])
    order = process.begin()
    had = indices(drawn(order, process.generator, 1))
    state = through_text(process.state(order, had))
    expected = indices(drawn(order, process.generator))
    resumed = Process(*case, seed=2)
    assert indices(drawn(resumed.begin(state=state), resumed.generator)) == expected


def test_a_generator_that_is_seeded_anew_is_told_by_its_seed():
    """Seeding it for each epoch, as many do, keeps the state small whatever was drawn before."""
    process = Process("random, generator", 100, 10, False, None, seed=0)
    for epoch in range(4):
        torch.rand(5, generator=process.generator)
        process.generator.manual_seed(epoch)
        order = process.begin()
        had = [ask(order)]
        state = through_text(process.state(order, had))
        assert len(repr(state)) < 150
        other = Process("random, generator", 100, 10, False, None, seed=9)
        expected = indices(drawn(order, process.generator))
        assert indices(drawn(other.begin(state=state), other.generator)) == expected


# What does not fit


def state_of(kind):
    """Of an order of 20 samples of which one was taken."""
    order = order_of(sampler_of(kind, 20, torch.Generator(), 20), None)
    next(order)
    return order.state(batches=1, taken=1)


@pytest.mark.parametrize(
    ("told", "loaded", "message"),
    [
        ("sequential", "random", "a sequential order, which RandomSampler does not make"),
        ("random", "ours", "a shuffled order, which DistributedOrder does not make"),
        ("ours", "distributed", "a keyed distributed order, which DistributedSampler does not"),
        ("weighted", "random", "a drawn order, which RandomSampler does not make"),
        ("random", "subset", "a shuffled order, which SubsetRandomSampler does not make"),
    ],
)
def test_a_state_of_another_kind_is_told(told, loaded, message):
    """The message has both kinds and the cure; nothing is resumed in another order in silence."""
    with pytest.raises(
        InputError, match=f"the state is of {message}.*: load it into a loader with"
    ):
        order_of(sampler_of(loaded, 20), None, state=state_of(told))


def test_a_state_of_a_loader_without_the_batch_sampler_is_told():
    """Where a batch sampler of the user's own gives the order, it is the one that is named."""
    with pytest.raises(InputError, match="a shuffled order, which Custom does not make"):
        order_of(sampler_of("sequential", 20), Custom(lists), state=state_of("random"))


@pytest.mark.parametrize("kind", ["ours", "distributed"])
def test_a_state_shuffled_otherwise_is_told(kind):
    """An order that was shuffled is not gone on with in one that is not, nor the other way."""
    with pytest.raises(InputError, match="of a shuffled one, but the sampler has shuffle=False"):
        order_of(sampler_of(f"{kind}, plain", 20), None, state=state_of(kind))
    with pytest.raises(InputError, match=r"of one that is not shuffled, but .* shuffle=True"):
        order_of(sampler_of(kind, 20), None, state=state_of(f"{kind}, plain"))


def test_a_state_of_another_size_is_told():
    """A permutation of another length is another one."""
    order = order_of(sampler_of("random", 21), None, state=state_of("random"))
    with pytest.raises(InputError, match="shuffled order of 20 samples, the sampler has 21: load"):
        next(order)
