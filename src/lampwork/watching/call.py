"""What one call of one module took, gave and got back."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import Tensor

from lampwork.taps.structure import map_tensors

_adding = Lock()


@dataclass(slots=True)
class Flow:
    """The gradient that has reached one tensor so far, summed over backward passes."""

    gradient: Tensor | None = None
    # Input of a checkpointed segment: all of its gradient comes to the tensor outside, a part of
    # it to the one that is recomputed.
    outside: bool = False

    def add(self, gradient: Tensor) -> None:
        """Add what one backward pass brought."""
        new = gradient.detach()
        while True:
            old = self.gradient
            # Out of place: the user may hold the sum that was there before.
            total = new.clone() if old is None else _sum(old, new)
            with _adding:  # several threads may go backward to one tensor
                if self.gradient is old:
                    self.gradient = total
                    return


def _sum(old: Tensor, new: Tensor) -> Tensor:
    if new.is_floating_point() and new.itemsize == 1:  # float8 knows no addition
        return (old.float() + new.float()).to(new.dtype)
    return old + new


class Call:
    """What one call of one module took, gave and got back; `capture` makes it."""

    def __init__(self, inputs: list[Tensor], parameters: dict[str, tuple[Tensor, Flow]]) -> None:
        self._inputs = inputs
        self._input_flows = [Flow() for _ in inputs]
        self._parameters = parameters
        self._output: Any = None
        self._output_flows: list[Flow] = []
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


def _single(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)
