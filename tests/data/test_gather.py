"""Against torch's own fetching and collating of the same indices: alike to the bit, or not done."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import (
    ConcatDataset,
    StackDataset,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
    random_split,
)
from torch.utils.data._utils import collate as collating
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from lampwork.data.gather import UNABLE, gather_of

DTYPES = {
    str(dtype): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64),
        *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
        torch.float8_e8m0fnu,
    )
}


def torchs(dataset, index):
    """The batch that torch makes of these indices."""
    return _MapDatasetFetcher(dataset, True, default_collate, False).fetch(list(index))


def bits(tensor):
    """The bytes of its values, row after row."""
    # A single value may lie at any stride and counts as contiguous; its clone has stride 1.
    return tensor.reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8)


def assert_alike(batch: Any, expected: Any) -> None:
    """Structure, types, dtypes, memory layout and every bit."""
    assert type(batch) is type(expected)
    if isinstance(expected, dict):
        assert list(batch) == list(expected)
        batch, expected = list(batch.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(batch) == len(expected)
        for one, other in zip(batch, expected, strict=True):
            assert_alike(one, other)
        return
    assert (batch.dtype, batch.shape, batch.stride()) == (
        expected.dtype,
        expected.shape,
        expected.stride(),
    )
    assert batch.device == expected.device
    assert batch.storage_offset() == expected.storage_offset()
    assert batch.untyped_storage().nbytes() == expected.untyped_storage().nbytes()
    assert torch.equal(bits(batch), bits(expected))


def made(dataset):
    """The gather of a dataset that has one."""
    gather = gather_of(dataset, default_collate)
    assert gather is not None
    return gather


def assert_gathers(dataset, index):
    """The gathered batch is torch's, for the index as list, as tensor, and as it is given."""
    gather = made(dataset)
    expected = torchs(dataset, index)
    for form in (list(index), torch.tensor(list(index), dtype=torch.int64), index):
        batch = gather(form)
        assert batch is not UNABLE
        assert_alike(batch, expected)


def numbers(count, dtype=torch.float32, row=(3,), layout="packed", seed=0):
    """Rows of random bits, NaNs of every kind among them, laid out in one way or another."""
    generator = torch.Generator().manual_seed(seed)

    def packed(*shape):
        if dtype is torch.bool:
            return torch.randint(0, 2, shape, generator=generator).bool()
        some = torch.randint(0, 256, (*shape, dtype.itemsize), generator=generator)
        return some.to(torch.uint8).view(dtype).squeeze(-1)

    if layout == "every other":
        return packed(2 * count, *row)[::2]
    if layout == "transposed":
        return packed(*row, count).movedim(-1, 0)
    if layout == "expanded":
        return packed(*row).expand(count, *row)
    if layout == "offset":
        return packed(count + 2, *row)[2:]
    return packed(count, *row)


LAYOUTS = ["packed", "every other", "transposed", "expanded", "offset"]

# Nested datasets of a given form and size

tensor_forms = st.tuples(
    st.sampled_from(list(DTYPES.values())),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
forms = st.recursive(
    tensor_forms,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)


def tensors(form, size):
    """Tensors of a dtype and row shape, of any layout, not all alike."""
    seeds = st.integers(0, 999)
    return st.builds(numbers, st.just(size), *map(st.just, form), st.sampled_from(LAYOUTS), seeds)


@st.composite
def datasets(draw: Any, form: Any, size: int, depth: int) -> Any:
    """A dataset whose samples have this form, of `size` samples, nested at most so deep."""
    if depth > 0:
        wrapped = draw(st.sampled_from([None, subsets, concatenations]))
        if wrapped is not None:
            return draw(wrapped(form, size, depth - 1))
    if isinstance(form, tuple):
        return draw(tensors(form, size))
    if isinstance(form, dict):
        members = {key: draw(datasets(inner, size, depth - 1)) for key, inner in form.items()}
        return StackDataset(**members)
    if all(isinstance(inner, tuple) for inner in form) and draw(st.booleans()):
        return TensorDataset(*(draw(tensors(inner, size)) for inner in form))
    return StackDataset(*(draw(datasets(inner, size, depth - 1)) for inner in form))


@st.composite
def subsets(draw, form, size, depth):
    """A subset of so many samples; some more than once, some counted from the end."""
    whole = draw(st.integers(1, 9))
    dataset = draw(datasets(form, whole, depth))
    if size <= whole and draw(st.booleans()):
        start = draw(st.integers(-whole, whole - size))
        run = range(start, start + size)
        return Subset(dataset, draw(st.sampled_from([run, run[::-1]])))
    indices = draw(st.lists(st.integers(-whole, whole - 1), min_size=size, max_size=size))
    return Subset(dataset, draw(st.sampled_from(KINDS_OF_INDICES))(indices))


KINDS_OF_INDICES = [
    list,
    tuple,
    lambda indices: torch.tensor(indices, dtype=torch.int64),
    lambda indices: np.array(indices, dtype=np.int64),
    lambda indices: list(np.array(indices, dtype=np.int64)),
]


@st.composite
def concatenations(draw, form, size, depth):
    """A concatenation of so many samples in one part or several, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, size), max_size=3)))
    parts = np.diff([0, *cuts, size]).tolist()
    return ConcatDataset([draw(datasets(form, part, depth)) for part in parts])


@st.composite
def programs(draw):
    """A dataset and the indices of a batch: a list, or a range that may run in any direction."""
    size = draw(st.integers(1, 9))
    dataset = draw(datasets(draw(forms), size, depth=3))
    inside = st.integers(-size, size - 1)
    some = st.lists(inside, min_size=1, max_size=9)
    runs = st.builds(range, st.integers(0, size - 1), st.integers(1, size))
    ranges = st.builds(range, inside, inside, st.sampled_from([-2, -1, 1, 2]))
    return dataset, draw(some | runs.filter(len) | ranges.filter(len))


@given(programs())
def test_any_nesting(program):
    """However datasets are nested, a gathered batch is the batch that torch makes, bit for bit."""
    assert_gathers(*program)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_and_layouts(dtype, layout):
    """Rows of every dtype, laid out in any way, keep every bit and come out packed."""
    tensors = [numbers(6, DTYPES[dtype], row, layout) for row in [(), (2, 3), (2, 1, 1, 2), (0,)]]
    dataset = TensorDataset(*tensors)
    for source in (dataset, ConcatDataset([dataset, Subset(dataset, [1, 0, -1])])):
        for index in ([5, 0, 0, -1, len(source) - 1], range(1, len(source)), range(2, 3)):
            assert_gathers(source, index)


def test_channels_last():
    """Images stored with the channels last come out packed, as torch stacks them."""
    images = torch.rand(6, 3, 4, 5).to(memory_format=torch.channels_last)
    grey = torch.rand(6, 1, 4, 5).to(memory_format=torch.channels_last)
    dataset = TensorDataset(images, grey)
    assert_gathers(dataset, [3, 1])
    assert_gathers(dataset, range(1, 4))
    assert_gathers(ConcatDataset([dataset, dataset]), range(4, 8))


def test_random_split():
    """The parts that random_split makes are gathered."""
    dataset = TensorDataset(numbers(20), torch.arange(20))
    generator = torch.Generator().manual_seed(3)
    for part in random_split(dataset, [15, 5], generator):
        assert_gathers(part, [4, 0, 2])


@pytest.mark.parametrize(
    "indices", [range(2, 9), range(9, 2, -1), range(-6, -1), range(-3, 4), range(0, 10, 3)], ids=str
)
def test_subsets_of_ranges(indices):
    """A range of samples is a subset too, also one that counts from the end."""
    subset = Subset(TensorDataset(numbers(10), torch.arange(10)), indices)
    assert_gathers(subset, [2, 0, -1, 2])
    assert_gathers(subset, range(1, 4))
    assert_gathers(Subset(subset, range(1, 4)), range(2))


def test_subsets_of_arrays():
    """Arrays that are read-only or run backwards choose samples as any other."""
    fixed = np.arange(5)
    fixed.flags.writeable = False
    for indices in (fixed, np.arange(5)[::-1], np.arange(10)[::2]):
        subset = Subset(TensorDataset(torch.arange(10)), indices)  # pyright: ignore[reportArgumentType]
        assert_gathers(subset, [2, 0, -1, 2])


def test_large_batches():
    """The order holds in batches of hundreds, of one part or of all."""
    whole = ConcatDataset([TensorDataset(torch.arange(400) + 1000 * part) for part in range(3)])
    generator = torch.Generator().manual_seed(0)
    assert_gathers(whole, torch.randperm(400, generator=generator).tolist())
    assert_gathers(whole, torch.randint(-1200, 1200, (500,), generator=generator).tolist())


def test_runs_over_many_parts():
    """A run of samples over several parts, empty ones between, is read part by part."""
    parts = [TensorDataset(torch.arange(7)[:size]) for size in (0, 3, 0, 0, 1, 5, 0)]
    whole = ConcatDataset(parts)
    for start in range(9):
        for stop in range(start + 1, 10):
            assert_gathers(whole, range(start, stop))


def test_no_python_per_sample(monkeypatch):
    """A gather asks no dataset for a sample."""
    dataset = TensorDataset(torch.arange(8))
    nested = StackDataset(x=Subset(ConcatDataset([dataset, dataset]), range(16)))
    gather = made(nested)

    def fail(*_):
        raise AssertionError("asked for a sample")

    for kind in (TensorDataset, Subset, ConcatDataset, StackDataset):
        monkeypatch.setattr(kind, "__getitem__", fail)
    for kind in (Subset, StackDataset):
        monkeypatch.setattr(kind, "__getitems__", fail)
    assert gather([3, 9])["x"][0].tolist() == [3, 1]


@pytest.mark.parametrize("index", [[2], [0, 1, 2], range(3), range(1, 2)], ids=str)
def test_own_memory(index):
    """Writing into a batch never changes the dataset."""
    x: Any = torch.arange(12.0).reshape(4, 3)
    for dataset in (x, Subset(x, range(4)), ConcatDataset([x]), StackDataset(x)):
        before = x.clone()
        batch = made(dataset)(index)
        (batch[0] if isinstance(batch, list) else batch).fill_(-1)
        assert torch.equal(x, before)


# Irregular batches

TEN = TensorDataset(torch.arange(10), torch.rand(10, 0))
NESTED = {
    "tensors": TEN,
    "rows without values": torch.rand(10, 0),
    "subset": Subset(TEN, [3] * 10),
    "range": Subset(TEN, range(10)),
    "whole too short": Subset(Subset(TEN, range(5)), [0, 1, 2, 3, 4, 5, -6, 4, 3, 2]),
    "concatenation": ConcatDataset([Subset(TEN, range(5)), Subset(TEN, range(5))]),
    "stack": StackDataset(x=TEN),
}


@pytest.mark.parametrize("name", NESTED)
@given(start=st.integers(-12, 11), more=st.lists(st.integers(-12, 11), max_size=3))
def test_out_of_range(name, start, more):
    """Indices that torch refuses are left to it, in any nesting; all others are gathered."""
    dataset = NESTED[name]
    for index in ([start, *more], range(start, start + 3)):
        try:
            torchs(dataset, index)
        except (IndexError, ValueError):
            gather = made(dataset)
            assert gather(index) is UNABLE
            assert gather(torch.tensor(list(index))) is UNABLE
        else:
            assert_gathers(dataset, index)


@pytest.mark.parametrize(
    "index",
    [
        *([], range(0), torch.tensor([], dtype=torch.int64)),
        *([True], [1.0], [None], [np.int64(1)], [torch.tensor(1)], ["a"], [[1]], [2**70]),
        *(1, None, (1, 2), slice(1, 3), iter([1]), {1: 2}, np.array([1]), range(2**70, 2**70 + 2)),
        *(torch.tensor(1), torch.tensor([[1]]), torch.tensor([1.0]), torch.tensor([True])),
        *(torch.tensor([1], dtype=torch.int32), torch.tensor([1], device="meta")),
    ],
    ids=lambda index: repr(index).split(" at 0x")[0],
)
def test_irregular_indices(index):
    """An index that is no batch of ints, or an empty one, is left to torch."""
    assert made(TEN)(index) is UNABLE


def test_huge_ranges():
    """A range beyond 64 bits does not come round to the start."""
    assert gather_of(Subset(TEN, range(0, 2**66, 2**62)), default_collate) is None
    assert made(Subset(TEN, range(2**63 - 3, 2**63 + 3)))([4]) is UNABLE


def set_data(tensor, data):
    """Give a tensor other values, of another dtype."""
    tensor.data = data


CHANGES = {
    "tensors": lambda whole, part: setattr(part.dataset, "tensors", (torch.zeros(10),)),
    "indices": lambda whole, part: setattr(part, "indices", [9, 8, 7, 6, 5]),
    "fewer indices": lambda whole, part: part.indices.pop(),
    "dataset": lambda whole, part: setattr(part, "dataset", TensorDataset(torch.zeros(10))),
    "parts": lambda whole, part: setattr(whole, "datasets", whole.datasets[::-1]),
    "sizes": lambda whole, part: setattr(whole, "cumulative_sizes", [4, 7]),
    "gradient": lambda whole, part: part.dataset.tensors[0].requires_grad_(),
    "shrunken": lambda whole, part: part.dataset.tensors[0].resize_(4),
    "converted": lambda whole, part: set_data(part.dataset.tensors[0], torch.zeros(10).double()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_in_between(change):
    """A dataset whose parts were exchanged since is left to torch, which sees the new ones."""
    part = Subset(TensorDataset(torch.rand(10)), [0, 1, 2, 3, 4])
    whole = ConcatDataset([part, TensorDataset(torch.rand(2))])
    gather = made(whole)
    assert gather([0, 1]) is not UNABLE
    CHANGES[change](whole, part)
    assert gather([0, 1]) is UNABLE


def test_values_may_change():
    """New values in the same tensor, and a list shuffled before the epoch, are seen."""
    x: Any = torch.zeros(4)
    indices = [0, 1, 2, 3]
    subset = Subset(x, indices)
    gather = made(subset)
    x += torch.arange(4)
    assert gather([2, 1]).tolist() == [2, 1]
    random.Random(0).shuffle(indices)
    assert_gathers(subset, [0, 1, 2, 3])


# What is never taken apart


class OwnTensorDataset(TensorDataset):
    pass


class OwnSubset(Subset):
    pass


class OwnConcat(ConcatDataset):
    pass


class OwnStack(StackDataset):
    pass


class OwnTensor(torch.Tensor):
    pass


class OwnList(list):
    pass


X: Any = torch.rand(4, 2)


def changed(dataset, name, value):
    """The dataset, with an attribute of its own."""
    setattr(dataset, name, value)
    return dataset


REFUSED = {
    "subclass of TensorDataset": lambda: OwnTensorDataset(X),
    "subclass of Subset": lambda: OwnSubset(TensorDataset(X), [0]),
    "subclass of ConcatDataset": lambda: OwnConcat([TensorDataset(X)]),
    "subclass of StackDataset": lambda: OwnStack(X),
    "subclass of Tensor": lambda: TensorDataset(X.as_subclass(OwnTensor)),
    "parameter": lambda: TensorDataset(torch.nn.Parameter(X)),
    "frozen parameter": lambda: TensorDataset(torch.nn.Parameter(X, requires_grad=False)),
    "with gradient": lambda: TensorDataset(X.clone().requires_grad_()),
    "not a leaf": lambda: TensorDataset(X.clone().requires_grad_() * 2),
    "sparse": lambda: TensorDataset(X.to_sparse()),
    "nested": lambda: torch.nested.nested_tensor([X, X]),
    "complex of half precision": lambda: TensorDataset(X.view(torch.complex32)),
    "bits": lambda: TensorDataset(X.view(torch.bits8)),
    "on meta": lambda: TensorDataset(X.to("meta")),
    "conjugated": lambda: TensorDataset(torch.view_as_complex(X).conj()),
    "negated": lambda: TensorDataset(torch.view_as_complex(X).conj().imag),
    "no dimension": lambda: torch.tensor(1.0),
    "no tensors": lambda: TensorDataset(),
    "list": lambda: [1.0, 2.0],
    "array": lambda: X.numpy(),
    "array in a stack": lambda: StackDataset(X, X.numpy()),
    "array in a concatenation": lambda: ConcatDataset([X, X.numpy()]),
    "subclass in a subset": lambda: Subset(OwnTensorDataset(X), [0]),
    "subclass in a concatenation": lambda: ConcatDataset([TensorDataset(X), OwnTensorDataset(X)]),
    "subclass in a dict": lambda: StackDataset(x=OwnTensorDataset(X)),
    "parts of other dtypes": lambda: ConcatDataset([X, X.double()]),
    "parts of other shapes": lambda: ConcatDataset([X, X[:, :1]]),
    "parts of other structures": lambda: ConcatDataset([TensorDataset(X), X]),
    "parts of other keys": lambda: ConcatDataset([StackDataset(a=X), StackDataset(b=X)]),
    "parts of keys in another order": lambda: ConcatDataset(
        [StackDataset(a=X, b=X), StackDataset(b=X, a=X)]
    ),
    "method of the instance": lambda: changed(TensorDataset(X), "__getitems__", lambda _: [X]),
    "stale sizes": lambda: changed(ConcatDataset([X, X]), "cumulative_sizes", [3, 8]),
    "uneven tensors": lambda: changed(TensorDataset(X), "tensors", (X, X[:2])),
    "dict of tensors": lambda: changed(TensorDataset(X), "tensors", {"x": X}),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """What may mean something else by an index, or more by a row, is left to torch."""
    assert gather_of(REFUSED[name](), default_collate) is None


REFUSED_INDICES: dict[str, Any] = {
    "bools": [True, False],
    "a mask": torch.tensor([True, False]),
    "bytes": torch.tensor([1, 0], dtype=torch.uint8),
    "floats": np.array([1.0, 0.0]),
    "tensors": [torch.tensor(1)],
    "rows": np.array([[1], [0]]),
    "a list's subclass": OwnList([1]),
    "on meta": torch.tensor([1, 0], device="meta"),
    "beyond 64 bits": [2**70],
}


@pytest.mark.parametrize("name", REFUSED_INDICES)
def test_refused_indices(name):
    """A subset whose indices are not plain ints is left to torch."""
    assert gather_of(Subset(X, REFUSED_INDICES[name]), default_collate) is None


def test_own_attributes():
    """Other attributes of an instance say nothing about its samples."""
    assert_gathers(changed(TensorDataset(X), "classes", ["a", "b"]), [1, 0])


@pytest.mark.parametrize("kind", [TensorDataset, Subset, ConcatDataset, StackDataset])
@pytest.mark.parametrize("method", ["__getitem__", "__getitems__", "__len__"])
def test_patched_class(monkeypatch, kind, method):
    """A class of torch's whose method was replaced is left to torch."""
    tensors = TensorDataset(X)
    nested = ConcatDataset([StackDataset(Subset(tensors, [0, 1]))])
    assert gather_of(nested, default_collate) is not None
    monkeypatch.setattr(kind, method, lambda self, *_: None, raising=False)
    assert gather_of(nested, default_collate) is None


@pytest.mark.parametrize(
    "collate_fn",
    [None, default_convert, torch.stack, lambda batch: default_collate(batch)],
    ids=["none", "convert", "stack", "wrapped"],
)
def test_other_collate(collate_fn):
    """Only default_collate itself is known to stack."""
    assert gather_of(TensorDataset(X), collate_fn) is None


@pytest.mark.parametrize("kind", [torch.Tensor, tuple, dict, object, (str, tuple)], ids=str)
def test_changed_collate_table(monkeypatch, kind):
    """Once the user has told default_collate what to do with tensors or tuples, torch does it."""
    dataset = TensorDataset(X)
    table = collating.default_collate_fn_map
    # Before torch's own entries, as a broad one would otherwise not be found.
    own = {kind: lambda batch, *, collate_fn_map: len(batch)}
    monkeypatch.setattr(collating, "default_collate_fn_map", {**own, **table, **own})
    assert gather_of(dataset, default_collate) is None


def test_table_extended_in_place(monkeypatch):
    """Torch's table is read for each gather; what it says of other types does not matter."""
    dataset = TensorDataset(X)
    table = collating.default_collate_fn_map
    monkeypatch.setitem(table, set, lambda batch, *, collate_fn_map: batch)
    assert_gathers(dataset, [0, 1])
    monkeypatch.setitem(table, torch.Tensor, lambda batch, *, collate_fn_map: batch)
    assert gather_of(dataset, default_collate) is None


def test_patched_collate(monkeypatch):
    """A replaced `collate`, which default_collate calls, is left to torch."""
    monkeypatch.setattr(collating, "collate", lambda batch, *, collate_fn_map=None: batch)
    assert gather_of(TensorDataset(X), default_collate) is None


# Around the call


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_default_device(device):
    """The default device for new tensors is not that of the batches."""
    dataset = ConcatDataset([TensorDataset(X), Subset(TensorDataset(X), [3, 1])])
    with torch.device(device):
        gather = made(dataset)
        for index in ([5, -1, 0], range(2, 6), range(-1, 2)):
            batch = gather(index)
            assert batch is not UNABLE
            assert_alike(batch, torchs(dataset, index))


@pytest.mark.parametrize("mode", [TorchFunctionMode, TorchDispatchMode])
def test_foreign_modes(mode):
    """Under a mode that sees every operation, the operations are torch's own."""
    gather = made(TensorDataset(X))

    class Seeing(mode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

        __torch_dispatch__ = __torch_function__

    with Seeing():
        assert gather([0, 1]) is UNABLE
    assert gather([0, 1]) is not UNABLE


def test_inference_mode():
    """Batches made in inference mode, or of tensors that were, are what torch makes of them."""
    with torch.inference_mode():
        dataset = TensorDataset(torch.rand(4, 2))
        assert made(dataset)([0, 1])[0].is_inference()
    assert_gathers(dataset, [0, 1])
    assert not made(dataset)([0, 1])[0].is_inference()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda(dtype):
    """Tensors on a CUDA device give batches there; a wrong index is found before the device."""
    dataset = TensorDataset(numbers(6, DTYPES[dtype]).cuda(), torch.arange(6))
    whole = ConcatDataset([dataset, Subset(dataset, [3, -1])])
    for index in ([5, 0, -1, 7], range(2, 8)):
        assert_gathers(whole, index)
    assert made(whole)([8]) is UNABLE
    torch.cuda.synchronize()
