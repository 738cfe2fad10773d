"""Functions behind chosen modules, which change what these give to the rest of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lampwork._core import names
from lampwork._core.errors import InputError
from lampwork.taps.structure import tensors
from lampwork.taps.tap import Taps, Visit

Edit = Callable[[Any], Any]
Edits = Mapping[str, Edit]
"""Glob over the dotted names of modules → output of a module → what it is to give instead."""


def chosen_edits(
    modules: Mapping[str, nn.Module], edits: Edits | None
) -> dict[str, tuple[nn.Module, list[Edit]]]:
    """The modules to edit by name, each with its functions in the order in which they were given.

    Raises:
        NameNotFound: a glob that matches no module; lists the nearest names.
        InputError: not a function.
    """
    chosen: dict[str, tuple[nn.Module, list[Edit]]] = {}
    for glob, function in (edits or {}).items():
        if not callable(function):
            raise InputError(
                f"edit={{{glob!r}: …}} holds a {type(function).__name__}: give a function that "
                "takes the module's output and returns the new one"
            )
        for name in names.select(list(modules), [glob], what="module"):
            chosen.setdefault(name, (modules[name], []))[1].append(function)
    return chosen


def edit_taps(chosen: Mapping[str, tuple[nn.Module, list[Edit]]]) -> Taps:
    """Put the functions behind their modules, until the taps are removed.

    They also run when activation checkpointing runs the forward again.
    """

    def after(visit: Visit, output: Any) -> Any:
        for function in chosen[visit.name][1]:
            output = _insist_alike(visit.name, output, function(output))
        return output

    return Taps({name: module for name, (module, _) in chosen.items()}, after=after)


def _insist_alike(name: str, old: Any, new: Any) -> Any:
    alike = (isinstance(old, Tensor) and isinstance(new, Tensor)) or (
        type(old) is type(new)
        and pytree.tree_structure(old) == pytree.tree_structure(new)
        and len(tensors(old)) == len(tensors(new))
    )
    if not alike:
        raise InputError(
            f"the edit of {name!r} returned {_described(new)} for {_described(old)}: "
            "return a value of the same structure"
        )
    return new


def _described(value: Any) -> str:
    if value is None or isinstance(value, Tensor):
        return "None" if value is None else "a tensor"
    count = len(tensors(value))
    return f"a {type(value).__name__} with {count} tensor{'' if count == 1 else 's'}"
