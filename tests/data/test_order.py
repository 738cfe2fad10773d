"""The order of an epoch against torch's own samplers: indices, random states, resuming."""

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)

from lampwork._core.errors import InputError
from lampwork.data.drawn import random_state
from lampwork.data.order import order_of
from tests.data.orders import (
    DRAWN,
    END,
    KNOWN,
    RANKS,
    Sized,
    ask,
    batched,
    drawn,
    indices,
    rest_of,
    same,
    sampler_of,
    through_text,
)
from tests.data.test_drawn import Custom, lists

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
