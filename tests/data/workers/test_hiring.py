"""Workers that stay for the next epoch do what torch's new ones do."""

import abc
import dataclasses
import enum
import functools
import gc
import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader
from lampwork.data.workers import fingerprint
from tests.data.workers.held import LOADERS, Held, epochs, plain

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


# Kept


class Pids(Held):
    def __getitem__(self, index):
        return os.getpid()


def used(loader):
    """The processes that load an epoch."""
    return {pid for batch in loader for pid in plain(batch)}


def test_workers_stay_where_nothing_has_changed():
    """Three epochs, the same processes; numbers drawn in between change nothing that they see."""
    loader = DataLoader(Pids(), batch_size=2, num_workers=2, shuffle=True)
    first = used(loader)
    assert len(first) == 2
    torch.rand(3), random.random(), np.random.rand()
    assert used(loader) == first
    assert used(loader) == first


def doubled(number):
    """A function that a dataset may hold."""
    return number * 2


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    colour: Colour = Colour.RED


class Pair(NamedTuple):
    first: int
    options: Options


class Usual(Pids, abc.ABC):
    """Holds and uses what datasets of users usually do."""

    def __init__(self):
        self.pair, self.path = Pair(1, Options()), Path("data")
        self.transform = torch.nn.Sequential(torch.nn.Flatten(0), torch.nn.ReLU())
        self.partial = functools.partial(doubled, 3)
        self.generator = np.random.default_rng(0)

    @functools.cached_property
    def cached(self):
        return doubled(self.remembered(2))

    @staticmethod
    @functools.lru_cache
    def remembered(number):
        return number

    def __getitem__(self, index):
        assert (self.cached, self.pair.options.colour) == (4, Colour.RED)
        return super().__getitem__(index)


def test_workers_stay_with_a_dataset_of_the_usual_things():
    """Enums, dataclasses, modules, caches, generators: none of them is mistaken for a change."""
    loader = DataLoader(Usual(), batch_size=2, num_workers=2)
    first = used(loader)
    assert len(first) == 2
    assert used(loader) == first


def test_workers_that_wait_for_the_next_epoch_may_be_killed():
    """It is loaded by others then."""
    loader = DataLoader(Pids(), batch_size=2, num_workers=2)
    first = used(loader)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 5
    while any(running(pid) for pid in first):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert len(used(loader)) == 2
    assert not used(loader) & first


def running(pid):
    """Whether a process is there and no zombie."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Reluctant:
    """A sampler whose order cannot be had."""

    def __iter__(self):
        raise OSError("no order today")

    def __len__(self):
        return 8


def test_workers_go_at_once_where_the_sampler_fails():
    """Nothing was sent to them yet; they still hear that it is over."""
    loader = DataLoader(Pids(), batch_size=2, num_workers=2, sampler=Reluctant())
    began = time.monotonic()
    with pytest.raises(OSError, match="no order today"):
        next(iter(loader))
    gc.collect()
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 3  # workers that hear nothing look up after five seconds


class Many(Held):
    def __init__(self, tensors):
        self.tensors = [torch.zeros(1) for _ in range(tensors)]

    def __getitem__(self, index):
        return os.getpid()


@pytest.mark.parametrize("tensors", [5, 6], ids=["as many as are looked at", "one more"])
def test_workers_go_where_looking_would_take_longer_than_starting(tensors, monkeypatch):
    """Up to a number of tensors the dataset is looked at."""
    monkeypatch.setattr(fingerprint, "MOST_TENSORS", 5)
    loader = DataLoader(Many(tensors), batch_size=2, num_workers=2)
    assert (used(loader) == used(loader)) is (tensors == 5)


def test_two_passes_at_a_time_have_workers_of_their_own():
    """As by torch: one loader may be followed twice at once."""
    ours = DataLoader(Held(), batch_size=2, num_workers=1)
    both = [(plain(a), plain(b)) for a, b in zip(ours, ours, strict=True)]
    expected = plain(list(reference.DataLoader(Held(), batch_size=2)))
    assert both == [(batch, batch) for batch in expected]
    assert plain(list(ours)) == expected


# As if new


class Gathering(Held):
    """Its copy in a worker gathers state, in itself and in its class's and module's globals."""

    def __init__(self):
        self.seen, self.calls, self.array = [], 0, np.zeros(1)

    def __getitem__(self, index):
        self.calls += 1
        self.array += 1
        self.seen.append(index)
        return self.calls, int(self.array[0]), sum(self.seen)


def test_each_epoch_begins_with_an_unused_copy_of_the_dataset():
    """What the workers' copies gather is gone with the epoch, and never reaches the trainer's."""
    theirs, ours = (epochs(loader_class, Gathering, count=3) for loader_class in LOADERS)
    assert ours == theirs
    assert theirs[0] == theirs[2]


def test_persistent_workers_go_on_with_their_copies():
    """That is what they are persistent for."""
    options = {"count": 3, "persistent_workers": True}
    theirs, ours = (epochs(loader_class, Gathering, **options) for loader_class in LOADERS)
    assert ours == theirs
    assert theirs[0] != theirs[1]


class Slow(Gathering):
    def __getitem__(self, index):
        time.sleep(0.02)
        return *super().__getitem__(index), torch.rand(1).item()


def test_persistent_workers_finish_what_they_were_given_when_a_loop_breaks_off():
    """Their copies and generators then stand where torch's do, however fast the loop was."""
    seen = []
    for loader_class in LOADERS:
        torch.manual_seed(0)
        options = {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 2}
        loader = loader_class(Slow(), **options)
        next(iter(loader))
        seen.append(plain(list(loader)))
    assert seen[1] == seen[0]


class Drawing(Held):
    """Draws from every generator; `salt` is set by `worker_init_fn`."""

    salt = 0.0

    def __getitem__(self, index):
        info = reference.get_worker_info()
        drawn = torch.rand(1).item(), float(np.random.rand()), random.random()
        return *drawn, info.id, info.seed, info.num_workers, info.dataset is self, self.salt


def salted(worker):
    """Draws, and adds to what the dataset holds."""
    reference.get_worker_info().dataset.salt += torch.rand(1).item() + worker


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("own_generator", [False, True])
def test_seeds_and_worker_init_fn_are_new_each_epoch_as_by_torch(persistent, own_generator):
    """The same numbers from torch, numpy and random, bit for bit, and the same worker info."""
    seen = []
    for loader_class in LOADERS:
        generator = torch.Generator().manual_seed(5) if own_generator else None
        options = {"worker_init_fn": salted, "generator": generator, "shuffle": True}
        options |= {"persistent_workers": persistent, "count": 3}
        seen.append((epochs(loader_class, Drawing, **options), torch.rand(1).item()))
    assert seen[1] == seen[0]
    drawn = [tuple(map(str, epoch)) for epoch in seen[0][0]]
    assert len(set(drawn)) == 3


# Shared on purpose


class Sharing(Held):
    """Counts in memory that belongs to all processes."""

    def __init__(self, method="fork"):
        self.count = multiprocessing.get_context(method).Value("i", 0)
        self.tensor = torch.zeros(8).share_memory_()

    def __getitem__(self, index):
        with self.count.get_lock():
            self.count.value += 1
        self.tensor[index] += 1
        return self.tensor[0].clone() * 0 + index


class SharedTensor(Sharing):
    """Shares nothing but a tensor."""

    def __init__(self):
        self.tensor = torch.zeros(8).share_memory_()

    def __getitem__(self, index):
        self.tensor[index] += 1
        return index


@pytest.mark.parametrize("make", [Sharing, SharedTensor])
def test_what_is_shared_stays_shared_in_later_epochs(make):
    """A Value counts the samples of all epochs, a shared tensor is the same memory for all."""
    dataset = make()
    loader = DataLoader(dataset, batch_size=2, num_workers=2)
    for epoch in range(1, 4):
        assert len(list(loader)) == 4
        assert dataset.tensor.tolist() == [epoch] * 8
        if make is Sharing:
            assert dataset.count.value == 8 * epoch


# Other ways to start


class Counted(Drawing):
    """Counts how often it is pickled; the parts that are shared cross as they are."""

    pickled = itertools.count()

    def __init__(self, method="fork"):
        self.shared = Sharing(method)
        self.numbers = list(range(1000))

    def __getstate__(self):
        next(self.pickled)
        return vars(self)

    def __getitem__(self, index):
        self.shared[index]
        return *super().__getitem__(index), self.numbers[index]


def test_spawned_workers_do_as_forked_ones_and_the_dataset_is_pickled_once(monkeypatch):
    """The same batches in each epoch, from one pickle for three workers; what is shared is so."""
    options = {"num_workers": 3, "worker_init_fn": salted, "shuffle": True, "count": 2}
    forked = epochs(reference.DataLoader, Counted, **options)
    for method in ("spawn", "forkserver"):
        monkeypatch.setattr(Counted, "pickled", itertools.count())
        dataset = Counted(method)
        persistent = method == "spawn"
        seen = epochs(
            DataLoader,
            lambda dataset=dataset: dataset,
            multiprocessing_context=method,
            persistent_workers=persistent,
            **options,
        )
        assert seen[0] == forked[0]
        if not persistent:
            assert seen == forked
        # Without persistent workers it is looked at once more, to see whether it has changed.
        most = 1 if persistent else 4
        assert 1 <= next(Counted.pickled) <= most
        assert dataset.shared.count.value == 16
        assert dataset.shared.tensor.tolist() == [2] * 8


class Listed(Held):
    def __init__(self, held):
        self.held = held

    def __getitem__(self, index):
        return os.getpid(), self.held.array[index]


assert sys.modules[__name__].Listed is Listed  # spawned workers find it by its name


def test_spawned_workers_stay_and_see_changes():
    """Also those of a template: the same processes while nothing changes, right ones if it does."""
    dataset = Held()
    del dataset.tensor  # pickling for a new process makes it shared, and so no workers would stay
    loader = DataLoader(
        Listed(dataset), batch_size=4, num_workers=1, multiprocessing_context="spawn"
    )
    first, again = plain(list(loader)), plain(list(loader))
    assert again == first
    dataset.array[1] = 77
    changed = plain(list(loader))
    assert [samples for _, samples in changed] == [[0, 77, 2, 3], [4, 5, 6, 7]]
    assert {pid for pids, _ in first for pid in pids}.isdisjoint(changed[0][0])
