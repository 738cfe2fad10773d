"""Whole tensors of chosen modules, once: feature maps, kernels, gradients.

    with lampwork.capture(model, "layer4.*") as seen:
        loss_fn(model(x), y).backward()
    seen["layer4.0.conv1"].output

Copies are taken while the module is called, so they hold also where a later operation works in
place. Gradients are those of `torch.autograd.grad`: of the whole loss with respect to that tensor.
Where a hook of yours edits a gradient, the edited one is seen if your hook was there first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from threading import local
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from lampwork._core import names
from lampwork._core.errors import InputError, NameNotFound
from lampwork.taps import select
from lampwork.taps.structure import map_tensors, tensors
from lampwork.taps.tap import Inputs, Taps, Visit, backward_pass, on_gradient
from lampwork.watching.call import Call, Flow
from lampwork.watching.edits import Edits, chosen_edits, edit_taps


@dataclass(slots=True)
class _Parameter:
    """A parameter in use; held, so that no other tensor can get its id while the block runs."""

    tensor: Tensor
    value: Tensor
    flow: Flow


class _Here(local):
    """The calls that this thread has made: (module, call) in the order in which they began."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Call]] = []


class Capture:
    """The context manager that `capture` returns, and the mapping from names to calls."""

    def __init__(
        self,
        model: nn.Module,
        globs: tuple[str, ...],
        *,
        gradients: bool,
        clone: bool,
        edit: Edits | None,
    ) -> None:
        self._modules = select.by_glob(model, globs or ("*",))
        self._edits = chosen_edits(dict(model.named_modules()), edit)
        self._gradients, self._clone = gradients, clone
        self._here = _Here()
        self._threads: list[list[tuple[str, Call]]] = []  # those with calls, as they came
        self._labels: dict[str, Call] = {}
        self._is_open = False
        self._handles: list[RemovableHandle] = []
        self._parameters: dict[int, _Parameter] = {}
        self._taps: list[Taps] = []

    def __enter__(self) -> Capture:
        if self._is_open:
            raise InputError("this capture is open already: call lampwork.capture(…) once more")
        self._here, self._threads, self._labels = _Here(), [], {}
        self._is_open = True
        # Edits first: what is captured is what the rest of the model gets.
        self._taps = [
            edit_taps(self._edits),
            Taps(self._modules, before=self._before, after=self._after),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        for taps in self._taps:
            taps.remove()
        self._taps.clear()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._parameters.clear()

    def __getitem__(self, name: str) -> Call:
        """The first call of a module; the second one has the name `name#2`.

        Raises:
            NameNotFound: no such module was captured, or it was not called in the block.
        """
        captured = self._labelled()
        call = captured.get(name.removesuffix("#1"))
        if call is not None:
            return call
        module, _, number = name.partition("#")
        if module not in self._modules:
            text = names.not_found(module, list(self._modules), what="captured module")
        elif module not in captured:
            text = (
                f"{module!r} was not called between entering and leaving the block: "
                "run the model's forward inside it, and check that the forward uses this module"
            )
        else:
            calls = sum(label.partition("#")[0] == module for label in captured)
            times = "once" if calls == 1 else f"{calls} times"
            text = f"{module!r} was called {times}, there is no call #{number}"
        raise NameNotFound(text)

    def __contains__(self, name: str) -> bool:
        return name.removesuffix("#1") in self._labelled()

    def __iter__(self) -> Iterator[str]:
        return iter(self._labelled())

    def __len__(self) -> int:
        return len(self._labelled())

    def names(self) -> list[str]:
        """Names of the captured calls, in the order in which they began.

        Calls of several threads are told thread by thread, as if one had waited for the other.
        """
        return list(self._labelled())

    def _labelled(self) -> dict[str, Call]:
        all_calls = [list(calls) for calls in list(self._threads)]
        if sum(map(len, all_calls)) == len(self._labels):
            return self._labels
        times: Counter[str] = Counter()
        found: dict[str, Call] = {}
        for calls in all_calls:
            for name, call in calls:
                times[name] += 1
                found[name if times[name] == 1 else f"{name}#{times[name]}"] = call
        self._labels = found
        return found

    def _before(self, visit: Visit, inputs: Inputs) -> None:
        found = tensors(inputs)
        if visit.recomputed:
            visit.memo = self._first_run_of(visit, found)
        else:
            call = Call([self._copy(tensor) for tensor in found], self._parameters_of(visit.module))
            visit.memo = call
            own = self._here.calls
            if not own:
                self._threads.append(own)
            own.append((visit.name, call))
        if visit.memo is not None:
            self._follow(found, visit.memo._input_flows)

    def _after(self, visit: Visit, output: Any) -> None:
        call, found = visit.memo, tensors(output)
        if call is None:
            return
        if not visit.recomputed:
            call._output = map_tensors(self._copy, output)
            call._output_flows = [Flow() for _ in found]
            call._awaits_graph = not torch.is_grad_enabled()
        self._follow(found, call._output_flows)

    def _first_run_of(self, visit: Visit, found: list[Tensor]) -> Call | None:
        """The call that is being recomputed, where its gradients are still to come.

        Calls of a reused module are told by their inputs. Among equal ones it is the last:
        segments are recomputed in reverse. This thread's come first, which is not theirs where a
        device has a thread of its own for backward passes.
        """
        own = self._here.calls
        others = [calls for calls in list(self._threads) if calls is not own]
        for name, call in chain.from_iterable(map(reversed, [own, *others])):
            if name == visit.name and call._awaits_graph:
                again = call._last_backward == backward_pass()
                if not again and _same(call._inputs, found):
                    call._last_backward = backward_pass()
                    return call
        return None

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor.detach().clone() if self._clone else tensor.detach()

    def _follow(self, found: list[Tensor], flows: list[Flow]) -> None:
        if not self._gradients:
            return
        # Not strict: a module may return more when it is run again with a graph.
        for tensor, flow in zip(found, flows, strict=False):
            if tensor.requires_grad and not flow.outside and not _is_view_without_graph(tensor):
                handle = on_gradient(tensor, flow.add)
                self._handles.append(handle)
                if not self._is_open:  # another thread has left the block meanwhile
                    handle.remove()
                flow.outside = not torch.is_grad_enabled()

    def _parameters_of(self, module: nn.Module) -> dict[str, tuple[Tensor, Flow]]:
        found = {}
        for name, tensor in module.named_parameters():
            if not is_lazy(tensor):  # has no value before its own module is called
                parameter = self._parameter(tensor)
                found[name] = parameter.value, parameter.flow
        return found

    def _parameter(self, tensor: Tensor) -> _Parameter:
        """The parameter with a copy of its value, shared by all calls that see the same value."""
        known = self._parameters.get(id(tensor))
        if known is None:
            new = _Parameter(tensor, self._copy(tensor), Flow())
            known = self._parameters.setdefault(id(tensor), new)
            if known is new:  # and not another thread's
                self._follow([tensor], [known.flow])
        # By value, since writing to `parameter.data` leaves no trace in the parameter's version.
        elif not _equal(known.value, tensor.detach()):
            known.value = self._copy(tensor)
        return known


def _is_view_without_graph(tensor: Tensor) -> bool:
    """Whether it claims to require grad only because it is a view, made in no_grad mode."""
    if torch.is_grad_enabled() or not tensor._is_view():
        return False
    autograd = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]
    if not hasattr(autograd, "_get_creation_meta"):  # a name of torch's own, that may change
        return tensor.is_leaf
    return autograd._get_creation_meta(tensor) == autograd.CreationMeta.NO_GRAD_MODE


def _same(inputs: list[Tensor], others: list[Tensor]) -> bool:
    """Whether two calls took the same tensors; NaN equals NaN."""
    return len(inputs) == len(others) and all(map(_equal, inputs, others))


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers; NaN equals NaN, and on meta there are none."""
    if one.layout != other.layout or one.dtype != other.dtype or one.is_nested != other.is_nested:
        return False
    if one.is_nested:
        ones, others = one.unbind(), other.unbind()
        return len(ones) == len(others) and all(map(_equal, ones, others))
    if one.shape != other.shape or one.is_meta:
        return one.shape == other.shape
    if one.is_quantized:
        one, other = one.dequantize(), other.dequantize()
    elif one.layout != torch.strided:
        one, other = one.to_dense(), other.to_dense()
    if one.is_floating_point() and one.itemsize == 1:  # float8 and float4 know no comparison
        one, other = one.view(torch.uint8), other.view(torch.uint8)
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def capture(
    model: nn.Module,
    *globs: str,
    gradients: bool = True,
    clone: bool = True,
    edit: Edits | None = None,
) -> Capture:
    """Copy what chosen modules take, give and get back while the block runs.

    Args:
        model: any module; its hooks are gone when the block ends, also after an exception.
        globs: patterns over the dotted names of its modules; `*` crosses dots. None means all.
            The model itself has the empty name.
        gradients: also keep gradients. They arrive when `backward()` runs inside the block.
        clone: copy each tensor. Without it the tensors themselves are kept, and an operation in
            place changes what was captured.
        edit: from globs to functions that take a module's output and return another one in the
            same structure, with which the model goes on; gradients flow through the function.

    Returns:
        A context manager; `seen[name]` is the first call of a module with `.input`, `.output`,
        `.grad_input`, `.grad_output`, `.weight`, `.bias`, `.grad_weight`, `.grad_bias` and
        `.parameters`; `seen["name#2"]` is the second call. Calls of several threads are numbered
        thread by thread, as if one had waited for the other.

    Raises:
        NameNotFound: a glob that matches no module; lists the nearest names.
        InputError: the model was compiled before; an edit that is no function, or (when the model
            runs) one that returns another structure.
    """
    return Capture(model, globs, gradients=gradients, clone=clone, edit=edit)
