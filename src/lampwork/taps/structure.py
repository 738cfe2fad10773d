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
        # A dataclass that nobody registered with pytree arrives here as one leaf.
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return _map_fields(function, item)
        return item

    return pytree.tree_map(leaf, value)


def tensors(value: Any) -> list[Tensor]:
    """All tensors in the structure, in the order of `map_tensors`."""
    found: list[Tensor] = []
    map_tensors(found.append, value)
    return found


def _map_fields(function: Callable[[Tensor], Any], item: Any) -> Any:
    mapped = copy.copy(item)
    for field in dataclasses.fields(item):
        # Frozen dataclasses too: the copy is ours.
        object.__setattr__(mapped, field.name, map_tensors(function, getattr(item, field.name)))
    return mapped
