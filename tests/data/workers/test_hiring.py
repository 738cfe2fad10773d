"""Workers that stay for the next epoch do what torch's new ones do, whatever has changed."""

import abc
import dataclasses
import enum
import functools
import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader
from lampwork.data.workers import fingerprint

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

LOADERS = (reference.DataLoader, DataLoader)
SCALE = 1
TABLE = {"row": [1, 2]}

# A module of the user's, such as one of settings, without a file of its own.
settings = types.ModuleType("settings_of_this_test")
settings.scale = 1
settings.scaled = eval("lambda number: number * scale", vars(settings))


class Held(reference.Dataset):
    """Eight samples that depend on what the dataset holds."""

    offset = 0
    array_of_class = np.zeros(2)

    def __init__(self):
        self.number = 1
        self.numbers = [1, {"two": 2}]
        self.array = np.arange(8.0)
        self.tensor = torch.arange(8.0)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        held = self.number + self.numbers[0] + self.numbers[1]["two"] + self.offset
        return index + held + self.array[index] + self.tensor[index] + self.array_of_class[0]


class Global(Held):
    """Reads a global of this module, one level down."""

    def __getitem__(self, index):
        return self.scaled(index)

    def scaled(self, index):
        return [number * SCALE + TABLE["row"][0] for number in (index, index + 1)]


class OtherModule(Held):
    """Reads a global of another module."""

    def __getitem__(self, index):
        return index * settings.scale


class OtherFunction(Held):
    """Calls a function of another module that reads a global there."""

    def __getitem__(self, index):
        return settings.scaled(index)


class Surroundings(Held):
    """Reads what every process has of its own."""

    def __getitem__(self, index):
        return os.environ.get("SAMPLES_OF_THIS_TEST", "none"), torch.rand(1).dtype == torch.double


class Folder(Held):
    """Reads a path that is relative to the working directory."""

    def __getitem__(self, index):
        return os.getcwd()


class Shed(Held):
    """Leaves a part of itself out of its pickle, which a forked worker has all the same."""

    def __init__(self):
        self.cache = [0]

    def __getstate__(self):
        return {}

    def __getitem__(self, index):
        return index + getattr(self, "cache", [100])[0]


class Renamed(Held):
    """Two attributes that a method may read."""

    def __init__(self):
        self.first, self.second = 1, 2

    def __getitem__(self, index):
        return self.first


class WithFunction(Held):
    def __init__(self):
        self.function = doubled

    def __getitem__(self, index):
        return self.function(index)


def doubled(number):
    """A function that a dataset may hold; reads a global."""
    return number * 2 * SCALE


class Change:
    """What a user may do between two epochs."""

    @staticmethod
    def number(dataset, _):
        dataset.number = 5

    @staticmethod
    def element(dataset, _):
        dataset.numbers[1]["two"] = 7

    @staticmethod
    def array_in_place(dataset, _):
        dataset.array[3] = -9

    @staticmethod
    def tensor_in_place(dataset, _):
        dataset.tensor.mul_(3)

    @staticmethod
    def class_attribute(_, monkeypatch):
        monkeypatch.setattr(Held, "offset", 4)

    @staticmethod
    def array_of_the_class_in_place(dataset, monkeypatch):
        monkeypatch.setattr(Held, "array_of_class", np.zeros(2))  # which a later test shall not see
        dataset.array_of_class[0] = 4

    @staticmethod
    def module_global(_, monkeypatch):
        monkeypatch.setitem(globals(), "SCALE", 3)

    @staticmethod
    def module_global_in_place(_, monkeypatch):
        monkeypatch.setitem(TABLE, "row", [9, 2])

    @staticmethod
    def global_elsewhere(_, monkeypatch):
        monkeypatch.setattr(settings, "scale", 3)

    @staticmethod
    def environment(_, monkeypatch):
        monkeypatch.setenv("SAMPLES_OF_THIS_TEST", "many")

    @staticmethod
    def default_dtype(_, monkeypatch):
        torch.set_default_dtype(torch.double)

    @staticmethod
    def working_directory(_, monkeypatch):
        monkeypatch.chdir("/")

    @staticmethod
    def shed_part(dataset, _):
        dataset.cache[0] = 50

    @staticmethod
    def method(_, monkeypatch):
        monkeypatch.setattr(Renamed, "__getitem__", lambda self, index: self.second)

    @staticmethod
    def method_in_place(_, monkeypatch):
        def __getitem__(self, index):  # noqa: N807  differs from the first in a name only
            return self.second

        monkeypatch.setattr(Renamed.__getitem__, "__code__", __getitem__.__code__)

    @staticmethod
    def method_of_base(_, monkeypatch):
        monkeypatch.setattr(Held, "__len__", lambda self: 6)

    @staticmethod
    def function_held(dataset, _):
        dataset.function = abs


CHANGES = [
    (Held, Change.number),
    (Held, Change.element),
    (Held, Change.array_in_place),
    (Held, Change.tensor_in_place),
    (Held, Change.class_attribute),
    (Held, Change.array_of_the_class_in_place),
    (Held, Change.method_of_base),
    (Global, Change.module_global),
    (Global, Change.module_global_in_place),
    (OtherModule, Change.global_elsewhere),
    (OtherFunction, Change.global_elsewhere),
    (WithFunction, Change.module_global),
    (WithFunction, Change.function_held),
    (Surroundings, Change.environment),
    (Surroundings, Change.default_dtype),
    (Folder, Change.working_directory),
    (Shed, Change.shed_part),
    (Renamed, Change.method),
    (Renamed, Change.method_in_place),
]


def plain(batches):
    """Batches as values that compare with ==."""
    if isinstance(batches, torch.Tensor):
        return batches.tolist()
    if isinstance(batches, list | tuple):
        return [plain(part) for part in batches]
    return batches


def epochs(loader_class, make, between=lambda dataset: None, count=2, **options):
    """What a loader gives in some epochs, something being done between them."""
    torch.manual_seed(0)
    dataset = make()
    loader = loader_class(dataset, **({"batch_size": 2, "num_workers": 2} | options))
    seen = []
    for epoch in range(count):
        if epoch:
            between(dataset)
        seen.append(plain(list(loader)))
    return seen


@pytest.mark.parametrize(
    ("make", "change"), CHANGES, ids=[f"{a.__name__}-{b.__name__}" for a, b in CHANGES]
)
def test_what_changes_between_epochs_is_seen_as_by_torch(make, change):
    """New workers see the program as it is now; so must workers that stay."""
    theirs, ours = (changed_between(loader_class, make, change) for loader_class in LOADERS)
    assert theirs[0] != theirs[1], "the change is to make a difference"
    assert ours == theirs


def changed_between(loader_class, make, change):
    """Two epochs with the change between them, which is taken back at the end."""
    dtype = torch.get_default_dtype()
    try:
        with pytest.MonkeyPatch.context() as patch:
            return epochs(loader_class, make, lambda dataset: change(dataset, patch))
    finally:
        torch.set_default_dtype(dtype)


class Adding:
    """A collate_fn that is an object."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __call__(self, samples):
        return [float(sample) + self.numbers[0] for sample in samples]


def adding(numbers):
    """A collate_fn that is a closure."""

    def collate(samples):
        return [float(sample) + numbers[0] for sample in samples]

    return collate


@pytest.mark.parametrize("collate", [adding, Adding])
@pytest.mark.parametrize("role", ["collate_fn", "worker_init_fn"])
def test_what_a_function_of_the_loader_holds_may_change(collate, role):
    """A closure's list, or an object's, is read anew for each epoch."""
    seen = []
    for loader_class in LOADERS:
        numbers = [1]
        functions = {
            "collate_fn": {"collate_fn": collate(numbers)},
            "worker_init_fn": {"worker_init_fn": publishing(numbers), "collate_fn": published},
        }[role]
        seen.append(
            epochs(loader_class, Held, lambda _, n=numbers: n.__setitem__(0, 20), **functions)
        )
    assert seen[0][0] != seen[0][1]
    assert seen[1] == seen[0]


def publishing(numbers):
    """A worker_init_fn that is a closure."""

    def init(worker):
        os.environ["PUBLISHED"] = str(numbers[0])

    return init


def published(samples):
    """A collate_fn that tells what `publishing` has set."""
    return os.environ["PUBLISHED"], len(samples)


def test_another_function_or_setting_of_the_loader_takes_effect():
    """Attributes that torch's loader lets one set between epochs."""
    seen = []
    for loader_class in LOADERS:
        loader = loader_class(Held(), batch_size=2, num_workers=2)
        told = [plain(list(loader))]
        loader.collate_fn = Adding([3])
        told.append(plain(list(loader)))
        loader.worker_init_fn = publishing([4])
        loader.collate_fn = published
        told.append(plain(list(loader)))
        loader.num_workers = 1
        told.append(plain(list(loader)))
        seen.append(told)
    assert seen[1] == seen[0]


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


class Listed(Held):
    def __init__(self, held):
        self.held = held

    def __getitem__(self, index):
        return os.getpid(), self.held.array[index]


assert sys.modules[__name__].Listed is Listed  # spawned workers find it by its name


@pytest.mark.parametrize(
    ("file", "installed"),
    [
        ("/usr/lib/python3/dist-packages/torch/__init__.py", True),
        ("/home/me/.local/lib/python3.11/site-packages/pkg/mod.py", True),
        ("/home/me/project/site_packages.py", False),
        (None, False),
    ],
)
def test_packages_are_left_alone_wherever_they_are_installed(monkeypatch, file, installed):
    """Also those of the base environment and of the user, which are not below `purelib`."""
    module = types.ModuleType("somewhere")
    module.__file__ = file
    monkeypatch.setitem(sys.modules, "somewhere", module)
    assert fingerprint._installed("somewhere") is installed
