"""A rehearsal: one forward and one backward pass with taps on, of which nothing remains.

What the model does is written down per module (`Output`), per nonlinearity that it calls as a
module or as a function (`Meeting`), and per parameter (`Slope`). Parameters' gradients, buffers,
training flags, hooks on gradients and the random state are afterwards what they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from lampwork._core.errors import InputError
from lampwork.init.objective import Loss, guess_loss
from lampwork.taps import functions
from lampwork.taps.forward import as_it_was, call_of, explain, on_meta_as_the_model
from lampwork.taps.select import with_values
from lampwork.taps.statistic import alive, channel_dim, has_1d_convolutions
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


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Gradients empty inside, hooks on them asleep, flags as a first step would have them."""
    parameters = list(model.parameters())
    kept = [(parameter, parameter.grad) for parameter in parameters]
    hooks = [(p, dict(getattr(p, "_post_accumulate_grad_hooks", None) or {})) for p in parameters]
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with as_it_was(model):
        try:
            for module, flag in flags:
                module.training = _trains(module, flag)
            for parameter, own in hooks:
                parameter.grad = None
                if own:  # an optimizer in the backward pass would step
                    parameter._post_accumulate_grad_hooks.clear()  # pyright: ignore
            yield
        finally:
            for parameter, gradient in kept:
                parameter.grad = gradient
            for parameter, own in hooks:
                if own:
                    parameter._post_accumulate_grad_hooks.update(own)  # pyright: ignore
            for buffer, value in buffers:
                # Running statistics move without a new version, and are put back without one.
                buffer.data.copy_(value)


def _trains(module: nn.Module, flag: bool) -> bool:
    if isinstance(module, _NormBase):
        # Statistics that nobody has gathered yet are no statistics.
        counted = getattr(module, "num_batches_tracked", None)
        return flag or (counted is not None and not counted.is_meta and int(counted) == 0)
    return flag and not isinstance(module, _DropoutNd)


def rehearse(model: nn.Module, x: Any, y: Any, loss_fn: Callable[..., Any] | None) -> Rehearsal:
    """Runs the pass; inside of `untouched`. Gradients of parameters are left on them.

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
    values = _wide(tensor)
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
    values = _wide(gradient)
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
        dead = 1.0 - float(alive(result, dim).sum()) / units
        return Meeting(name, where, layer, units, seen, dead=dead)
    low, high = _BOUNDS[name]
    ends = float(((result <= low) | (result >= high)).float().mean())
    return Meeting(name, where, layer, units, seen, saturated=ends)


def _slope(gradient: Tensor) -> Slope:
    values = _wide(local(gradient))
    if not values.numel():
        return Slope(0.0, 0)
    finite = torch.isfinite(values)
    return Slope(float(torch.where(finite, values, 0.0).abs().max()), int((~finite).sum()))


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, dense and detached."""
    tensor = tensor.detach()
    tensor = getattr(tensor, "to_local", lambda: tensor)()
    return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor


def _wide(tensor: Tensor) -> Tensor:
    tensor = local(tensor)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _varies(tensor: Tensor) -> bool:
    """Whether the samples of a batch differ."""
    return bool(tensor.dim() and tensor.shape[0] > 1 and (tensor[1:] != tensor[:1]).any())


def look_ahead(model: nn.Module, run: Callable[[], Rehearsal], wanted: Iterable[int]) -> set[int]:
    """Which of these parameters, by id, get no gradient after two steps of gradient descent either.

    Zeros behind zeros may be reached once what hides them has moved, as the gates of a diffusion
    transformer are, or never. Begins with the gradients that a pass has left; the steps are taken
    back.
    """
    stuck = set(wanted)
    saved = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    try:
        for _ in range(2):
            with torch.no_grad():
                for parameter, value in saved:
                    if parameter.grad is not None and parameter.is_floating_point():
                        size = float(_wide(parameter.grad).norm())
                        if size > 0 and math.isfinite(size):
                            step = 0.1 * (float(_wide(value).norm()) or 1.0) / size
                            parameter.sub_(parameter.grad, alpha=step)
            slopes = run().slopes
            stuck -= {key for key in stuck if key in slopes and slopes[key].absmax > 0}
            if not stuck:
                break
    finally:
        with torch.no_grad():
            for parameter, value in saved:
                parameter.copy_(value)
    return stuck


def require_memory(model: nn.Module) -> None:
    """Refuses a model on meta, which holds no values.

    Raises:
        InputError: names the first such tensor.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise InputError(
                f"{name!r} is on meta and holds no values to check: call "
                "model.to_empty(device='cpu') and plan.apply() first"
            )
