"""A sample taken apart: its fields by path, and what must be alike in all samples of a batch.

Containers are those that `torch.utils.data.default_collate` goes into: mappings, named tuples and
sequences. The path of a field is the tuple of its steps: `sample['boxes'][0]` is at
`("['boxes']", "[0]")`.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

Path = tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """What a batch needs alike from sample to sample: the kind of thing, its dtype, its extent."""

    kind: str
    dtype: str = ""
    extent: str = ""

    def __str__(self) -> str:
        return " ".join(word for word in (self.dtype, self.kind, self.extent) if word)


@dataclass(frozen=True)
class Field:
    """A sample, a container in it, or a leaf: a tensor, a number, a string, any other object."""

    value: Any
    form: Form
    is_leaf: bool


Fields = dict[Path, Field]


def take_apart(sample: Any) -> Fields:
    """All fields of a sample by their path, containers before what they hold."""
    return dict(_walk(sample, ()))


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Field]]:
    steps = _steps(value)
    yield path, Field(value, _form(value), is_leaf=steps is None)
    for step, part in (steps or {}).items():
        yield from _walk(part, (*path, step))


def written(path: Path) -> str:
    """The path as the user would write it: `sample['boxes'][0]`."""
    return "".join(("sample", *path))


def differences(first: Fields, other: Fields) -> list[Path]:
    """The outermost paths at which two samples are not of the same form."""
    outermost: list[Path] = []
    for path, field in first.items():
        # Below a difference the fields no longer correspond, so nothing more is said there.
        if outermost and path[: len(outermost[-1])] == outermost[-1]:
            continue
        if field.form != other[path].form:
            outermost.append(path)
    return outermost


def collating_error(batch: list[Any]) -> Exception | None:
    """What `default_collate` raises for these samples, None if it makes a batch of them."""
    try:
        with warnings.catch_warnings():  # e.g. about arrays that are read-only
            warnings.simplefilter("ignore")
            default_collate(batch)
    except Exception as error:
        return error
    return None


def nonfinite(leaf: Any) -> int:
    """How many values of a leaf are NaN or infinite."""
    if isinstance(leaf, torch.Tensor):
        if not (leaf.is_floating_point() or leaf.is_complex()):
            return 0
        try:
            return int((~torch.isfinite(leaf)).sum())
        except RuntimeError:  # sparse, nested and 8-bit tensors do not tell
            return 0
    if isinstance(leaf, np.ndarray | numbers.Number) or _is_row(leaf):
        array = np.asarray(leaf)
        return int((~np.isfinite(array)).sum()) if array.dtype.kind in "fc" else 0
    return 0


def _steps(value: Any) -> dict[str, Any] | None:
    """What a container holds, by the step that leads there; None for a leaf."""
    if isinstance(value, str | bytes) or _is_row(value):
        return None
    if isinstance(value, Mapping):
        return {f"[{key!r}]": value[key] for key in value}
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)):
        return {f".{name}": part for name, part in zip(names, value, strict=True)}
    if isinstance(value, Sequence):
        return {f"[{position}]": part for position, part in enumerate(value)}
    return None


def _is_row(value: Any) -> bool:
    """Whether it is a plain list of numbers, e.g. token ids: one field, however long it is."""
    return type(value) in (list, tuple) and all(
        isinstance(item, int | float | np.number) for item in value
    )


def _form(value: Any) -> Form:
    if isinstance(value, torch.Tensor):
        extent = "" if value.is_nested else f"of shape {tuple(value.shape)}"
        return Form("tensor", str(value.dtype).removeprefix("torch."), extent)
    if isinstance(value, np.ndarray):
        return Form("array", str(value.dtype), f"of shape {value.shape}")
    if _is_row(value):
        return Form("row of numbers", str(np.asarray(value).dtype), f"of length {len(value)}")
    if isinstance(value, np.bool_ | np.number):
        return Form("number", str(value.dtype))
    for python, dtype in _DTYPES.items():
        if isinstance(value, python):
            return Form("number", dtype)
    if isinstance(value, Mapping):
        return Form("dict", extent=f"with keys {', '.join(sorted(map(repr, value)))}")
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        named = type(value).__name__ if hasattr(value, "_fields") else "sequence"
        return Form(named, extent=f"of length {len(value)}")
    return Form("None" if value is None else type(value).__name__)


# The dtypes that default_collate gives to Python's numbers. A bool is an int too and comes first.
_DTYPES = {bool: "bool", int: "int64", float: "float64"}
