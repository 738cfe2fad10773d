"""A loader that loaded a state yields the rest of that epoch once, then whole epochs."""

import io
import json
import random

import numpy as np
import pytest
import torch
import torch.utils.data as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lampwork._core.errors import InputError
from lampwork.data import DataLoader
from tests.data.test_loader import end_workers, identical

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class Noisy(Dataset):
    """Each sample tells its index and what it drew from python's, numpy's and torch's generator."""

    def __init__(self, size, noisy=True):
        self.size, self.noisy, self.loaded = size, noisy, []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.loaded.append(index)
        if not self.noisy:
            return index
        return index, random.random(), np.random.rand(), torch.rand(2)


class Shared(IterableDataset):
    """The numbers below `size`, shared out by worker, each with noise from torch's generator."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        info = reference.get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for index in range(first, self.size, step):
            yield index, torch.rand(())


class Stateful(IterableDataset):
    """The numbers alone, shared out likewise, from wherever it stood; then anew."""

    def __init__(self, size):
        self.shared, self.at = Shared(size), 0

    def __iter__(self):
        numbers = [index for index, _ in self.shared]
        while self.at < len(numbers):
            self.at += 1
            yield numbers[self.at - 1]
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def followed(loader, stop, *, past_the_end=False):
    """The first `stop` batches of an epoch, and the state then."""
    iterator = iter(loader)
    batches = [next(iterator) for _ in range(stop)]
    if past_the_end:
        assert next(iterator, None) is None
    state = loader.state_dict()
    end_workers(iterator)
    return batches, state


def epoch(loader):
    """All that is left of an epoch, or a whole one."""
    iterator = iter(loader)
    batches = list(iterator)
    end_workers(iterator)
    return batches


def as_json(state):
    """The state, sent as JSON."""
    return json.loads(json.dumps(state))


def as_file(state):
    """The state, sent by `torch.save`."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def numbers(batches):
    """The samples' numbers in the order they came in."""
    fields = [batch[0] if isinstance(batch, list) else batch for batch in batches]
    return [number for field in fields for number in field.tolist()]


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 20),
    batch_size=st.integers(1, 6),
    shuffle=st.booleans(),
    own_generator=st.booleans(),
    drop_last=st.booleans(),
    keyed=st.booleans(),
    part=st.floats(0, 1),
    workers=st.sampled_from([(0, 0), (0, 0), (0, 0), (0, 0), (0, 2), (2, 0), (2, 2)]),
    sent=st.sampled_from([as_json, as_file]),
)
def test_rest_then_whole_epochs(
    size, batch_size, shuffle, own_generator, drop_last, keyed, part, workers, sent
):
    """Resumed anywhere, by any number of workers, it yields exactly the rest, then all again."""

    def made(num_workers, seed):
        torch.manual_seed(seed)
        return DataLoader(
            Noisy(size, noisy=keyed),
            batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=num_workers,
            generator=torch.Generator().manual_seed(seed) if own_generator else None,
            rng="keyed" if keyed else "torch",
        )

    whole = epoch(made(0, 5))
    stop = round(part * len(whole))
    had, state = followed(made(workers[0], 5), stop)
    assert identical(had, whole[:stop])
    assert len(repr(state)) <= 1024

    resumed = made(workers[1], 6)
    resumed.load_state_dict(sent(state))
    rest = epoch(resumed)
    if stop:
        assert identical(rest, whole[stop:])
    assert sorted(numbers(had + rest)) == sorted(numbers(whole)) or (drop_last and not stop)
    assert len(rest) == len(whole) - stop

    again = numbers(epoch(resumed))
    assert len(again) == len(set(again)) == (size // batch_size * batch_size if drop_last else size)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 20), batch_size=st.integers(1, 6), part=st.floats(0, 1))
def test_rest_is_torchs(size, batch_size, part):
    """What was had and the rest together are the epoch of torch's own loader, and so is the next.

    A generator that came with the state goes on as if nothing had been interrupted.
    """

    def made(kind, seed):
        generator = torch.Generator().manual_seed(seed)
        return kind(Noisy(size, noisy=False), batch_size, shuffle=True, generator=generator)

    torchs = made(reference.DataLoader, 8)
    first, second = list(torchs), list(torchs)
    stop = max(1, round(part * len(first)))
    had, state = followed(made(DataLoader, 8), stop)
    resumed = made(DataLoader, 9)
    resumed.load_state_dict(state)
    assert identical(had + epoch(resumed), first)
    assert identical(epoch(resumed), second)


@pytest.mark.parametrize("workers", [0, 2])
def test_state_after_the_end(workers):
    """After the loop was told the end a state means a whole epoch; before that, an empty rest."""
    made = lambda: DataLoader(Noisy(7, noisy=False), 3, shuffle=True, num_workers=workers)  # noqa: E731
    _, before = followed(made(), 3)
    _, after = followed(made(), 3, past_the_end=True)
    resumed = made()
    resumed.load_state_dict(before)
    assert epoch(resumed) == []
    assert sorted(numbers(epoch(resumed))) == list(range(7))
    resumed.load_state_dict(after)
    assert sorted(numbers(epoch(resumed))) == list(range(7))


def test_unused_loader_has_a_state():
    """A loader that was never iterated over has a state, and it means a whole epoch."""
    loader = DataLoader(Noisy(4, noisy=False), 2)
    loader.load_state_dict(DataLoader(Noisy(9, noisy=False)).state_dict())
    assert numbers(epoch(loader)) == [0, 1, 2, 3]


def test_loaded_state_is_told_until_used():
    """Between loading a state and the first batch, a loader tells that state."""
    _, state = followed(DataLoader(Noisy(9, noisy=False), 2, shuffle=True), 2)
    loader = DataLoader(Noisy(9, noisy=False), 2, shuffle=True)
    loader.load_state_dict(state)
    assert loader.state_dict() == state


def test_resumed_twice():
    """A resumed epoch can be interrupted and resumed again, from the state of either loader."""
    whole = epoch(seeded := DataLoader(Noisy(20, noisy=False), 3, sampler=shuffled(20, 3)))
    assert len(seeded) == 7
    had, state = followed(DataLoader(Noisy(20, noisy=False), 3, sampler=shuffled(20, 3)), 2)
    second = DataLoader(Noisy(20, noisy=False), 3, sampler=shuffled(20, 0))
    second.load_state_dict(state)
    more, state = followed(second, 2)
    third = DataLoader(Noisy(20, noisy=False), 3, sampler=shuffled(20, 1))
    third.load_state_dict(state)
    assert identical(had + more + epoch(third), whole)


def shuffled(size, seed):
    """A sampler that takes nothing from the global generator."""
    return reference.RandomSampler(range(size), generator=torch.Generator().manual_seed(seed))


def test_nothing_is_loaded_again():
    """The dataset is asked for the samples of the rest and for no others."""
    loader = DataLoader(Noisy(12, noisy=False), 2, shuffle=True)
    had, state = followed(loader, 4)
    dataset = Noisy(12, noisy=False)
    resumed = DataLoader(dataset, 2, shuffle=True)
    resumed.load_state_dict(state)
    rest = numbers(epoch(resumed))
    assert dataset.loaded == rest
    assert sorted(numbers(had) + rest) == list(range(12))


@pytest.mark.parametrize("own_generator", [False, True])
def test_state_stays_small(own_generator):
    """After many shuffled epochs of a large dataset the state still has at most 1 KB."""
    generator = torch.Generator().manual_seed(2) if own_generator else None
    data = TensorDataset(torch.arange(5000))
    loader = DataLoader(data, 1000, shuffle=True, generator=generator)
    for _ in range(30):
        epoch(loader)
    _, state = followed(loader, 2)
    assert len(repr(state)) <= 1024


@pytest.mark.parametrize("workers", [0, 2])
def test_data_in_memory(workers):
    """A dataset in memory, which is gathered at once, resumes like any other."""
    torch.manual_seed(4)
    data = TensorDataset(torch.arange(11), torch.rand(11, 2))

    def made(seed):
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(data, 2, shuffle=True, num_workers=workers, generator=generator)

    whole = epoch(made(1))
    for stop in range(1, 7):
        had, state = followed(made(1), stop)
        resumed = made(2)
        resumed.load_state_dict(state)
        assert identical(had + epoch(resumed), whole)
        assert sorted(numbers(epoch(resumed))) == list(range(11))


class Fussy(Noisy):
    """One that cannot load the first half of its samples."""

    def __getitem__(self, index):
        if index < self.size // 2:
            raise ValueError("broken")
        return index


class Mixed(reference.Sampler):
    """A sampler of a kind that nobody knows."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        half = self.size // 2
        return iter([*range(half, half + 2), *range(half), *range(half + 2, self.size)])

    def __len__(self):
        return self.size


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("known", [False, True])
def test_skipped_batches_are_not_due_again(workers, known):
    """A batch that was left out, as all its samples were skipped, does not shift the rest."""

    def made():
        data, order = Fussy(12), Mixed(12)
        if known:
            data, order = reference.Subset(data, list(order)), None
        return DataLoader(data, 2, sampler=order, num_workers=workers, on_error="skip")

    whole = epoch(made())
    assert numbers(whole) == [6, 7, 8, 9, 10, 11]
    for stop in range(1, 4):
        had, state = followed(made(), stop)
        resumed = made()
        resumed.load_state_dict(state)
        assert identical(had + epoch(resumed), whole)


# Streams


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_stateful_stream(workers):
    """A stream with `state_dict` goes on where its workers stood, in the same order of batches."""
    made = lambda: DataLoader(Stateful(20), 3, num_workers=workers)  # noqa: E731
    whole = epoch(made())
    assert sorted(numbers(whole)) == list(range(20))
    for stop in range(1, len(whole) + 1, 2):
        had, state = followed(made(), stop)
        resumed = made()
        resumed.load_state_dict(as_file(state))
        assert identical(had + epoch(resumed), whole)
        assert identical(epoch(resumed), whole)


def test_stateful_stream_with_a_batch_ahead():
    """A batch that is on its way to a device counts as not had."""
    made = lambda: DataLoader(Stateful(20), 3, num_workers=2, device="meta")  # noqa: E731
    whole = epoch(made())
    had, state = followed(made(), 3)
    resumed = made()
    resumed.load_state_dict(state)
    rest = epoch(resumed)
    assert [len(batch) for batch in had + rest] == [len(batch) for batch in whole]


class StatefulIterator(IterableDataset):
    """Its iterator has the state, not the dataset."""

    class Numbers:
        """0 to 9."""

        def __init__(self):
            self.at = 0

        def __iter__(self):
            return self

        def __next__(self):
            if self.at == 10:
                raise StopIteration
            self.at += 1
            return self.at - 1

        def state_dict(self):
            return self.at

        def load_state_dict(self, state):
            self.at = state

    def __iter__(self):
        return self.Numbers()


@pytest.mark.parametrize("workers", [0, 1])
def test_stateful_iterator(workers):
    """Also the iterator over a stream may be what has the state."""
    _, state = followed(DataLoader(StatefulIterator(), 3, num_workers=workers), 2)
    resumed = DataLoader(StatefulIterator(), 3, num_workers=1 - workers)
    resumed.load_state_dict(state)
    assert numbers(epoch(resumed)) == [6, 7, 8, 9]
    assert numbers(epoch(resumed)) == list(range(10))


class Untold(Stateful):
    """One that fails to tell where it stands."""

    def state_dict(self):
        raise KeyError("cannot tell")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_that_cannot_tell(workers):
    """An error of a stream's `state_dict` is raised with the batch, as any other of the dataset."""
    with pytest.raises(KeyError, match="cannot tell"):
        epoch(DataLoader(Untold(4), 2, num_workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_without_state_is_replayed(workers):
    """Any other stream is loaded again from the beginning, with a warning, up to where it stood.

    In workers, which are seeded as before, that gives the same random numbers as well.
    """

    def made():
        return DataLoader(Shared(20), 3, num_workers=workers)

    torch.manual_seed(1)
    whole = epoch(made())
    for stop in (1, 4, len(whole)):
        torch.manual_seed(1)
        had, state = followed(made(), stop)
        assert len(repr(state)) <= 1024
        torch.manual_seed(2 if workers else 1)
        resumed = made()
        resumed.load_state_dict(state)
        with pytest.warns(UserWarning, match=f"Shared has no state_dict.* the {stop} batches") as w:
            rest = epoch(resumed)
        assert w[0].filename == __file__
        assert identical(had + rest, whole)
        assert resumed.stats().batches == len(rest)
        assert sorted(numbers(epoch(resumed))) == list(range(20))


def test_replayed_stream_is_told_where_it_stands():
    """Before and after its first batch a resumed stream that is replayed tells the right state."""
    whole = numbers(epoch(DataLoader(Shared(9), 2)))
    _, state = followed(DataLoader(Shared(9), 2), 2)
    for more in (0, 1, 2):
        resumed = DataLoader(Shared(9), 2)
        resumed.load_state_dict(state)
        iterator = iter(resumed)
        if more:
            with pytest.warns(UserWarning, match="2 batches"):
                next(iterator)
        for _ in range(1, more):
            next(iterator)
        again = DataLoader(Shared(9), 2)
        again.load_state_dict(resumed.state_dict())
        with pytest.warns(UserWarning, match=f"the {2 + more} batches"):
            assert numbers(epoch(again)) == whole[4 + 2 * more :]


def test_samples_of_a_stream_one_by_one():
    """Without automatic batching a stream is replayed by the sample."""
    _, state = followed(DataLoader(Shared(6), batch_size=None), 2)
    resumed = DataLoader(Shared(6), batch_size=None)
    resumed.load_state_dict(state)
    with pytest.warns(UserWarning, match="2 batches"):
        assert [index for index, _ in epoch(resumed)] == [2, 3, 4, 5]


# Refusals


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (
            {"_snapshot": {}, "_steps_since_snapshot": 0},
            "one of torchdata's StatefulDataLoader: pass what loader.state_dict[(][)] returned",
        ),
        ({"step": 3, "epoch": 1}, r"a dict with the keys \['epoch', 'step'\]"),
        (None, "no state of a lampwork loader but of type NoneType"),
        ([1], "of type list"),
        (
            {"lampwork": 99},
            "the state has format 99, this version reads 1: load it with the version of lampwork",
        ),
    ],
)
def test_foreign_states_are_refused(state, text):
    """What no lampwork loader of this version has told is refused, saying what it is."""
    with pytest.raises(InputError, match=text):
        DataLoader(Noisy(4)).load_state_dict(state)


def test_other_datasets_are_refused():
    """A state of a dataset of another length is refused, and leaves the loader as it was."""
    _, state = followed(DataLoader(Noisy(9, noisy=False), 2), 2)
    loader = DataLoader(Noisy(8, noisy=False), 4)
    text = "the state is of a dataset of 9 samples, this one has 8: load it with the dataset it was"
    with pytest.raises(InputError, match=text):
        loader.load_state_dict(state)
    assert numbers(epoch(loader)) == list(range(8))


@pytest.mark.parametrize("kind", [Stateful, Shared])
def test_streams_of_other_workers_are_refused(kind):
    """As its samples are shared out by worker, a stream resumes with as many workers only."""
    _, state = followed(DataLoader(kind(9), 2, num_workers=2), 1)
    text = "the state holds the streams of 2 workers, this loader has 0: .* pass num_workers=2"
    with pytest.raises(InputError, match=text):
        DataLoader(kind(9), 2).load_state_dict(state)
