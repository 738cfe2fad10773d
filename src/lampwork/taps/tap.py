"""Hooks: the only file that registers any.

Modules are read by forward hooks, gradients by `Tensor.register_hook` on the tensors that go in
and out. `register_full_backward_hook` is never used: it wraps outputs in a view, which fails on
in-place consumers (`ReLU(inplace=True)`), ignores keyword and dict values, and breaks graphs
under torch.compile.

A gradient read off a tensor is the whole gradient of that tensor, all its consumers included:
what `torch.autograd.grad(loss, tensor)` returns.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import local
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._C._dynamo import eval_frame as frames
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Step = Callable[[Optimizer], None]


@dataclass(slots=True)
class Visit:
    """One call of one module.

    Attributes:
        name: dotted name of the module.
        module: the module.
        call: 1 for its first call on this thread since `Taps.restart`; 0 for a recomputation.
        recomputed: activation checkpointing is running the forward again during backward.
        memo: whatever `before` left for `after`.
    """

    name: str
    module: nn.Module
    call: int
    recomputed: bool
    memo: Any = None


class _Hook:
    """A hook that is left out when its module is copied or pickled: the copy is not watched.

    Args:
        function: what is called; None for a hook that rests.
        in_graphs: whether it is called where torch.compile traces, which breaks the graph.
    """

    def __init__(self, function: Callable[..., Any], *, in_graphs: bool) -> None:
        self.function: Callable[..., Any] | None = function
        self.number = next(_numbers)
        self._in_graphs = in_graphs

    def __call__(self, *args: Any) -> Any:
        function = self.function
        if torch.compiler.is_compiling():
            if not self._in_graphs:
                _note_traced(self.number)
                return None
            return None if function is None else _untraced(function, *args)
        if function is None:
            return None
        # The hooks of the outermost module run beside the graph, where torch takes up all it meets.
        taken_up = frames.get_eval_frame_callback() is not None
        return _untraced(function, *args) if taken_up else function(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        # What stands in its place takes any arguments, does nothing, and needs no lampwork.
        return getattr, (nullcontext(), "__exit__")


def seen_by_compiler(function: Callable[..., int]) -> Callable[..., int]:
    """A function that torch.compile calls while it traces, and whose result is a constant then."""
    # As `torch.compiler.assume_constant_result`, which would import all of dynamo at once.
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


_numbers = count()
_traced: set[int] = set()


@seen_by_compiler
def _note_traced(number: int) -> int:
    _traced.add(number)
    return 0


# Torch compiles anew where a hook that it has traced is gone, or is another one. So such hooks stay
# on their module, by kind, and rest until somebody needs one of that kind there.
_resting: WeakKeyDictionary[nn.Module, list[tuple[str, _Hook, RemovableHandle]]]
_resting = WeakKeyDictionary()


def release(modules: Iterable[nn.Module]) -> None:
    """Take off the hooks that stayed on because torch.compile had traced them."""
    for module in modules:
        for _, hook, handle in _resting.pop(module, ()):
            handle.remove()
            _traced.discard(hook.number)


def _leave_alone(function: Callable[..., Any]) -> None:
    """Torch is not to compile a call of this function by itself, only as a part of something."""
    try:
        skip = frames._FrameExecStrategy(frames._FrameAction.SKIP, frames._FrameAction.DEFAULT)
        frames.set_code_exec_strategy(function.__code__, skip)
    except AttributeError:  # names of torch's own, that may change; it finds out by itself, later
        pass


_leave_alone(_Hook.__call__)


@_disable_dynamo  # the public torch.compiler.disable would import all of dynamo at once
def _untraced(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


class _Here(local):
    """What one thread has called of the modules that are tapped."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.open: list[Visit] = []
        self.period = 0


class _Placed(NamedTuple):
    module: nn.Module
    kind: str
    hook: _Hook
    handle: RemovableHandle


class Taps:
    """Forward hooks on modules, with calls numbered.

    Args:
        modules: what to tap, by name.
        before: gets the visit, positional and keyword inputs before the forward.
        after: gets the visit and the output after it. It is not called when the forward raises.
            What it returns, unless None, takes the output's place.
        in_graphs: whether calls that torch.compile traces are seen, at the price of a graph break.
            If not, hooks that it has traced stay until `release`, and do nothing.

    A model may be called from several threads: calls are numbered in each of them by itself.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        *,
        before: Callable[[Visit, Inputs], None] | None = None,
        after: Callable[[Visit, Any], Any] | None = None,
        in_graphs: bool = True,
    ) -> None:
        self._before, self._after, self._in_graphs = before, after, in_graphs
        self._here, self._period = _Here(), 0
        self._hooks: dict[str, list[_Placed]] = {}
        self.follow(modules)

    def follow(self, modules: Mapping[str, nn.Module]) -> None:
        """Tap these modules from now on; those that are tapped already keep their hooks."""
        for name, placed in list(self._hooks.items()):
            if modules.get(name) is not placed[0].module:
                self._take_off(self._hooks.pop(name))
        for name, module in modules.items():
            if name not in self._hooks:
                self._hooks[name] = self._tap(name, module)

    def _tap(self, name: str, module: nn.Module) -> list[_Placed]:
        # A layer that has no others inside cannot call itself: its calls end as they begin.
        if self._before is None and next(module.children(), None) is None:
            return [self._put(module, "after", partial(self._leave_layer, name))]
        return [
            self._put(module, "before", partial(self._enter, name)),
            self._put(module, "after", self._leave),
        ]

    def _put(self, module: nn.Module, kind: str, function: Callable[..., Any]) -> _Placed:
        resting = [] if self._in_graphs else _resting.get(module, [])
        for i, (its_kind, hook, handle) in enumerate(resting):
            if its_kind == kind:
                del resting[i]
                hook.function = function
                return _Placed(module, kind, hook, handle)
        hook = _Hook(function, in_graphs=self._in_graphs)
        if kind == "before":
            handle = module.register_forward_pre_hook(hook, with_kwargs=True)
        else:
            handle = module.register_forward_hook(hook)
        return _Placed(module, kind, hook, handle)

    def restart(self) -> None:
        """Number the calls of this thread from 1: a new forward pass of the whole model begins."""
        self._here.calls.clear()
        self._here.open.clear()

    def restart_all(self) -> None:
        """As `restart`, on each other thread too, once no call is under way there."""
        self._period += 1
        self._here.period = self._period
        self.restart()

    def inside_of_itself(self, visit: Visit) -> bool:
        """Whether a call that begins lies inside of another one of the same module."""
        open_ = self._here.open
        if sum(other.module is visit.module for other in open_) < 2:
            return False
        if _running(visit.module) > 1:
            return True
        self._here.open = [visit]  # the others raised
        return False

    def remove(self) -> None:
        """Take the hooks off; does nothing the second time."""
        for placed in self._hooks.values():
            self._take_off(placed)
        self._hooks.clear()

    def _take_off(self, hooks: list[_Placed]) -> None:
        for module, kind, hook, handle in hooks:
            hook.function = None  # another thread may be about to call it
            if hook.number in _traced:
                _resting.setdefault(module, []).append((kind, hook, handle))
            else:
                handle.remove()

    def _enter(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if _is_traced():
            return
        visit = self._visit(name, module)
        self._here.open.append(visit)
        if self._before is not None:
            self._before(visit, (args, kwargs))

    def _visit(self, name: str, module: nn.Module) -> Visit:
        recomputed = in_backward()
        return Visit(name, module, 0 if recomputed else self._next_call(name), recomputed)

    def _leave_layer(self, name: str, module: nn.Module, args: Any, output: Any) -> Any:
        if self._after is None or _is_traced():
            return None
        return self._after(self._visit(name, module), output)

    def _next_call(self, name: str) -> int:
        here = self._here
        if here.period != self._period:
            here.period = self._period
            if not (here.open and _running(here.open[0].module)):
                self.restart()
        number = here.calls[name] = here.calls[name] + 1
        return number

    def _leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        if _is_traced():
            return None
        # Visits above ours belong to forwards that raised and were caught inside this one.
        visits = self._here.open
        while visits:
            visit = visits.pop()
            if visit.module is module:
                return None if self._after is None else self._after(visit, output)
        return None


def _running(module: nn.Module) -> int:
    """How many calls of a module are under way, as the call stack tells."""
    count, frame = 0, sys._getframe(1)
    while frame is not None:
        if frame.f_code is nn.Module._call_impl.__code__:
            count += frame.f_locals.get("self") is module
        frame = frame.f_back
    return count


def _is_traced() -> bool:
    # By torch.jit.trace or torch.export: what we compute would become part of the user's graph.
    return torch._C._is_tracing() or torch.compiler.is_exporting()


def in_backward() -> bool:
    """Whether autograd is running a backward pass on this thread.

    A forward in it is a recomputation by `torch.utils.checkpoint`, of either kind.
    """
    return backward_pass() != -1


def backward_pass() -> int:
    """The number of the backward pass that runs on this thread; -1 outside of one."""
    return torch._C._current_graph_task_id()


class _GradientHook:
    """What autograd calls; one object instead of a closure in a closure, since there are many."""

    __slots__ = ("_known", "_seen")
    __torch_unserializable__ = True  # as `torch.utils.hooks.unserializable_hook` marks functions

    def __init__(self, seen: Callable[..., None], known: tuple[Any, ...]) -> None:
        self._seen, self._known = seen, known

    def __call__(self, gradient: Tensor | None) -> None:
        # None: a sibling from the same operation (`unbind`, `split`) got a gradient, this one none.
        if gradient is not None:
            self._seen(*self._known, gradient)


def on_gradient(tensor: Tensor, seen: Callable[..., None], *known: Any) -> RemovableHandle:
    """Call `seen` with what is known of it and the gradient of a tensor that requires grad.

    The gradient stays as it is.
    """
    return tensor.register_hook(_GradientHook(seen, known))


def on_output(module: nn.Module, change: Callable[[nn.Module, Any], Any]) -> RemovableHandle:
    """Call `change` with the module and its output after each forward; the rest of the model gets
    what it returns, or the output where that is None.
    """
    return module.register_forward_hook(lambda module, args, output: change(module, output))


def on_gradient_in_graph(tensor: Tensor, seen: Callable[[Tensor], None]) -> None:
    """As `on_gradient`, inside of what torch.compile traces; `seen` becomes part of the graph."""
    tensor.register_hook(seen)


def on_passes(
    module: nn.Module,
    *,
    before: Callable[[nn.Module, Any], None] | None = None,
    after: Callable[[nn.Module, Any, Any], None] | None = None,
) -> list[RemovableHandle]:
    """Bare hooks around a module's forward, for what torch.compile is to trace."""
    handles = [] if before is None else [module.register_forward_pre_hook(before)]
    return handles if after is None else [*handles, module.register_forward_hook(after)]


def on_optimizer_step(before: Step, after: Step) -> list[RemovableHandle]:
    """Call `before` and `after` around each step of each optimizer of the process."""
    return [
        register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: before(optimizer)),
        register_optimizer_step_post_hook(lambda optimizer, args, kwargs: after(optimizer)),
    ]


class _GraphHook:
    """A part of the graph; left out, as `_Hook` is, when its module is copied or pickled."""

    def __init__(self, change: Callable[[nn.Module, Any], Any]) -> None:
        self._change = change

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return self._change(module, output) if torch.compiler.is_compiling() else None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")


_leave_alone(_GraphHook.__call__)


def on_output_in_graph(
    module: nn.Module, change: Callable[[nn.Module, Any], Any]
) -> RemovableHandle:
    """As `on_output`, but only in what torch.compile traces, as a part of the graph."""
    return module.register_forward_hook(_GraphHook(change))


def on_any_forward(before: Callable[[nn.Module], None]) -> RemovableHandle:
    """Call `before` with every module of the process that is about to run its forward.

    Hooks that it puts before that forward are run as well, for which torch does not look any more.
    Not while torch.compile traces it: there the call would become part of the user's graph.
    """

    def hook(module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        there = set(module._forward_pre_hooks)
        before(module)
        if module._forward_pre_hooks.keys() == there:
            return
        keywords = sys._getframe(1).f_locals.get("kwargs", {})  # which torch does not tell
        for number, new in list(module._forward_pre_hooks.items()):
            if number not in there:
                with_keywords = number in module._forward_pre_hooks_with_kwargs
                new(module, args, *([keywords] if with_keywords else []))

    return nn.modules.module.register_module_forward_pre_hook(hook)


def on_every_pass(module: nn.Module, before: Callable[[nn.Module], None]) -> RemovableHandle:
    """Call `before` with a module at each of its forward passes outside of compiled graphs."""
    hook = _Hook(lambda module, args: before(module), in_graphs=False)
    return module.register_forward_pre_hook(hook)
