import itertools
import multiprocessing
import pickle
import threading
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, StackDataset, TensorDataset, default_collate

from lampwork._core.errors import InputError
from lampwork.data import Problem, check

Pair = namedtuple("Pair", "x y")
GENERIC_CURE = (
    "return tensors, numeric arrays, numbers or strings, in dicts, lists or tuples, "
    "or pass a collate_fn that knows what to do with it"
)
SPAWNED = "cannot be sent to spawned workers, pickling it raises"


class Squares(Dataset):
    """A healthy dataset; what it is given as `extra` hangs on it."""

    def __init__(self, size=100, **extra):
        self.size = size
        vars(self).update(extra)
        self.asked = []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.asked.append(index)
        return torch.tensor([float(index), index**2]), index % 10


class Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


def told(dataset, samples=8):
    """The problems as they are printed."""
    return [str(problem) for problem in check(dataset, samples)]


HEALTHY: dict[str, Any] = {
    "tensors": TensorDataset(torch.zeros(5, 3), torch.arange(5)),
    "numbers": [0, 1, 2],
    "a list of rows": [[1, 2], [3, 4]],
    "strings": ["a", "longer"],
    "bytes": [b"a", b"bc"],
    "arrays": np.zeros((4, 3, 3), np.uint8),
    "numpy numbers": [np.float32(1), np.float32(2)],
    "a number of either library": [1.0, np.float64(2)],
    "a tuple or a list": [(torch.zeros(2), "a"), [torch.zeros(2), "b"]],
    "dicts in another order": [{"a": 1, "b": 2}, {"b": 3, "a": 4}],
    "named tuples": [Pair(torch.zeros(2), 1), Pair(torch.ones(2), 2)],
    "nested": [{"x": (torch.zeros(2), {"y": 1.0})}] * 3,
    "one sample": [torch.zeros(2)],
    "stacked": StackDataset(a=[1, 2, 3], b=["x", "y", "z"]),
    "a stream": Stream([torch.zeros(2)] * 20),
    "a stream that does not end": Stream(itertools.repeat(7)),
    "empty lists": [{"boxes": []}] * 2,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_wrong(name):
    """A healthy dataset has no problems."""
    assert told(HEALTHY[name]) == []


def test_random_samples_are_fine():
    """That a sample differs from one time to the next is no problem."""

    class Augmented(Squares):
        def __getitem__(self, index):
            return torch.rand(3), index

    # The class is local, so that one problem is expected, and none about the values.
    assert len(check(Augmented())) == 1


def test_a_problem_prints_both():
    """A problem's text is what is wrong, and the cure."""
    problem = Problem(what="it is broken", cure="mend it")
    assert str(problem) == "it is broken: mend it"


@pytest.mark.parametrize(
    ("size", "samples", "asked"),
    [
        (100, 8, [0, 14, 28, 42, 56, 70, 84, 99]),
        (5, 8, [0, 1, 2, 3, 4]),
        (100, 2, [0, 99]),
        (100, 1, [0]),
        (1, 8, [0]),
        (10**9, 3, [0, 499999999, 999999999]),
    ],
)
def test_samples_are_spread(size, samples, asked):
    """The first and the last sample are loaded, and others evenly between, each once."""
    dataset = Squares(size)
    assert check(dataset, samples) == []
    assert dataset.asked == asked


def test_a_stream_gives_its_first_samples():
    """Of an IterableDataset only as many samples are drawn as were asked for."""
    samples = iter(range(100))
    assert check(Stream(samples), samples=3) == []
    assert next(samples) == 3


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_refused(samples):
    """Fewer than one sample cannot be checked."""
    with pytest.raises(InputError, match=f"samples is {samples}: ask for 1 or more"):
        check([1, 2, 3], samples)


class NoLength(Dataset):
    def __getitem__(self, index):
        return [5, 6, 7][index]


class NoItems(Dataset):
    def __len__(self):
        return 3


class OnlyIterable:
    def __iter__(self):
        return iter([1, 2])


class Length(Squares):
    def __len__(self):
        if isinstance(self.size, Exception):
            raise self.size
        return self.size


LENGTH_CURE = "let it return the number of samples, e.g. len(self.files)"
EMPTY_CURE = "look at the folder, pattern or split that its samples come from"


@pytest.mark.parametrize(
    ("dataset", "problems"),
    [
        (Squares, ["Squares is a class, not a dataset: make a dataset of it: Squares(…)"]),
        (NoLength(), [f"NoLength has no __len__: write def __len__(self) and {LENGTH_CURE}"]),
        (
            NoItems(),
            [
                "NoItems has no __getitem__: "
                "write def __getitem__(self, index) and let it return the sample at this index"
            ],
        ),
        (
            object(),
            [
                "object has no __getitem__: "
                "write def __getitem__(self, index) and let it return the sample at this index",
                f"object has no __len__: write def __len__(self) and {LENGTH_CURE}",
            ],
        ),
        (
            OnlyIterable(),
            [
                "OnlyIterable has __iter__ but no __getitem__, and is no IterableDataset: "
                "write class OnlyIterable(torch.utils.data.IterableDataset)"
            ],
        ),
        (
            Length(OSError("no such folder")),
            [f"__len__ of Length raises OSError: no such folder: {LENGTH_CURE}"],
        ),
        (
            Length(-3),
            [f"__len__ of Length raises ValueError: __len__() should return >= 0: {LENGTH_CURE}"],
        ),
        (Squares(0), [f"__len__ of Squares returns 0: {EMPTY_CURE}"]),
        (Stream([]), [f"__iter__ of Stream yields nothing: {EMPTY_CURE}"]),
        (
            Stream(3),
            [
                "__iter__ of Stream raises TypeError: 'int' object is not iterable: "
                "let it yield the samples one by one"
            ],
        ),
    ],
)
def test_it_is_no_dataset(dataset, problems):
    """What makes an object no dataset is named, and how to write what it lacks."""
    assert told(dataset) == problems


class Listed(Dataset):
    """Any samples, of which some may be exceptions to raise, behind any length."""

    def __init__(self, samples, length=None):
        self.samples = samples
        self.length = len(samples) if length is None else length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        sample = self.samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


def test_a_length_that_lies():
    """Where the samples end before the length says so, both figures are told, once."""
    assert told(Listed([7] * 50, length=100)) == [
        "__len__ returns 100, but index 99 raises IndexError: list index out of range: "
        "let __len__ return the number of samples that __getitem__ can give"
    ]


def test_samples_that_raise():
    """Failing samples are listed by type of exception, with the text of the first."""
    broken = Listed([1, OSError("no 1.png"), 3, ValueError(), OSError("no 4.png"), 6])
    assert told(broken) == [
        "loading indices 1, 4 raises OSError: no 1.png: "
        "load it by itself and mend what the traceback names",
        "loading index 3 raises ValueError: load it by itself and mend what the traceback names",
    ]


def test_every_sample_raises():
    """An IndexError at each index is no matter of length."""
    assert told(Listed([IndexError("x")] * 3)) == [
        "loading indices 0, 1, 2 raises IndexError: x: "
        "load it by itself and mend what the traceback names"
    ]


def test_an_index_error_in_the_middle():
    """Neither is one that is followed by samples that load."""
    assert told(Listed([1, IndexError("bad crop"), 3])) == [
        "loading index 1 raises IndexError: bad crop: "
        "load it by itself and mend what the traceback names"
    ]


def broken_stream():
    """A stream that fails after two samples."""
    yield 1
    yield 2
    raise OSError("connection lost")


def test_a_stream_that_raises():
    """An error in a stream is told with the number of the sample, and is its end."""
    [problem, _] = told(Stream(broken_stream()))  # a generator cannot be pickled either
    assert problem == (
        "loading index 2 raises OSError: connection lost: "
        "load it by itself and mend what the traceback names"
    )


RESIZE = "pad, crop or resize to one size, or pass a collate_fn that does so for each batch"
SAME_KIND = "return the same kind of value from every index"


@pytest.mark.parametrize(
    ("samples", "problems"),
    [
        (
            [torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, 5), torch.zeros(4, 4)],
            [
                "sample is float32 tensor of shape (3, 5) at index 2 (index 3 as well), "
                f"but float32 tensor of shape (3, 4) at index 0: {RESIZE}"
            ],
        ),
        (
            [{"x": torch.zeros(2), "y": 1}, {"x": torch.zeros(2, dtype=torch.float64), "y": 1.5}],
            [
                "sample['x'] is float64 tensor of shape (2,) at index 1, "
                "but float32 tensor of shape (2,) at index 0: "
                "convert to one dtype, e.g. tensor.to(torch.float32)",
                "sample['y'] is float64 number at index 1, but int64 number at index 0: "
                "convert to one dtype, e.g. tensor.to(torch.float32)",
            ],
        ),
        (
            [{"x": 1, "y": 2}, {"x": 1}],
            [
                "sample is dict with keys 'x' at index 1, but dict with keys 'x', 'y' at index 0: "
                "return the same keys from every index"
            ],
        ),
        (
            [(torch.zeros(1), [3, 1, 4]), (torch.zeros(1), [1, 5])],
            [
                "sample[1] is int64 row of numbers of length 2 at index 1, "
                f"but int64 row of numbers of length 3 at index 0: {RESIZE}"
            ],
        ),
        (
            [Pair(torch.zeros(1), 1), Pair(np.zeros(1, np.float32), 1)],
            [
                "sample.x is float32 array of shape (1,) at index 1, "
                f"but float32 tensor of shape (1,) at index 0: {SAME_KIND}"
            ],
        ),
        (
            [{"mask": torch.zeros(1)}, {"mask": None}],
            [
                "sample['mask'] is None at index 1, "
                f"but float32 tensor of shape (1,) at index 0: {SAME_KIND}"
            ],
        ),
        (
            [[1, 2], [1, "2"]],
            [
                "sample is sequence of length 2 at index 1, "
                f"but int64 row of numbers of length 2 at index 0: {SAME_KIND}"
            ],
        ),
        (
            # Only the outermost difference is told, and what lies beside it still is.
            [{"a": {"b": 1}, "ab": "x"}, {"a": {"c": 1}, "ab": 1}],
            [
                "sample['a'] is dict with keys 'c' at index 1, but dict with keys 'b' at index 0: "
                "return the same keys from every index",
                f"sample['ab'] is int64 number at index 1, but str at index 0: {SAME_KIND}",
            ],
        ),
    ],
)
def test_samples_that_differ(samples, problems):
    """A field that differs from the first sample's is named with both forms and the indices."""
    assert told(Listed(samples)) == problems


def test_many_indices_are_shortened():
    """Of many samples that differ only the first are listed."""
    [problem] = told(Listed([torch.zeros(1)] + [torch.zeros(2)] * 20), samples=21)
    assert "at index 1 (indices 2, 3, 4, 5, 6, 7, 8, 9, … as well), but" in problem


@pytest.mark.parametrize(
    ("leaf", "form", "cure"),
    [
        (
            Image.new("L", (8, 8)),
            "Image",
            "convert the image, e.g. torch.from_numpy(numpy.array(image))",
        ),
        (None, "None", "return a tensor or number in its place, e.g. -1, or pass a collate_fn"),
        ({1, 2}, "set", GENERIC_CURE),
        (Squares(), "Squares", GENERIC_CURE),
        (np.array(["a"]), "<U1 array of shape (1,)", GENERIC_CURE),
        (torch.eye(2).to_sparse(), "float32 tensor of shape (2, 2)", GENERIC_CURE),
        (1j, "complex", GENERIC_CURE),
    ],
)
def test_a_field_that_cannot_be_collated(leaf, form, cure):
    """A field that default_collate does not take is named with its type and the cure for it."""
    sample = {"x": torch.zeros(1), "y": [leaf]}
    assert told(Listed([sample] * 3)) == [
        f"sample['y'][0] is {form}, which default_collate refuses: {cure}"
    ]


class OddOnes(torch.Tensor):
    """Tensors that each pass alone but refuse to be stacked."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.stack and len(args[0]) > 1:
            raise RuntimeError("these do not go together")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_batch_that_cannot_be_collated():
    """Where each sample passes alone and only the batch fails, its error is told."""
    assert told(Listed([torch.zeros(2).as_subclass(OddOnes)] * 2)) == [
        "default_collate cannot make a batch of indices 0, 1: "
        "RuntimeError: these do not go together: pass a collate_fn that can"
    ]


NAN, INF = float("nan"), float("inf")
FINITE_CURE = "mend them where they come from, or replace them with torch.nan_to_num"


@pytest.mark.parametrize(
    ("good", "bad", "count"),
    [
        (torch.zeros(2, 2), torch.tensor([[1.0, NAN], [INF, -INF]]), 3),
        (torch.zeros(2).bfloat16(), torch.tensor([NAN, 1.0]).bfloat16(), 1),
        (torch.zeros(1) + 0j, torch.tensor([complex(NAN, 0)]), 1),
        (np.zeros(2), np.array([1.0, NAN]), 1),
        (np.float32(0), np.float32(NAN), 1),
        (0.0, NAN, 1),
        ([0.0, 0.0, 0.0], [1.0, NAN, INF], 2),
    ],
)
def test_values_that_are_not_finite(good, bad, count):
    """NaN and infinity are counted, and the field and indices told."""
    assert told(Listed([{"x": good}, {"x": bad}, {"x": good}, {"x": bad}])) == [
        f"sample['x'] holds NaN or infinity at indices 1, 3 ({2 * count} values): {FINITE_CURE}"
    ]


def of_the_module(sample):
    """A transform that can be pickled."""
    return sample


class Chain:
    """A transform that holds others, as a Compose does."""

    def __init__(self, *steps):
        self.steps = list(steps)


AS_NAMED = "write it as a function with a name, at the top level of a module"
AT_TOP = "define it at the top level of a module"
IN_GETITEM = "make it in __getitem__ when it is first needed, so that each worker has its own"


def test_a_lambda_cannot_be_sent():
    """A lambda is found however deep it hangs on the dataset."""
    dataset = Squares(transform=Chain(of_the_module, Chain(lambda sample: sample)))
    [problem] = told(dataset)
    name = "test_a_lambda_cannot_be_sent.<locals>.<lambda>"
    assert problem.startswith(f"dataset.transform.steps[1].steps[0] ({name}) {SPAWNED} ")
    assert problem.endswith(f": {AS_NAMED}")


def test_an_open_file_cannot_be_sent(tmp_path):
    """An open file is named by its attribute, and so is every other culprit beside it."""
    (tmp_path / "data").touch()
    with open(tmp_path / "data") as file:
        assert told(Squares(file=file, paths=["a"], parts={"lock": threading.Lock()})) == [
            f"dataset.file (TextIOWrapper) {SPAWNED} "
            f"TypeError: cannot pickle '_io.TextIOWrapper' object: {IN_GETITEM}",
            f"dataset.parts['lock'] (lock) {SPAWNED} "
            f"TypeError: cannot pickle '_thread.lock' object: {IN_GETITEM}",
        ]


def test_a_local_class_cannot_be_sent():
    """Where no attribute is at fault the dataset's own class is."""

    class Local(Squares):
        pass

    [problem] = told(Local())
    name = "test_a_local_class_cannot_be_sent.<locals>.Local"
    assert problem.startswith(f"dataset ({name}) {SPAWNED} ")
    assert problem.endswith(f": {AT_TOP}")


def test_a_module_cannot_be_sent():
    """A module on the dataset is the culprit, not what is in the module."""
    assert told(Squares(library=np)) == [
        f"dataset.library (module) {SPAWNED} TypeError: cannot pickle 'module' object: {IN_GETITEM}"
    ]


def test_a_circle_is_followed_once():
    """Parts that refer back to the dataset are neither followed in a circle nor blamed."""
    dataset = Squares(lock=threading.Lock())
    dataset.me = Chain(dataset)
    dataset.load = dataset.__getitem__
    assert [problem.split(" ")[0] for problem in told(dataset)] == ["dataset.lock"]


def test_what_workers_share_can_be_sent():
    """Locks and values of multiprocessing go to workers, though plain pickle refuses them."""
    dataset = Squares(lock=multiprocessing.Lock(), epoch=multiprocessing.Value("i", 0))
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(dataset)
    assert told(dataset) == []


def test_the_dataset_stays_as_it_is():
    """Checking changes nothing on a dataset, nor does it move its tensors to shared memory."""
    dataset = TensorDataset(torch.arange(12.0).view(4, 3), torch.arange(4))
    before = pickle.dumps(dataset)
    assert check(dataset) == []
    assert pickle.dumps(dataset) == before
    assert not any(tensor.is_shared() for tensor in dataset.tensors)


leaves = st.sampled_from(
    [
        torch.zeros(2),
        torch.zeros(3),
        torch.zeros(2, dtype=torch.float64),
        torch.tensor(NAN),
        np.zeros(2),
        np.array(["a"]),
        1,
        2.5,
        True,
        10**30,
        "text",
        b"bytes",
        None,
        1j,
        object,
    ]
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "b", 1]), inner, max_size=2)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(trees | st.just(ValueError("no")), max_size=4) | trees.map(lambda tree: [tree] * 3))
def test_what_cannot_be_collated_is_never_fine(samples):
    """Check raises for no samples at all, and finds nothing only where torch makes a batch."""
    if check(Listed(samples)) == []:
        default_collate(samples)
