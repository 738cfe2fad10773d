"""A rehearsal: one forward and one backward pass with taps on, of which nothing remains.

What the model does is written down per module (`Output`), per nonlinearity that it calls as a
module or as a function (`Meeting`), and per parameter (`Slope`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lampwork.init.objective import Loss, guess_loss
from lampwork.taps import functions
from lampwork.taps.forward import call_of, explain, on_meta_as_the_model
from lampwork.taps.select import with_values
from lampwork.taps.statistic import channel_dim, has_1d_convolutions
from lampwork.taps.structure import tensors
from lampwork.taps.tap import Taps, Visit, on_gradient

_BOUNDS = {"tanh": (-0.97, 0.97), "sigmoid": (0.03, 0.97), "hardtanh": (-1.0, 1.0)}
"""Beyond these a function passes less than six per cent of a gradient."""


@dataclass
class Output:
    """What a module puts out, over all its calls; `spread` is about each unit's mean."""

    name: str
    order: int
    calls: int = 0
    count: int = 0
    squares: float = 0.0
    spread_squares: float = 0.0
    compared: int = 0
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    gradient_squares: float = 0.0
    gradients: int = 0
    gradient_nonfinite: int = 0

    @property
    def moment(self) -> float:
        """The second moment of the output."""
        return self.squares / self.count if self.count else math.nan

    @property
    def spread(self) -> float:
        """The variance between samples and positions, averaged over units; NaN for one of them."""
        return self.spread_squares / self.compared if self.compared else math.nan

    @property
    def gradient(self) -> float:
        """The second moment of the gradient; NaN where none came."""
        return self.gradient_squares / self.gradients if self.gradients else math.nan


@dataclass(frozen=True)
class Meeting:
    """One call of a nonlinearity: how much of what it gave can no longer move.

    Attributes:
        name: of the function, `"relu"`.
        where: the module that is the function, else the last layer before it.
        layer: the last module with parameters before it.
        units: how many channels came.
        dead: share of the channels that were zero throughout; of `relu`.
        saturated: share of values at the ends; of `tanh` and `sigmoid`.
        seen: values per channel.
    """

    name: str
    where: str
    layer: str
    units: int
    seen: int
    dead: float = 0.0
    saturated: float = 0.0


@dataclass(frozen=True)
class Slope:
    """The gradient of one parameter: its largest magnitude, and how many are not finite."""

    absmax: float
    nonfinite: int


@dataclass
class Rehearsal:
    """All that the pass told, in the order of execution."""

    outputs: dict[str, Output] = field(default_factory=dict)
    meetings: list[Meeting] = field(default_factory=list)
    slopes: dict[int, Slope] = field(default_factory=dict)
    loss: Loss | None = None
    backward: bool = False
    varied: bool = False


def rehearse(model: nn.Module, x: Any, y: Any, loss_fn: Callable[..., Any] | None) -> Rehearsal:
    """Runs the pass; inside of `lampwork.init.untouched`. Gradients of parameters are left on them.

    Raises:
        InputError: the model does not run on `x`, or the loss cannot be computed.
    """
    args, kwargs = on_meta_as_the_model(model, call_of(x))
    model.zero_grad(set_to_none=True)
    watcher = _Watcher(model)
    rehearsal = watcher.rehearsal
    rehearsal.varied = any(_varies(tensor) for tensor in tensors((args, kwargs)))
    try:
        with torch.enable_grad(), watcher:
            try:
                output = model(*args, **kwargs)
            except Exception as error:
                raise explain(model, (args, kwargs), error, None) from error
        with torch.enable_grad():
            rehearsal.loss = guess_loss(output, y, loss_fn, labels=kwargs.get("labels"))
            if rehearsal.loss.value.requires_grad:
                rehearsal.loss.value.backward()
                rehearsal.backward = True
    finally:
        watcher.remove()
    for parameter in model.parameters():
        if parameter.grad is not None:
            rehearsal.slopes[id(parameter)] = _slope(parameter.grad)
    return rehearsal


class _Watcher(TorchFunctionMode):
    """Taps on the modules, and an eye on every nonlinearity that torch is asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.rehearsal = Rehearsal()
        self._channels_first = has_1d_convolutions(model)
        self._open: list[str] = []
        self._layer = ""
        modules = with_values(model)
        self._owners = {
            name for name, module in modules.items() if [*module.parameters(recurse=False)]
        }
        self._leaves = {name for name, module in modules.items() if not [*module.children()]}
        self._taps = Taps(modules, before=self._enter, after=self._leave)

    def remove(self) -> None:
        """Takes the hooks off."""
        self._taps.remove()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        met = functions.nonlinearity(functions.name_of(func), args, kwargs or {})
        if met and isinstance(result, Tensor):
            self._meet(met[0], result)
        return result

    def _meet(self, name: str, result: Tensor) -> None:
        inside = self._open[-1] if self._open else ""
        where = inside if inside in self._leaves else self._layer or inside
        found = _meeting(name, result.detach(), where, self._layer or inside, self._channels_first)
        if found:
            self.rehearsal.meetings.append(found)

    def _enter(self, visit: Visit, inputs: Any) -> None:
        self._open.append(visit.name)

    def _leave(self, visit: Visit, output: Any) -> None:
        while self._open and self._open.pop() != visit.name:
            pass
        if visit.recomputed:
            return
        outputs = self.rehearsal.outputs
        seen = outputs.setdefault(visit.name, Output(visit.name, len(outputs)))
        seen.calls += 1
        if visit.name in self._owners:
            self._layer = visit.name
        for tensor in tensors(output):
            if tensor.is_floating_point() and tensor.numel() and tensor.layout == torch.strided:
                _add_values(seen, tensor, self._channels_first)
                if tensor.requires_grad:
                    on_gradient(tensor, lambda gradient: _add_gradient(seen, gradient))


@torch.no_grad()
def _add_values(seen: Output, tensor: Tensor, channels_first: bool) -> None:
    values = wide(tensor)
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        seen.nan += int(torch.isnan(values).sum())
        seen.posinf += int((values == math.inf).sum())
        seen.neginf += int((values == -math.inf).sum())
        values = torch.where(finite, values, 0.0)
    seen.count += values.numel()
    seen.squares += float(values.square().sum(dtype=torch.float64))
    dim = channel_dim(values, channels_first=channels_first)
    if dim is not None and values.numel() > values.shape[dim]:
        others = [d for d in range(values.dim()) if d != dim]
        centred = values - values.mean(dim=others, keepdim=True)
        seen.spread_squares += float(centred.square().sum(dtype=torch.float64))
        seen.compared += values.numel()


def _add_gradient(seen: Output, gradient: Tensor) -> None:
    values = wide(gradient)
    finite = torch.isfinite(values)
    seen.gradient_nonfinite += int((~finite).sum())
    seen.gradient_squares += float(torch.where(finite, values, 0.0).double().square().sum())
    seen.gradients += values.numel()


@torch.no_grad()
def _meeting(
    name: str, result: Tensor, where: str, layer: str, channels_first: bool
) -> Meeting | None:
    dim = channel_dim(result, channels_first=channels_first)
    if dim is None or (name != "relu" and name not in _BOUNDS):
        return None
    units = result.shape[dim]
    seen = result.numel() // units
    if name == "relu":
        alive = (local(result) != 0).movedim(dim, 0).reshape(units, -1).any(1)
        return Meeting(name, where, layer, units, seen, dead=1.0 - float(alive.float().mean()))
    low, high = _BOUNDS[name]
    ends = float(((result <= low) | (result >= high)).float().mean())
    return Meeting(name, where, layer, units, seen, saturated=ends)


def _slope(gradient: Tensor) -> Slope:
    values = wide(local(gradient))
    if not values.numel():
        return Slope(0.0, 0)
    finite = torch.isfinite(values)
    return Slope(float(torch.where(finite, values, 0.0).abs().max()), int((~finite).sum()))


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, dense and detached."""
    tensor = tensor.detach()
    tensor = getattr(tensor, "to_local", lambda: tensor)()
    return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor


def wide(tensor: Tensor) -> Tensor:
    """This rank's part in float32 or float64."""
    tensor = local(tensor)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _varies(tensor: Tensor) -> bool:
    """Whether the samples of a batch differ."""
    return bool(tensor.dim() and tensor.shape[0] > 1 and (tensor[1:] != tensor[:1]).any())
