"""Whole tensors of chosen modules, once: feature maps, kernels, gradients.

    with lampwork.capture(model, "layer4.*") as seen:
        loss_fn(model(x), y).backward()
    seen["layer4.0.conv1"].output

Copies are taken while the module is called, so they hold also where a later operation works in
place. Gradients are those of `torch.autograd.grad`: of the whole loss with respect to that tensor.
Where a hook of yours edits a gradient, the edited one is seen if your hook was there first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(slots=True)
class _Flow:
    """The gradient that has reached one tensor so far, summed over backward passes."""

    gradient: Tensor | None = None
    # Input of a checkpointed segment: all of its gradient comes to the tensor outside, a part of
    # it to the one that is recomputed.
    outside: bool = False

    def add(self, gradient: Tensor) -> None:
        new = gradient.detach()
        # Out of place: the user may hold the sum that was there before.
        self.gradient = new.clone() if self.gradient is None else self.gradient + new


@dataclass(slots=True)
class _Parameter:
    """A parameter in use; held, so that no other tensor can get its id while the block runs."""

    tensor: Tensor
    value: Tensor
    flow: _Flow


class Call:
    """What one call of one module took, gave and got back; `capture` makes it."""

    def __init__(self, inputs: list[Tensor], parameters: dict[str, tuple[Tensor, _Flow]]) -> None:
        self._inputs = inputs
        self._input_flows = [_Flow() for _ in inputs]
        self._parameters = parameters
        self._output: Any = None
        self._output_flows: list[_Flow] = []
        # The forward ran without a graph: reentrant checkpointing will run it again with one, in
        # each backward pass.
        self._awaits_graph = False
        self._last_backward = -1

    @property
    def input(self) -> Any:
        """Positional and keyword tensors in order, a tuple; a single tensor where there is one."""
        return _single(self._inputs)

    @property
    def output(self) -> Any:
        """The output, in the structure that the module returned."""
        return self._output

    @property
    def grad_input(self) -> Any:
        """Gradients of `input` in the same structure, None where none flowed."""
        return _single([flow.gradient for flow in self._input_flows])

    @property
    def grad_output(self) -> Any:
        """Gradients of `output` in the same structure, None where none flowed."""
        flows = iter(self._output_flows)
        return map_tensors(lambda _: next(flows).gradient, self._output)

    @property
    def parameters(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Name within the module → (value at the call, gradient summed over all calls)."""
        return {name: (value, flow.gradient) for name, (value, flow) in self._parameters.items()}

    @property
    def weight(self) -> Tensor | None:
        """The parameter `weight` at the call, None where the module has none."""
        return self.parameters.get("weight", (None, None))[0]

    @property
    def bias(self) -> Tensor | None:
        """The parameter `bias` at the call, None where the module has none."""
        return self.parameters.get("bias", (None, None))[0]

    @property
    def grad_weight(self) -> Tensor | None:
        """The gradient of the parameter `weight`, summed over all calls."""
        return self.parameters.get("weight", (None, None))[1]

    @property
    def grad_bias(self) -> Tensor | None:
        """The gradient of the parameter `bias`, summed over all calls."""
        return self.parameters.get("bias", (None, None))[1]


class Capture:
    """The context manager that `capture` returns, and the mapping from names to calls."""

    def __init__(
        self, model: nn.Module, globs: tuple[str, ...], *, gradients: bool, clone: bool
    ) -> None:
        self._modules = select.by_glob(model, globs or ("*",))
        self._gradients, self._clone = gradients, clone
        self._calls: dict[str, Call] = {}
        self._handles: list[RemovableHandle] = []
        self._parameters: dict[int, _Parameter] = {}
        self._taps: Taps | None = None

    def __enter__(self) -> Capture:
        if self._taps is not None:
            raise InputError("this capture is open already: call lampwork.capture(…) once more")
        self._calls.clear()
        self._taps = Taps(self._modules, before=self._before, after=self._after)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._taps is not None
        self._taps.remove()
        self._taps = None
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._parameters.clear()

    def __getitem__(self, name: str) -> Call:
        """The first call of a module; the second one has the name `name#2`.

        Raises:
            NameNotFound: no such module was captured, or it was not called in the block.
        """
        if name in self:
            return self._calls[name.removesuffix("#1")]
        module, _, number = name.partition("#")
        if module not in self._modules:
            text = names.not_found(module, list(self._modules), what="captured module")
        elif module not in self._calls:
            text = (
                f"{module!r} was not called between entering and leaving the block: "
                "run the model's forward inside it, and check that the forward uses this module"
            )
        else:
            calls = sum(label.partition("#")[0] == module for label in self._calls)
            times = "once" if calls == 1 else f"{calls} times"
            text = f"{module!r} was called {times}, there is no call #{number}"
        raise NameNotFound(text)

    def __contains__(self, name: str) -> bool:
        return name.removesuffix("#1") in self._calls

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def names(self) -> list[str]:
        """Names of the captured calls, in the order in which they began."""
        return list(self._calls)

    def _before(self, visit: Visit, inputs: Inputs) -> None:
        found = tensors(inputs)
        if visit.recomputed:
            visit.memo = self._first_run_of(visit, found)
        else:
            call = Call([self._copy(tensor) for tensor in found], self._parameters_of(visit.module))
            label = visit.name if visit.call == 1 else f"{visit.name}#{visit.call}"
            self._calls[label] = visit.memo = call
        if visit.memo is not None:
            self._follow(found, visit.memo._input_flows)

    def _after(self, visit: Visit, output: Any) -> None:
        call, found = visit.memo, tensors(output)
        if call is None:
            return
        if not visit.recomputed:
            call._output = map_tensors(self._copy, output)
            call._output_flows = [_Flow() for _ in found]
            call._awaits_graph = not torch.is_grad_enabled()
        self._follow(found, call._output_flows)

    def _first_run_of(self, visit: Visit, found: list[Tensor]) -> Call | None:
        """The call that is being recomputed, where its gradients are still to come.

        Calls of a reused module are told by their inputs. Among equal ones it is the last:
        segments are recomputed in reverse.
        """
        for label, call in reversed(self._calls.items()):
            if label.partition("#")[0] == visit.name and call._awaits_graph:
                again = call._last_backward == backward_pass()
                if not again and _same(call._inputs, found):
                    call._last_backward = backward_pass()
                    return call
        return None

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor.detach().clone() if self._clone else tensor.detach()

    def _follow(self, found: list[Tensor], flows: list[_Flow]) -> None:
        if not self._gradients:
            return
        # Not strict: a module may return more when it is run again with a graph.
        for tensor, flow in zip(found, flows, strict=False):
            if tensor.requires_grad and not flow.outside:
                self._handles.append(on_gradient(tensor, flow.add))
                flow.outside = not torch.is_grad_enabled()

    def _parameters_of(self, module: nn.Module) -> dict[str, tuple[Tensor, _Flow]]:
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
            known = _Parameter(tensor, self._copy(tensor), _Flow())
            self._parameters[id(tensor)] = known
            self._follow([tensor], [known.flow])
        # By value, since writing to `parameter.data` leaves no trace in the parameter's version.
        elif not torch.equal(known.value, tensor):
            known.value = self._copy(tensor)
        return known


def _single(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)


def _same(inputs: list[Tensor], others: list[Tensor]) -> bool:
    """Whether two calls took the same tensors; NaN equals NaN."""
    return len(inputs) == len(others) and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        for one, other in zip(inputs, others, strict=True)
    )


def capture(model: nn.Module, *globs: str, gradients: bool = True, clone: bool = True) -> Capture:
    """Copy what chosen modules take, give and get back while the block runs.

    Args:
        model: any module; its hooks are gone when the block ends, also after an exception.
        globs: patterns over the dotted names of its modules; `*` crosses dots. None means all.
            The model itself has the empty name.
        gradients: also keep gradients. They arrive when `backward()` runs inside the block.
        clone: copy each tensor. Without it the tensors themselves are kept, and an operation in
            place changes what was captured.

    Returns:
        A context manager; `seen[name]` is the first call of a module with `.input`, `.output`,
        `.grad_input`, `.grad_output`, `.weight`, `.bias`, `.grad_weight`, `.grad_bias` and
        `.parameters`; `seen["name#2"]` is the second call.

    Raises:
        NameNotFound: a glob that matches no module; lists the nearest names.
        InputError: the model was compiled before.
    """
    return Capture(model, globs, gradients=gradients, clone=clone)


class GradientCapture:
    """The context manager that `capture_gradients` returns: one attribute per name."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise InputError(f"{name} is a {type(tensor).__name__}: give the tensor itself")
            if not tensor.requires_grad:
                raise InputError(
                    f"{name} is a tensor without graph, so no gradient can reach it: make it, or "
                    "what it is computed from, with requires_grad=True and outside torch.no_grad()"
                )
        self._tensors: dict[str, Tensor] | None = tensors
        self._flows = {name: _Flow() for name in tensors}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> GradientCapture:
        if self._tensors is None:
            raise InputError(
                "this block was entered before: call lampwork.capture_gradients(…) once more"
            )
        self._handles = [
            on_gradient(tensor, self._flows[name].add) for name, tensor in self._tensors.items()
        ]
        # Whether the graph outlives the block is the user's affair.
        self._tensors = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __getattr__(self, name: str) -> Tensor | None:
        flows: dict[str, _Flow] = self.__dict__.get("_flows", {})
        if name not in flows:
            known = ", ".join(flows) or "none"
            raise AttributeError(f"no tensor was given as {name!r}; there are: {known}")
        return flows[name].gradient


def capture_gradients(**tensors: Tensor) -> GradientCapture:
    """Keep the gradients of any tensors, leaf or not, by the names you give them.

        with lampwork.capture_gradients(c=c, e=e) as gradients:
            loss.backward()
        gradients.c

    Args:
        tensors: tensors that require grad.

    Returns:
        A context manager with one attribute per name: the gradient (of the tensor's shape, summed
        over the backward passes of the block), or None while none has flowed.

    Raises:
        InputError: a tensor that no gradient can reach.
    """
    return GradientCapture(tensors)
