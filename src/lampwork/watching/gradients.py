"""Gradients of any tensors, leaf or not, by the names that the user gives them."""

from __future__ import annotations

from types import TracebackType

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lampwork._core.errors import InputError
from lampwork.taps.tap import on_gradient
from lampwork.watching.call import Flow


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
        self._flows = {name: Flow() for name in tensors}
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
        flows: dict[str, Flow] = self.__dict__.get("_flows", {})
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
