"""What is wrong with a custom Dataset, told to someone who writes a first one.

`check` takes a few samples the way a loader would, takes each apart into its fields, such as
`sample['image']`, and looks at them. What it finds it returns: a bad dataset raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from lampwork._core.errors import InputError
from lampwork.data.pickling import Obstacle, obstacles
from lampwork.data.sample import (
    Field,
    Fields,
    Form,
    Path,
    collating_error,
    differences,
    nonfinite,
    take_apart,
    written,
)

Taken = dict[int, Fields]
"""The fields of the samples that could be loaded, by index."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `what`, with the values, and the `cure`."""

    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}: {self.cure}"


def check(dataset: Any, samples: int = 8) -> list[Problem]:
    """What is wrong with a dataset; empty if nothing was found.

    Looks at its length, at a few samples (do they load, are they alike, can `default_collate` make
    a batch of them, are they finite) and at whether it can be sent to worker processes.

    Args:
        dataset: map-style (`__getitem__` and `__len__`) or a `torch.utils.data.IterableDataset`.
        samples: how many to load: the first, the last and evenly between; of an `IterableDataset`
            the first ones.

    Raises:
        InputError: `samples` is less than 1.
    """
    if samples < 1:
        raise InputError(f"samples is {samples}: ask for 1 or more")
    if misfits := _not_a_dataset(dataset):
        return misfits
    load = _from_stream if isinstance(dataset, IterableDataset) else _from_map
    problems, taken = load(dataset, samples)
    of_samples = _differing(taken) + _uncollatable(taken)
    # Each field by itself is fine, and they are alike: only then has the whole something to add.
    of_samples = of_samples or _unbatchable(taken)
    return problems + of_samples + _nonfinite(taken) + _unsendable(dataset)


def _not_a_dataset(dataset: Any) -> list[Problem]:
    if isinstance(dataset, type):
        name = dataset.__name__
        return [Problem(f"{name} is a class, not a dataset", f"make a dataset of it: {name}(…)")]
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        return []
    if getattr(type(dataset), "__getitem__", Dataset.__getitem__) is not Dataset.__getitem__:
        return []
    if hasattr(type(dataset), "__iter__"):
        what = f"{name} has __iter__ but no __getitem__, and is no IterableDataset"
        return [Problem(what, f"write class {name}(torch.utils.data.IterableDataset)")]
    cure = "write def __getitem__(self, index) and let it return the sample at this index"
    return [Problem(f"{name} has no __getitem__", cure), *_length(dataset)[0]]


def _from_map(dataset: Any, samples: int) -> tuple[list[Problem], Taken]:
    problems, size = _length(dataset)
    indices = range(samples) if size is None else _spread(size, samples)
    taken, failed = _take(lambda index: dataset[index], indices)
    last = max(taken, default=max(indices, default=0))
    beyond = [i for i, error in failed.items() if i > last and isinstance(error, IndexError)]
    if beyond and size is not None:
        problems.append(
            Problem(
                f"__len__ returns {size}, but index {beyond[-1]} raises "
                f"{_told(failed[beyond[-1]])}",
                "let __len__ return the number of samples that __getitem__ can give",
            )
        )
    failed = {index: error for index, error in failed.items() if index not in beyond}
    return problems + _failing(failed), taken


def _length(dataset: Any) -> tuple[list[Problem], int | None]:
    name = type(dataset).__name__
    cure = "let it return the number of samples, e.g. len(self.files)"
    if not hasattr(type(dataset), "__len__"):
        return [Problem(f"{name} has no __len__", f"write def __len__(self) and {cure}")], None
    try:
        size = len(dataset)
    except Exception as error:
        return [Problem(f"__len__ of {name} raises {_told(error)}", cure)], None
    return ([] if size else [_empty(f"__len__ of {name} returns 0")]), size


def _empty(what: str) -> Problem:
    return Problem(what, "look at the folder, pattern or split that its samples come from")


def _spread(size: int, samples: int) -> list[int]:
    """The first index, the last, and evenly between."""
    count = min(size, samples)
    return [position * (size - 1) // max(1, count - 1) for position in range(count)]


def _from_stream(dataset: Any, samples: int) -> tuple[list[Problem], Taken]:
    name = type(dataset).__name__
    try:
        stream = iter(dataset)
    except Exception as error:
        what = f"__iter__ of {name} raises {_told(error)}"
        return [Problem(what, "let it yield the samples one by one")], {}
    taken, failed = _take(lambda _: next(stream), range(samples))
    if not taken and isinstance(failed[0], StopIteration):
        return [_empty(f"__iter__ of {name} yields nothing")], {}
    # After an error a generator is at its end.
    failed = {i: error for i, error in failed.items() if not isinstance(error, StopIteration)}
    return _failing(failed), taken


def _take(get: Callable[[int], Any], indices: Iterable[int]) -> tuple[Taken, dict[int, Exception]]:
    taken: Taken = {}
    failed: dict[int, Exception] = {}
    for index in indices:
        try:
            taken[index] = take_apart(get(index))
        except Exception as error:
            failed[index] = error
    return taken, failed


def _failing(failed: dict[int, Exception]) -> list[Problem]:
    """One problem per type of exception, with the first of each."""
    by_type: dict[type, list[int]] = {}
    for index, error in failed.items():
        by_type.setdefault(type(error), []).append(index)
    return [
        Problem(
            f"loading {_at(indices)} raises {_told(failed[indices[0]])}",
            "load it by itself and mend what the traceback names",
        )
        for indices in by_type.values()
    ]


def _differing(taken: Taken) -> list[Problem]:
    """One problem per field that is not of the same form in all samples."""
    if not taken:
        return []
    first = min(taken)
    unlike: dict[Path, list[int]] = {}
    for index, sample in taken.items():
        for path in differences(taken[first], sample):
            unlike.setdefault(path, []).append(index)
    problems = []
    for path, indices in unlike.items():
        expected, given = taken[first][path].form, taken[indices[0]][path].form
        also = f" ({_at(indices[1:])} as well)" if indices[1:] else ""
        problems.append(
            Problem(
                f"{written(path)} is {given} at index {indices[0]}{also}, "
                f"but {expected} at index {first}",
                _cure_of_difference(expected, given),
            )
        )
    return problems


def _cure_of_difference(expected: Form, given: Form) -> str:
    if expected.kind != given.kind:
        return "return the same kind of value from every index"
    if expected.extent == given.extent:
        return "convert to one dtype, e.g. tensor.to(torch.float32)"
    if expected.kind == "dict":
        return "return the same keys from every index"
    return "pad, crop or resize to one size, or pass a collate_fn that does so for each batch"


def _uncollatable(taken: Taken) -> list[Problem]:
    """One problem per field of the first sample that `default_collate` does not take."""
    first = taken[min(taken)] if taken else {}
    return [
        Problem(
            f"{written(path)} is {field.form}, which default_collate refuses",
            _cure_of_refusal(field),
        )
        for path, field in first.items()
        if field.is_leaf and collating_error([field.value])
    ]


def _cure_of_refusal(field: Field) -> str:
    if field.value is None:
        return "return a tensor or number in its place, e.g. -1, or pass a collate_fn"
    if type(field.value).__module__.startswith("PIL."):
        return "convert the image, e.g. torch.from_numpy(numpy.array(image))"
    return (
        "return tensors, numeric arrays, numbers or strings, in dicts, lists or tuples, "
        "or pass a collate_fn that knows what to do with it"
    )


def _unbatchable(taken: Taken) -> list[Problem]:
    if not taken or not (error := collating_error([sample[()].value for sample in taken.values()])):
        return []
    what = f"default_collate cannot make a batch of {_at(list(taken))}: {_told(error)}"
    return [Problem(what, "pass a collate_fn that can")]


def _nonfinite(taken: Taken) -> list[Problem]:
    counts: dict[Path, dict[int, int]] = {}
    for index, sample in taken.items():
        for path, field in sample.items():
            if field.is_leaf and (count := nonfinite(field.value)):
                counts.setdefault(path, {})[index] = count
    return [
        Problem(
            f"{written(path)} holds NaN or infinity at {_at(list(by_index))} "
            f"({sum(by_index.values())} values)",
            "mend them where they come from, or replace them with torch.nan_to_num",
        )
        for path, by_index in counts.items()
    ]


def _unsendable(dataset: Any) -> list[Problem]:
    return [
        Problem(
            f"dataset{found.path} ({_called(found.part)}) cannot be sent to spawned workers, "
            f"pickling it raises {_told(found.error)}",
            _cure_of_obstacle(found),
        )
        for found in obstacles(dataset)
    ]


def _called(part: Any) -> str:
    return getattr(part, "__qualname__", type(part).__qualname__)


def _cure_of_obstacle(found: Obstacle) -> str:
    if "<lambda>" in _called(found.part):
        return "write it as a function with a name, at the top level of a module"
    if "<locals>" in _called(found.part):
        return "define it at the top level of a module"
    return "make it in __getitem__ when it is first needed, so that each worker has its own"


def _at(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:8])) + (", …" if len(indices) > 8 else "")
    return f"index {shown}" if len(indices) == 1 else f"indices {shown}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
