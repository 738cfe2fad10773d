"""Outputs of chosen modules from one call of a model that ends when the last of them is there.

The call is left by an exception of our own, raised in the hook of that module. It is no
`Exception`, so that a model's `except Exception` lets it pass; a model that catches it all the same
runs on to its end, with the same result.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from lampwork._core import names as globs
from lampwork._core.errors import InputError, NameNotFound
from lampwork.taps import select
from lampwork.taps.structure import map_tensors
from lampwork.taps.tap import Inputs, Taps, Visit
from lampwork.watching.edits import Edits, chosen_edits, edit_taps


class _Enough(BaseException):
    """All that was asked for is there; `owner` asked."""

    def __init__(self, owner: _Extraction) -> None:
        self.owner = owner


class _Extraction:
    """One call of a model: which calls of which modules are wanted, and what they gave so far.

    Args:
        wanted: numbers of the calls by name of the module.
        early: whether the model may be left before its end.
    """

    def __init__(self, wanted: Mapping[str, set[int]], early: bool) -> None:
        self._wanted, self._early = wanted, early
        self._missing = sum(map(len, wanted.values()))
        self._thread, self._calls = get_ident(), Counter[str]()
        self.found: dict[tuple[str, int], Any] = {}

    def before(self, visit: Visit, inputs: Inputs) -> None:
        """Number the call: 0 for a recomputation, and for what other threads do with the model."""
        visit.memo = 0
        if get_ident() == self._thread and not visit.recomputed:
            self._calls[visit.name] += 1
            visit.memo = self._calls[visit.name]

    def after(self, visit: Visit, output: Any) -> None:
        """Keep an output that is wanted, and leave the model if it was the last of them."""
        if visit.memo not in self._wanted[visit.name]:
            return
        self._missing -= 1
        leave = self._early and self._missing == 0
        # Operations in place may follow, unless nothing does.
        kept = output if leave else map_tensors(Tensor.clone, output)
        self.found[visit.name, visit.memo] = kept
        if leave:
            raise _Enough(self)

    def run(self, forward: Callable[[], Any]) -> None:
        """Call the model, up to the last wanted module."""
        try:
            forward()
        except _Enough as enough:
            if enough.owner is not self:  # of an extraction that this one runs inside of
                raise


def extract(
    model: nn.Module,
    names: str | Iterable[str],
    *args: Any,
    edit: Edits | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Outputs of chosen modules, from `model(*args, **kwargs)` that ends after the last of them.

        features = lampwork.extract(model, ["layer2", "layer4.1.conv2"], images)

    Gradients flow through what is returned, unless it is computed under `torch.no_grad()`. The
    model stays in the mode (train or eval) it is in; a compiled one runs uncompiled for this call.
    One that is sharded by `fully_shard` runs to its end, as its ranks must.

    Args:
        model: any module; its hooks are gone when the call returns or raises.
        names: dotted names of its modules; `name#2` means the second call of a module that is
            reused. A glob (`layer4.*`) stands for those of its modules that are called. The model
            itself has the empty name.
        args: what the model is called with.
        edit: from globs to functions that take a module's output and return another one in the
            same structure, with which the model goes on.
        kwargs: what the model is called with.

    Returns:
        The outputs by name in the order of `names`, in the structures that the modules returned.

    Raises:
        NameNotFound: a name that the model has not, with the nearest ones; or a module, or a
            call of it, that this call of the model did not come to.
        InputError: no names; a ScriptModule; an edit that returns another structure.
    """
    model = getattr(model, "_orig_mod", model)  # that of torch.compile(model)
    select.refuse_scripted(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    asked = [names] if isinstance(names, str) else list(names)
    if not asked:
        raise InputError("there are no names: extract needs at least one module's, '' is the model")
    chosen = {name: _modules_of(name, modules) for name in asked}
    wanted: dict[str, set[int]] = {}
    for name, matching in chosen.items():
        for module in matching:
            wanted.setdefault(module, set()).add(_number(name))
    edits = edit_taps(chosen_edits(modules, edit))
    extraction = _Extraction(wanted, early=not _is_sharded(model))
    tapped = {name: modules[name] for name in wanted}
    taps = Taps(tapped, before=extraction.before, after=extraction.after)
    try:
        compiled = any(getattr(m, "_compiled_call_impl", None) for m in modules.values())
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            extraction.run(lambda: model(*args, **kwargs))
    finally:
        taps.remove()
        edits.remove()
    results: dict[str, Any] = {}
    for name, matching in chosen.items():
        results |= _results(name, matching, extraction.found)
    return results


def _modules_of(name: str, modules: Mapping[str, nn.Module]) -> list[str]:
    glob = name.partition("#")[0]
    return globs.select(list(modules), [glob], what="module")


def _number(name: str) -> int:
    """Which call of its module a name means."""
    _, mark, number = name.partition("#")
    if mark and not (number.isdecimal() and int(number) > 0):
        raise InputError(f"{name!r} asks for call {number!r}: calls are numbered 1, 2, …")
    return int(number) if mark else 1


def _results(
    name: str, matching: list[str], found: Mapping[tuple[str, int], Any]
) -> dict[str, Any]:
    """What was found for one name: itself, or the modules of a glob in the order of their calls."""
    module, mark, _ = name.partition("#")
    number = _number(name)
    if module in matching:
        matching = [module]
    came = [key for key in found if key[0] in matching and key[1] == number]
    if not came:
        raise NameNotFound(
            f"this call of the model did not come to {f'call {number} of ' if mark else ''}"
            f"{module!r}: check that its forward uses the module with these arguments"
        )
    if matching == [module]:
        return {name: found[came[0]]}
    return {f"{key[0]}#{number}" if number > 1 else key[0]: found[key] for key in came}


def _is_sharded(model: nn.Module) -> bool:
    """Whether its ranks gather parameters before a module's forward, and let go of them after."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return False
    kinds = (fsdp.FSDPModule, fsdp.FullyShardedDataParallel)
    return any(isinstance(module, kinds) for module in model.modules())
