"""Which modules to tap."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from torch import nn
from torch._C._dynamo import eval_frame as frames

from lampwork._core import names
from lampwork._core.errors import InputError

WRAPPERS = ("DataParallel", "DistributedDataParallel")
"""The model is what they call next, and bears the names that people know."""


def by_glob(model: nn.Module, globs: Iterable[str]) -> dict[str, nn.Module]:
    """The modules that the globs name, by dotted name in registration order.

    The model itself has the empty name. A module registered under several names counts once,
    under the first (as in `torch.nn.Module.named_modules`).

    Raises:
        NameNotFound: a glob that matches no module.
        InputError: the model was compiled or scripted before.
    """
    refuse_unhookable(model)
    modules = dict(model.named_modules())
    return {name: modules[name] for name in names.select(list(modules), globs, what="module")}


def with_values(model: nn.Module) -> dict[str, nn.Module]:
    """As `worth_watching`, of a model that takes hooks.

    Raises:
        InputError: the model was compiled or scripted before.
    """
    refuse_unhookable(model)
    return worth_watching(model)


def worth_watching(model: nn.Module) -> dict[str, nn.Module]:
    """The modules worth watching: the model, leaves, and modules with parameters of their own.

    A container's output is that of its last child, so containers are left out.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if name == "" or not _has(module.children()) or _has(module.parameters(recurse=False))
    }


def _has(items: Iterable[object]) -> bool:
    # Not `any`: a tensor has no truth value, and an empty Sequential is false.
    return next(iter(items), None) is not None


def inside(model: nn.Module) -> nn.Module:
    """The model that torch.compile, or a wrapper for several devices inside of it, was given."""
    while hasattr(model, "_orig_mod"):
        model = model._orig_mod  # pyright: ignore[reportAssignmentType]
        if type(model).__name__ in WRAPPERS:
            model = model.module  # pyright: ignore[reportAssignmentType]
    return model


def refuse_unhookable(model: nn.Module) -> None:
    """Raise for a model that was compiled or scripted: torch ignores or refuses hooks on these.

    Raises:
        InputError: always says which module, and the cure.
    """
    for name, module in model.named_modules():
        label = repr(name or type(module).__name__)
        if getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod"):
            raise InputError(
                f"{label} is already compiled, and torch ignores hooks added after that: "
                "open the block on the plain model first, then torch.compile it"
            )
    refuse_scripted(model)


def refuse_compiled_code(model: nn.Module) -> None:
    """Raise where torch has compiled the forward of a module's class, for whichever instance.

    It would run that code for this model too, and the code knows no hooks of ours.

    Raises:
        InputError: says which module, and the cure.
    """
    for name, module in model.named_modules():
        if not type(module).__module__.startswith("torch.nn.") and is_compiled(module):
            label = repr(name or type(module).__name__)
            raise InputError(
                f"{label} runs code that torch compiled before, for it or another "
                f"{type(module).__name__}, and hooks added after that are ignored: "
                "torch.compiler.reset() first, then open the block, then torch.compile"
            )


def is_compiled(module: nn.Module) -> bool:
    """Whether torch holds compiled code of this module's forward, as far as it tells."""
    code = getattr(module.forward, "__code__", None)
    entries = getattr(frames, "_debug_get_cache_entry_list", None)
    return code is not None and entries is not None and len(entries(code)) > 0


def anything_compiled() -> bool:
    """Whether torch has compiled anything in this process, as far as it tells."""
    converting = sys.modules.get("torch._dynamo.convert_frame")
    return bool(getattr(converting, "FRAME_COMPILE_COUNTER", None))


def refuse_scripted(model: nn.Module) -> None:
    """Raise for a model that was scripted or traced by torch.jit.

    Raises:
        InputError: says which module, and the cure.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"{(name or type(module).__name__)!r} is a ScriptModule, which takes no hooks: "
                "use the plain model, before torch.jit.script or trace"
            )
