"""Batches of data that lies in memory: one indexed read per tensor, no Python per sample.

torch fetches `dataset[i]` for every index and stacks the samples again. Where samples are rows of
plain tensors the batch is `tensor.index_select(0, index)`, bit for bit. A dataset is taken apart
once into a tree of sources, each of which answers a whole batch of indices:

    a tensor                       reads its rows
    TensorDataset, StackDataset    ask every member for the same indices
    Subset                         looks the indices up in its own, then asks its dataset
    ConcatDataset                  asks each part for its share, puts the rows back in order

Only exact types are taken apart: a subclass may mean something else by an index. Whatever is out
of the ordinary is left to torch's path, so that its result or its error is torch's own.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack as function_modes
from torch.utils._device import DeviceContext
from torch.utils.data import ConcatDataset, StackDataset, Subset, TensorDataset, default_collate
from torch.utils.data._utils import collate as collating

Index: TypeAlias = Tensor | range
"""Inside the tree: a 1-D int64 tensor on the CPU, or a range that ascends from 0 or later by 1."""


class Gather(Protocol):
    """From the indices of a batch to the batch, or `UNABLE`."""

    def __call__(self, index: Tensor | list[int] | range, below: int = 0) -> Any:
        """With `below` it is known that all indices are from 0 to less than that."""
        ...


UNABLE: Any = object()
"""What a `Gather` returns for a batch that only torch's own path can make, or refuse."""


class _Irregular(Exception):
    """Something that is for torch's path to answer."""


def gather_of(dataset: Any, collate_fn: Any) -> Gather | None:
    """A function that makes whole batches of this dataset at once; None if there is no such way.

    Args:
        dataset: of exact type `TensorDataset`, or `Subset`, `ConcatDataset`, `StackDataset` or a
            plain tensor, nested at will; all tensors plain, without gradient, on CPU or CUDA.
        collate_fn: `torch.utils.data.default_collate`, with torch's own way to collate tensors.

    Returns:
        A `Gather`: it takes N indices, a 1-D int64 CPU tensor, a list of ints or a range (the
        fastest, if its step is 1), and returns `default_collate([dataset[i] for i in indices])`
        in memory of its own. It returns `UNABLE` for any other index, for one out of range, and
        once the dataset was given other tensors, indices or parts.

    Make a new one for each epoch: what changes inside a list, as by
    `random.shuffle(subset.indices)`, is not seen by a `Gather` that was made before.
    """
    watched: list[_Watched] = []
    try:
        if not _collates_as_torch(collate_fn):
            return None
        source = _source_of(dataset, watched)
    except (_Irregular, IndexError, OverflowError, RuntimeError):
        return None
    return lambda index, below=0: _gathered(source, watched, index, below)


def _gathered(source: _Source, watched: list[_Watched], index: Any, below: int) -> Any:
    try:
        if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():
            _refuse_modes()
        for dataset, name, value in watched:
            if getattr(dataset, name) is not value:
                return UNABLE
        if 0 < below <= source.size and type(index) is Tensor and index.shape[0]:
            return source.take(index)
        return source.take(_within(_index_of(index), source.size))
    # torch's errors too, e.g. when memory runs out: its own path tells it in its own words.
    except (_Irregular, IndexError, OverflowError, RuntimeError):
        return UNABLE


def _refuse_modes() -> None:
    """A mode sees every operation, and may give another meaning to ours than to torch's."""
    # `torch.set_default_device` is one too. It only concerns what is made without a device.
    foreign = any(type(mode) is not DeviceContext for mode in function_modes())
    if foreign or torch._C._len_torch_dispatch_stack():
        raise _Irregular


# What a batch asks for


def _index_of(index: Any) -> Index:
    kind = type(index)
    if kind is list:
        index = _tensor_of(index, {int})
    elif kind is range:
        index = _ascending(index)
    elif kind is not Tensor or not _is_index(index):
        raise _Irregular
    if len(index) == 0:
        raise _Irregular  # torch's path tells that there is nothing to collate
    return index


def _is_index(tensor: Tensor) -> bool:
    return tensor.dtype is torch.int64 and tensor.dim() == 1 and tensor.device.type == "cpu"


def _tensor_of(indices: Any, kinds: set[type]) -> Tensor:
    if not kinds.issuperset(map(type, indices)):
        raise _Irregular  # True is an index too, but not that of row 1
    return torch.from_numpy(np.fromiter(indices, np.int64, len(indices)))


def _ascending(index: range) -> Index:
    if index.step == 1 and index.start >= 0:
        return index
    # The device is named because the user may have set another one as the default.
    return torch.arange(index.start, index.stop, index.step, dtype=torch.int64, device="cpu")


def _within(index: Index, size: int) -> Index:
    """The index as counted from the front of a sequence of `size`."""
    if isinstance(index, range):
        if index.stop > size:
            raise _Irregular
        return index
    low, high = torch.aminmax(index)
    lowest = low.item()
    # Not left to the read: a CUDA kernel that meets a wrong index takes the process down.
    if high.item() >= size or lowest < -size:
        raise _Irregular
    return index if lowest >= 0 else torch.where(index < 0, index + size, index)


# The tree


class _Source(Protocol):
    size: int
    form: Any
    """What two sources must have in common for their samples to stand in one batch."""

    def take(self, index: Index) -> Any:
        """The batch for an index that lies within `size`, not empty, without negative ones."""
        ...


class _Rows:
    """A tensor: sample i is its row i."""

    def __init__(self, tensor: Tensor) -> None:
        if not _is_plain(tensor):
            raise _Irregular
        self.tensor = tensor
        self.size = tensor.shape[0]
        self.form = tensor.dtype, tensor.device, tensor.shape[1:]
        self.made_for = tensor.shape, tensor.dtype, tensor.requires_grad

    def take(self, index: Index) -> Tensor:
        tensor = self.tensor
        if (tensor.shape, tensor.dtype, tensor.requires_grad) != self.made_for:
            raise _Irregular
        if isinstance(index, Tensor):
            return _select(tensor, index)
        rows = tensor.narrow(0, index.start, len(index))
        return rows.clone(memory_format=torch.contiguous_format)


class _Members:
    """Several sources side by side: sample i holds sample i of each, in a tuple or a dict."""

    def __init__(self, members: list[_Source], keys: list[Any] | None) -> None:
        self.members, self.keys = members, keys
        self.size = members[0].size
        if any(member.size != self.size for member in members):
            raise _Irregular
        # The keys in their order: a batch has them in the order of its first sample.
        self.form = keys, [member.form for member in members]

    def take(self, index: Index) -> Any:
        batches = [member.take(index) for member in self.members]
        # default_collate makes a list of tuples; it always has.
        return batches if self.keys is None else dict(zip(self.keys, batches, strict=True))


class _Chosen:
    """A subset: sample i is sample `indices[i]` of another source."""

    def __init__(self, whole: _Source, given: Any) -> None:
        self.whole, self.form, self.given = whole, whole.form, given
        self.indices = self._indices_of(given)
        self.size = len(self.indices)

    @staticmethod
    def _indices_of(given: Any) -> Index:
        if type(given) is range:
            return given if given.step == 1 else _ascending(given)
        if type(given) is list or type(given) is tuple:
            return _tensor_of(given, {int, np.int64})
        if type(given) is np.ndarray and given.dtype == np.int64 and given.ndim == 1:
            return torch.from_numpy(given.copy())  # torch takes none that is read-only or reversed
        if type(given) is Tensor and _is_index(given):
            return given
        raise _Irregular

    def take(self, index: Index) -> Any:
        if len(self.given) != self.size:
            raise _Irregular
        return self.whole.take(_within(self._looked_up(index), self.whole.size))

    def _looked_up(self, index: Index) -> Index:
        indices = self.indices
        if isinstance(index, range):
            part = indices[index.start : index.stop]
            return _ascending(part) if isinstance(part, range) else part
        if isinstance(indices, range):
            return index + indices.start
        return indices.index_select(0, index)


class _Concatenated:
    """Several sources one after the other."""

    def __init__(self, parts: list[_Source], ends: list[int]) -> None:
        # Where samples differ torch raises or converts, depending on which meet in a batch.
        if any(part.form != parts[0].form for part in parts):
            raise _Irregular
        # ConcatDataset counts its parts once; those that have changed since are torch's to read.
        if ends != list(accumulate(part.size for part in parts)):
            raise _Irregular
        self.parts, self.form, self.size = parts, parts[0].form, ends[-1]
        self.begins, self.ends, self.ends_array = [0, *ends[:-1]], ends[:], np.array(ends)

    def take(self, index: Index) -> Any:
        return self._run(index) if isinstance(index, range) else self._scattered(index)

    def _run(self, index: range) -> Any:
        batches, start = [], index.start
        while start < index.stop:
            number = bisect_right(self.ends, start)
            stop, begin = min(index.stop, self.ends[number]), self.begins[number]
            batches.append(self.parts[number].take(range(start - begin, stop - begin)))
            start = stop
        return _joined(batches)

    def _scattered(self, index: Tensor) -> Any:
        # numpy: its calls on so few numbers cost a third of torch's.
        wanted = index.numpy()
        numbers = self.ends_array.searchsorted(wanted, side="right")
        order = numbers.argsort(kind="stable")
        ordered, batches, start = wanted[order], [], 0
        for number, count in enumerate(np.bincount(numbers).tolist()):
            if count:
                share = ordered[start : start + count] - self.begins[number]
                batches.append(self.parts[number].take(torch.from_numpy(share)))
                start += count
        order[order.copy()] = np.arange(len(order))  # from "comes from" to "goes to"
        return _joined(batches, torch.from_numpy(order))


def _joined(batches: list[Any], order: Tensor | None = None) -> Any:
    """One batch of several of the same form, its samples in another order if one is given."""
    first = batches[0]
    if len(batches) == 1:
        return first  # of one part, in the order in which it was asked
    if isinstance(first, dict):
        return {key: _joined([batch[key] for batch in batches], order) for key in first}
    if isinstance(first, list):
        return [_joined(list(column), order) for column in zip(*batches, strict=True)]
    rows = torch.cat(batches)
    return rows if order is None else _select(rows, order)


# What a row is

_COPIED_AS_THEY_ARE = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_COPIED_AS_THEY_ARE |= {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_COPIED_AS_THEY_ARE |= {torch.complex64, torch.complex128}
# Not every operator of every version knows these; a copy does not care what the bits mean.
_COPIED_AS_BITS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
_COPIED_AS_BITS |= {torch.float8_e4m3fn: torch.uint8, torch.float8_e4m3fnuz: torch.uint8}
_COPIED_AS_BITS |= {torch.float8_e5m2: torch.uint8, torch.float8_e5m2fnuz: torch.uint8}
_COPIED_AS_BITS |= {torch.float8_e8m0fnu: torch.uint8}


def _is_plain(tensor: Tensor) -> bool:
    """Whether its rows are nothing but their values."""
    return (
        tensor.layout is torch.strided
        and (tensor.dtype in _COPIED_AS_THEY_ARE or tensor.dtype in _COPIED_AS_BITS)
        and tensor.device.type in ("cpu", "cuda")
        and not tensor.is_nested
        and tensor.dim() > 0
        and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg())
        # Older versions of torch can name dimensions; such tensors have rules of their own.
        and not any(getattr(tensor, "names", ()))
    )


def _select(tensor: Tensor, index: Tensor) -> Tensor:
    if tensor.is_cuda:
        index = index.to(tensor.device)
    if tensor.dtype in _COPIED_AS_BITS:
        bits = tensor.view(_COPIED_AS_BITS[tensor.dtype])
        return bits.index_select(0, index).view(tensor.dtype)
    return tensor.index_select(0, index)


# From a dataset to the tree

_MADE_OF = {
    Tensor: (),
    TensorDataset: ("tensors",),
    StackDataset: ("datasets",),
    Subset: ("dataset", "indices"),
    ConcatDataset: ("datasets", "cumulative_sizes"),
}
_METHODS = ("__getitem__", "__getitems__", "__len__")


def _methods(kind: type) -> list[Any]:
    return [getattr(kind, name, None) for name in _METHODS]


# As torch has them; a program may put others in their place later.
_TORCHS_METHODS = {kind: _methods(kind) for kind in _MADE_OF}
_TORCHS_COLLATE = collating.collate


class _Watched(NamedTuple):
    """What a dataset was made of when it was taken apart."""

    dataset: Any
    name: str
    value: Any


def _source_of(dataset: Any, watched: list[_Watched]) -> _Source:
    kind = type(dataset)
    if kind not in _MADE_OF or _methods(kind) != _TORCHS_METHODS[kind]:
        raise _Irregular
    if not vars(dataset).keys().isdisjoint(_METHODS):  # torch looks for __getitems__ there too
        raise _Irregular
    given = [getattr(dataset, name) for name in _MADE_OF[kind]]
    watched += [_Watched(dataset, *pair) for pair in zip(_MADE_OF[kind], given, strict=True)]
    if kind is Tensor:
        return _Rows(dataset)
    if kind is Subset:
        return _Chosen(_source_of(given[0], watched), given[1])
    keys = list(given[0]) if kind is StackDataset and type(given[0]) is dict else None
    if keys is None and type(given[0]) not in (tuple, list):
        raise _Irregular
    members = given[0] if keys is None else given[0].values()
    sources = [_source_of(member, watched) for member in members]
    return _Concatenated(sources, given[1]) if kind is ConcatDataset else _Members(sources, keys)


def _collates_as_torch(collate_fn: Any) -> bool:
    """Whether it stacks tensors and goes into tuples and dicts as torch does unless told."""
    if collate_fn is not default_collate or collating.collate is not _TORCHS_COLLATE:
        return False
    example = torch.empty(0, device="cpu")
    return _entry(example) is collating.collate_tensor_fn and _entry(()) is _entry({}) is None


def _entry(sample: Any) -> Any:
    """What torch's table, which users extend in place, has for a sample; found as torch does."""
    table = collating.default_collate_fn_map
    if type(sample) in table:
        return table[type(sample)]
    return next((collate for kind, collate in table.items() if isinstance(sample, kind)), None)
