"""Tensors inside whatever a module takes or returns: tuples, dicts, named tuples, dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The same structure with `function(tensor)` in place of every tensor, in a fixed order."""

    def leaf(item: Any) -> Any:
        if isinstance(item, Tensor):
            return function(item)
        # `_make` passes by a constructor that would refuse gradients, as PackedSequence's does.
        if _is_named_tuple(item):
            return item._make([map_tensors(function, part) for part in item])
        return _map_fields(function, item) if _is_dataclass(item) else item

    return pytree.tree_map(leaf, value, is_leaf=_is_named_tuple)


def tensors(value: Any) -> list[Tensor]:
    """All tensors in the structure, in the order of `map_tensors`; nothing is built for it."""
    if isinstance(value, Tensor):  # what nearly every module returns
        return [value]
    found: list[Tensor] = []
    for item in pytree.tree_leaves(value, is_leaf=_is_named_tuple):
        if isinstance(item, Tensor):
            found.append(item)
        elif _is_named_tuple(item):
            found += tensors(list(item))
        elif _is_dataclass(item):
            found += tensors([getattr(item, field.name) for field in dataclasses.fields(item)])
    return found


def _is_named_tuple(item: Any) -> bool:
    return isinstance(item, tuple) and hasattr(item, "_make")


def _is_dataclass(item: Any) -> bool:
    """Of the leaves: those dataclasses that nobody registered with pytree."""
    return dataclasses.is_dataclass(item) and not isinstance(item, type)


def _map_fields(function: Callable[[Tensor], Any], item: Any) -> Any:
    mapped = copy.copy(item)
    for field in dataclasses.fields(item):
        # Frozen dataclasses too: the copy is ours.
        object.__setattr__(mapped, field.name, map_tensors(function, getattr(item, field.name)))
    return mapped
