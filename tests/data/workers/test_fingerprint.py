"""What changes between two epochs is seen by workers that stayed, as by torch's new ones."""

import os
import sys
import types

import numpy as np
import pytest
import torch

from lampwork.data.workers import fingerprint
from tests.data.workers.held import LOADERS, Held, epochs, plain

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

SCALE = 1
TABLE = {"row": [1, 2]}

# A module of the user's, such as one of settings, without a file of its own.
settings = types.ModuleType("settings_of_this_test")
settings.scale = 1
settings.scaled = eval("lambda number: number * scale", vars(settings))


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
