"""Statistics computed inside of a compiled graph.

Torch looks for hooks when it compiles, and no more afterwards. So hooks are there before the first
call and stay; a Python bool tells them whether to record, which makes two graphs: one that records
and one without a trace of us. In the recording one each row is made by an operator of our own,
which torch leaves as it is.

How a row leaves the graph: as a gradient. An output passes through an identity that has a second
input, a small leaf of our own, and whose backward gives that leaf the rows of output and gradient.
Nothing is written in place, in neither pass, so that torch's checks of versions and its partition
of the graph, checkpoints included, have nothing to object to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lampwork._core.summary import WIDTH, empty_row
from lampwork._native import row_operator
from lampwork._native.row_operator import row
from lampwork._native.stats import SIZES
from lampwork._native.stats_torch import filled
from lampwork.taps.tap import on_output_in_graph, seen_by_compiler

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PLAIN = (Tensor, nn.Parameter)
_MOST = 8  # tensors of one module in a forward pass, on one device


class Read(NamedTuple):
    """What a graph told of one output: rows of it and of its gradient."""

    name: str
    call: int
    part: int
    dtype: str
    shape: Tensor  # filled up with -1
    output: Tensor
    gradient: Tensor


@dataclass
class _Place:
    """One module: what it gave, and the leaves through which its rows come.

    A leaf has to be where its gradient is computed: autograd's engine has no stream for one on the
    CPU that gets a gradient on CUDA. A module without parameters does not tell where it computes,
    so that there are leaves on each device of the model, one device behind the other.
    """

    name: str
    devices: list[torch.device]
    leaves: list[Tensor]
    told: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    """By leaf: call, part, dtype."""

    def take(self, key: tuple[int, int, str], device: torch.device) -> int:
        """Which leaf the rows of something come through; -1 where there is none left."""
        if device not in self.devices:
            return -1
        first = self.devices.index(device) * _MOST
        for leaf in range(first, first + _MOST):
            if self.told.setdefault(leaf, key) == key:
                return leaf
        return -1

    def renew(self) -> dict[int, Tensor]:
        """New leaves in the place of those that were used, which are returned."""
        used = {leaf: self.leaves[leaf] for leaf in self.told}
        for leaf, tensor in used.items():
            self.leaves[leaf] = _leaf(tensor.device)
        return used


def _leaf(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        # Nobody reads what is in it.
        return torch.empty(2, WIDTH + SIZES, dtype=torch.float64, device=device).requires_grad_()


def _place(name: str, devices: list[torch.device]) -> _Place:
    return _Place(name, devices, [_leaf(device) for device in devices for _ in range(_MOST)])


class CompiledTaps:
    """Hooks on modules, of which nothing is to be seen as long as they run eagerly.

    Args:
        model: the model, which tells where there is something to compute.
        modules: those whose outputs are measured, by name.

    Attributes:
        on: whether the passes that run now are recorded.
        traced: whether torch has compiled the hooks into a graph; they must stay then.
    """

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        self.on = self.traced = False
        self._model, self._modules = model, modules
        self._generation = "0"  # a text, since torch would make a variable of a number that changes
        self._places: list[_Place] = []
        self._waiting: list[list[dict[int, Tensor]]] = []
        self._numbering = _Numbering()
        self._handles: dict[str, RemovableHandle] = {}

    def install(self) -> None:
        """Put the hooks on, unless they are."""
        if self._handles:
            return
        row_operator.make()
        # A step without torch.compile takes none of the leaves, and each is an allocation: kept.
        devices = _devices(self._model)
        wanted = [(name, devices) for name in self._modules]
        if wanted != [(place.name, place.devices) for place in self._places]:
            self._places = [_place(name, devices) for name in self._modules]
        for number, (name, module) in enumerate(self._modules.items()):
            self._put(number, name, module)

    def _put(self, number: int, name: str, module: nn.Module) -> None:
        hook = self._hook(number, self._places[number])
        self._handles[name] = on_output_in_graph(module, hook)

    def follow(self, modules: Mapping[str, nn.Module]) -> None:
        """Measure these modules from now on.

        Torch does not look for hooks on what it has compiled. It may have compiled the new modules
        already, but it does compile anew where a value differs that all our hooks look at.
        """
        self._generation = str(int(self._generation) + 1)
        before, self._modules = self._modules, modules
        if not self.traced:
            installed, on = bool(self._handles), self.on
            self.remove()
            self.on = on
            if installed:
                self.install()
            return
        changed = {name for name in before if modules.get(name) is not before[name]}
        for name in changed & self._handles.keys():
            self._handles.pop(name).remove()
        numbers = {place.name: number for number, place in enumerate(self._places)}
        for name, module in modules.items():
            if name not in numbers:
                numbers[name] = len(self._places)
                self._places.append(_place(name, _devices(self._model)))
                for waiting in self._waiting:
                    waiting.append({})
            if name not in self._handles:
                self._put(numbers[name], name, module)

    def remove(self) -> None:
        """Take the hooks off; does nothing the second time."""
        if self.traced:
            self._places = []
        self.on = self.traced = False
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()
        self._waiting.clear()

    def begin(self) -> None:
        """A forward pass begins, whose rows are not to be added to those of the last one."""
        if self.traced:
            self._waiting.append([place.renew() for place in self._places])

    def take(self) -> list[Read]:
        """What came since the last call."""
        self.begin()
        told: dict[torch.device, list[tuple[str, int, int, str]]] = {}
        rows: dict[torch.device, list[Tensor]] = {}
        for leaves in self._waiting:
            for place, used in zip(self._places, leaves, strict=True):
                for number, leaf in used.items():
                    if leaf.grad is not None:
                        told.setdefault(leaf.device, []).append((place.name, *place.told[number]))
                        rows.setdefault(leaf.device, []).append(leaf.grad)
        self._waiting.clear()
        return [read for device, keys in told.items() for read in _reads(keys, rows[device])]

    def _hook(self, number: int, place: _Place) -> Callable[[nn.Module, Any], Any]:
        @seen_by_compiler
        def next_leaf(part: int, dtype: str, device: torch.device) -> int:
            # Runs while torch compiles, and is a constant in the graph.
            self.traced = True
            return place.take((self._numbering.call(number, part), part, dtype), device)

        def through(part: int, tensor: Tensor) -> Tensor:
            if tensor.dtype not in _FLOATS or not tensor.requires_grad or tensor.dim() > SIZES:
                return tensor
            if type(tensor) not in _PLAIN:  # a subclass has operators of its own, and not this one
                return tensor
            leaf = next_leaf(part, str(tensor.dtype), tensor.device)
            return tensor if leaf < 0 else _Reading.apply(tensor, place.leaves[leaf])

        def hook(module: nn.Module, output: Any) -> Any:
            if not self.on or not self._generation or not torch.is_grad_enabled():
                return None
            if isinstance(output, Tensor):
                return through(0, output)
            if type(output) is tuple:
                return tuple(
                    through(i, x) if isinstance(x, Tensor) else x for i, x in enumerate(output)
                )
            return None

        return hook


@dataclass
class _Numbering:
    """The calls of each module, counted while torch traces, which it may do anew from any frame."""

    frame: Any = None
    attempt: Any = None
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    before: dict[Any, Counter[tuple[int, int]]] = field(default_factory=dict)  # each frame

    def call(self, number: int, part: int) -> int:
        """Which call of module `number` is being traced, from 1."""
        frame, attempt = _traced_frame()
        if (frame, attempt) != (self.frame, self.attempt):
            self.frame, self.attempt = frame, attempt
            self.counts = Counter(self.before.setdefault(frame, Counter(self.counts)))
        self.counts[number, part] += 1
        return self.counts[number, part]


def _traced_frame() -> tuple[Any, Any]:
    """The frame that torch is compiling, and which attempt it is."""
    try:
        trace = torch._guards.CompileContext.current_trace_id()  # pyright: ignore[reportAttributeAccessIssue]
        compile_id = trace.compile_id
        return compile_id.frame_id, (compile_id.frame_compile_id, trace.attempt)
    except AttributeError:  # names of torch's own, that may change: then calls are not told apart
        return None, object()


def _devices(model: nn.Module) -> list[torch.device]:
    """Where a model computes what has a gradient."""
    found = dict.fromkeys(parameter.device for parameter in model.parameters())
    return list(found) or [torch.get_default_device()]


@torch.no_grad()
def _reads(keys: list[tuple[str, int, int, str]], rows: list[Tensor]) -> list[Read]:
    table = torch.stack(rows)
    shapes = table[:, 0, WIDTH:]
    # Where a graph went backward twice the rows were added, minima and all: they tell nothing.
    once = table[:, 0, 0] == torch.where(shapes < 0, 1.0, shapes).prod(1)
    empty = filled(empty_row().tolist(), table.device)
    table = torch.where(once[:, None, None], table[:, :, :WIDTH], empty)
    return [
        Read(*key, shape, output, gradient)
        for key, shape, (output, gradient) in zip(keys, shapes, table, strict=True)
    ]


class _Reading(torch.autograd.Function):
    """Identity of the first input; the second one's gradient is what was read."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, leaf: Tensor) -> Tensor:
        # A view would forbid a consumer that works in place. Inductor leaves the copy out.
        ctx.save_for_backward(row(x.detach()))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (of_x,) = ctx.saved_tensors
        return gradient, torch.stack([of_x, row(gradient)])
