"""A second model over the same weights, to be run without leaving a trace in the first.

The probe must not be run through the model itself: batch norm would count it in, hooks would
fire, a counter in the forward would count on. `torch.nn.parallel.replicate` shows the way: new
module objects, the same values. Parameters are shared and ask for no gradient, buffers and other
tensors are copies, as are lists and dicts; hooks stay behind, and the replica is in eval mode.
"""

from __future__ import annotations

import random
import sys
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

SEED = 0

_HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
)  # fmt: skip


class NoReplica(Exception):
    """The model has a part that cannot be run apart from it."""


def replica(model: nn.Module) -> nn.Module:
    """The model in eval mode, over the same parameters.

    Raises:
        NoReplica: a parameter is on meta, sharded or lazy, or the model keeps a function that
            holds one of its modules, which would run the model itself.
    """
    return _Copy().module(model)


class _Copy:
    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def module(self, module: nn.Module) -> nn.Module:
        if id(module) in self._made:
            return self._made[id(module)]
        made = self._made[id(module)] = type(module).__new__(type(module))
        # Known under its id before it is filled, since modules may refer to one another.
        fields = {
            name: self.value(item) for name, item in vars(module).items() if name not in _HOOKS
        }
        fields |= {name: _torchs_own(vars(module).get(name)) for name in _HOOKS}
        fields["_compiled_call_impl"] = None
        fields["training"] = False
        made.__dict__.update(fields)
        return made

    def value(self, item: Any) -> Any:
        if id(item) in self._made:
            return self._made[id(item)]
        if isinstance(item, nn.Module):
            return self.module(item)
        if isinstance(item, Tensor):
            made = self._made[id(item)] = _parameter(item) if _is_parameter(item) else _copy(item)
            return made
        if isinstance(item, torch.Generator):
            return item.clone_state()
        if isinstance(item, MethodType):
            return MethodType(item.__func__, self.value(item.__self__))
        if isinstance(item, FunctionType) and _holds_module(item):
            raise NoReplica(f"the function {item.__qualname__!r} holds a module")
        if isinstance(item, partial):
            return partial(
                self.value(item.func), *map(self.value, item.args),
                **{name: self.value(value) for name, value in item.keywords.items()},
            )  # fmt: skip
        return self._container(item)

    def _container(self, item: Any) -> Any:
        if type(item) in (dict, OrderedDict):
            return type(item)((key, self.value(value)) for key, value in item.items())
        if type(item) in (list, tuple):
            return type(item)(map(self.value, item))
        if type(item) is deque:
            return deque(map(self.value, item), item.maxlen)
        return set(item) if type(item) is set else item


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)


def _parameter(parameter: Tensor) -> Tensor:
    if is_lazy(parameter) or parameter.is_meta or hasattr(parameter, "placements"):
        raise NoReplica("a parameter is lazy, on meta or sharded")
    if type(parameter) is not nn.Parameter:
        return parameter  # a quantised one, for example, is more than its values
    return nn.Parameter(parameter.detach(), requires_grad=False)


def _copy(tensor: Tensor) -> Tensor:
    if is_lazy(tensor) or tensor.is_meta:
        raise NoReplica("a buffer is lazy or on meta")
    return tensor.detach().clone()


def _torchs_own(hooks: Any) -> Any:
    """The hooks that make a module what it is: torch's weight norm, spectral norm, pruning."""
    kept = OrderedDict()
    for key, hook in (hooks or {}).items():
        if type(hook).__module__.startswith("torch.nn.utils."):
            kept[key] = hook
    return kept


def _holds_module(function: FunctionType) -> bool:
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
        if isinstance(getattr(held, "__self__", held), nn.Module):
            return True
    return False


@contextmanager
def apart(device: torch.device) -> Iterator[None]:
    """Leave the random states as they are, torch's fused attention off, and standard output alone.

    Inside, torch's own generators begin with `SEED`: what draws (a VAE) draws the same each time.
    """
    accelerators = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    fused = torch.backends.mha.get_fastpath_enabled()
    with torch.random.fork_rng(accelerators), _silent():
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            torch.random.default_generator.manual_seed(SEED)
            if accelerators:
                torch.cuda.manual_seed(SEED)
            with torch.enable_grad():
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def _silent() -> Iterator[None]:
    """What this thread prints or warns of is dropped: a script's output stays its own."""
    out, show, thread = sys.stdout, warnings.showwarning, threading.get_ident()

    def unless_ours(*args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != thread:
            show(*args, **kwargs)

    # Not `catch_warnings`: it would make every warning that was shown once be shown again.
    sys.stdout, warnings.showwarning = _Dropped(out), unless_ours
    try:
        yield
    finally:
        sys.stdout, warnings.showwarning = out, show


class _Dropped:
    """Standard output to all threads but the one that made it."""

    def __init__(self, out: Any) -> None:
        self._out, self._thread = out, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return len(text)
        return self._out.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)
