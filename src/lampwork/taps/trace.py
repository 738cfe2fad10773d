"""Which function consumes which layer: one forward pass, watched at torch's function level.

A `TorchFunctionMode` sees every torch function that the model calls, whether a module or a line
of `forward` calls it. For each tensor it keeps a short note: which layers' outputs flow in it that
no nonlinearity has met yet (`unmet`), which layers came last on the way (`last`), through how many
layers it went (`depth`), and from which inputs it comes (`roots`). From these follow

- the consumer: the first nonlinearity that meets a layer's output. Everything that is not known
  to be a nonlinearity, a product of data with data or another layer is looked through:
  normalisation, dropout, pooling, reshaping, scaling, addition;
- the closed residual branch: an addition of two tensors of one shape that come from the same
  input, one of them through more layers than the other. The last layers of the longer way close
  the branch; the shorter way is the skip.

Layers are named by their parameters, so a call like `F.linear(x, self.w)` counts as well as a
module. What runs inside one fused function (LSTM, GRU) stays unseen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lampwork._core.errors import InputError
from lampwork.taps.structure import map_tensors, tensors

# Nonlinearities by the name of the torch function, with the argument that shapes them.
ACTIVATIONS: Mapping[str, str | None] = {
    "celu": "alpha",
    "elu": "alpha",
    "gelu": None,
    "hardshrink": None,
    "hardsigmoid": None,
    "hardswish": None,
    "hardtanh": None,
    "leaky_relu": "negative_slope",
    "logsigmoid": None,
    "mish": None,
    "prelu": None,
    "relu": None,
    "relu6": None,
    "rrelu": None,
    "selu": None,
    "sigmoid": None,
    "silu": None,
    "sin": None,
    "softplus": "beta",
    "softshrink": None,
    "softsign": None,
    "tanh": None,
    "tanhshrink": None,
}
_SYNONYMS = {"log_sigmoid": "logsigmoid", "swish": "silu"}

_CONVOLUTIONS = [f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)]
_RECURRENT = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
_CELLS = ["lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"]
# Functions that apply a weight, with the number of leading arguments that are inputs.
_LAYERS = {
    **dict.fromkeys(["linear", "embedding", "embedding_bag", *_CONVOLUTIONS], 1),
    **dict.fromkeys(["bilinear", *_RECURRENT, *_CELLS], 2),
    "multi_head_attention_forward": 3,
}
# A product is a layer where one side is a parameter, and the end of the signal where both are data.
_PRODUCTS = {"matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "__matmul__", "__rmatmul__"}
_WEIGHINGS = {"softmax", "softmin", "gumbel_softmax"}
_ATTENTION = "scaled_dot_product_attention"
_ENDS = _PRODUCTS | _WEIGHINGS | {_ATTENTION, "log_softmax", "glu", "exp", "log", "square", "abs"}
_ADDITIONS = {"add", "__add__", "__radd__", "__iadd__"}


@dataclass(frozen=True)
class Use:
    """What becomes of a layer's output.

    Attributes:
        nonlinearity: the torch functional's name, `"linear"` where none was met.
        param: the argument that shapes it, e.g. the slope of `leaky_relu`; None where it has none.
        residual: whether the output closes a residual branch.
    """

    nonlinearity: str = "linear"
    param: float | None = None
    residual: bool = False


@dataclass(frozen=True)
class _Note:
    """What is known of one tensor; `weights` is not empty where it is made of parameters only."""

    weights: frozenset[str] = frozenset()
    unmet: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()
    depth: int = 0
    roots: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Call:
    """One call of a torch function, with the notes of its tensors as they were before it."""

    name: str
    func: Callable
    args: tuple
    kwargs: dict[str, Any]
    inputs: list[Tensor]
    notes: list[_Note | None]

    def of(self, tensor: Any) -> _Note:
        """The note of one argument."""
        found = (n for t, n in zip(self.inputs, self.notes, strict=True) if t is tensor)
        return next(found, None) or _Note()


def consumers(model: nn.Module, example: Any) -> dict[str, Use]:
    """Runs the model once on the example and tells for each parameter what its layer feeds.

    The pass runs in evaluation mode without gradients. Training flags, buffers and torch's random
    state are afterwards what they were. The activations of the one pass are held until it ends.

    Args:
        model: any module; on meta it is traced on meta tensors.
        example: a tensor, a tuple (positional) or a dict (keyword), as the model takes them.

    Returns:
        Name of the parameter → its use, for every parameter of two or more dimensions that a
        layer's function took, and for those of a normalisation that closes a branch.

    Raises:
        InputError: the model does not run on the example.
    """
    args, kwargs = _call_of(example)
    if any(parameter.is_meta for parameter in model.parameters()):
        args, kwargs = map_tensors(lambda tensor: tensor.to("meta"), (args, kwargs))
    watcher = _Watcher(model, tensors((args, kwargs)))
    with _as_it_was(model), torch.no_grad(), watcher:
        try:
            model(*args, **kwargs)
        except Exception as error:
            raise InputError(
                f"the model does not run on the example ({_shapes([args, kwargs])}): "
                f"{type(error).__name__}: {error}: pass a tensor, a tuple (positional) or a dict "
                f"(keyword) as {type(model).__name__}.forward takes them"
            ) from error
    return watcher.uses()


class _Watcher(TorchFunctionMode):
    """Keeps a note per tensor. Tensors are held, so that no id is given out twice."""

    def __init__(self, model: nn.Module, inputs: list[Tensor]) -> None:
        super().__init__()
        self._notes: dict[int, _Note] = {}
        self._held: list[Tensor] = []
        self._met: dict[str, tuple[str, float | None]] = {}
        self._seen: dict[str, None] = {}  # a set that keeps the order of the pass
        self._closing: set[str] = set()
        for name, parameter in model.named_parameters():
            self._set(parameter, _Note(weights=frozenset([name])))
        for number, tensor in enumerate(inputs):
            self._set(tensor, _Note(roots=frozenset([number])))

    def uses(self) -> dict[str, Use]:
        """The answer, after the pass."""
        return {
            name: Use(*self._met.get(name, ("linear", None)), residual=name in self._closing)
            for name in self._seen
        }

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = tensors((args, kwargs))
        # Notes are read before the call: an in-place function returns its own argument.
        notes = [self._notes.get(id(tensor)) for tensor in inputs]
        call = _Call(_name(func), func, args, kwargs, inputs, notes)
        result = func(*args, **kwargs)
        outputs = [args[0]] if call.name == "__setitem__" else tensors(result)
        if outputs and any(notes) and not call.name.endswith("_like"):
            note = self._follow(call)
            for tensor in outputs:
                self._set(tensor, note)
        return result

    def _follow(self, call: _Call) -> _Note:
        """The note of the call's results; what the call consumes or closes is written down."""
        data = [note for note in call.notes if note and not note.weights]
        weights = frozenset[str]().union(*(note.weights for note in call.notes if note))
        of_data = any(note is None or not note.weights for note in call.notes)
        if call.name in _LAYERS or (call.name in _PRODUCTS and weights and of_data):
            return self._layer(call)
        if not data:
            return _Note(weights=weights)
        merged = _merge(data)
        if call.name in _ADDITIONS:
            self._close(call)
        met = _nonlinearity(call) or (("linear", None) if call.name in _ENDS else None)
        if met:
            self._meet(merged.unmet, met)
            return replace(merged, unmet=frozenset(), last=_carried(call, merged))
        # A parameter on the way, as in normalisation, belongs to the layers that came last.
        return replace(merged, last=merged.last | weights)

    def _layer(self, call: _Call) -> _Note:
        """A layer consumes what comes in linearly, and starts anew."""
        count = _LAYERS.get(call.name, 0)
        leading = {id(tensor) for tensor in tensors(call.args[:count])}
        data: list[_Note] = []
        matrices = frozenset[str]()
        for tensor, note in zip(call.inputs, call.notes, strict=True):
            if note and (id(tensor) in leading or not note.weights):
                data.append(note)
            elif note and tensor.dim() >= 2:
                matrices |= note.weights
        self._seen |= dict.fromkeys(sorted(matrices))
        merged = _merge(data)
        self._meet(merged.unmet, ("linear", None))
        ends = matrices
        if call.name == "multi_head_attention_forward":
            bound = inspect.signature(call.func).bind(*call.args, **call.kwargs).arguments
            ends = call.of(bound["out_proj_weight"]).weights
        return _Note(unmet=ends, last=ends, depth=merged.depth + 1, roots=merged.roots)

    def _meet(self, layers: frozenset[str], met: tuple[str, float | None]) -> None:
        for layer in layers:
            self._met.setdefault(layer, met)

    def _close(self, call: _Call) -> None:
        """Marks the layers that close a residual branch, if this addition is one."""
        if len(call.inputs) != 2 or call.inputs[0].shape != call.inputs[1].shape:
            return
        one, other = call.notes
        if one and other and one.roots & other.roots and one.depth != other.depth:
            longer = one if one.depth > other.depth else other
            self._closing |= longer.last
            self._seen |= dict.fromkeys(sorted(longer.last))

    def _set(self, tensor: Tensor, note: _Note) -> None:
        self._notes[id(tensor)] = note
        self._held.append(tensor)


def _merge(notes: list[_Note]) -> _Note:
    return _Note(
        unmet=frozenset[str]().union(*(note.unmet for note in notes)),
        last=frozenset[str]().union(*(note.last for note in notes)),
        depth=max((note.depth for note in notes), default=0),
        roots=frozenset[int]().union(*(note.roots for note in notes)),
    )


def _carried(call: _Call, merged: _Note) -> frozenset[str]:
    """Which last layers a result still comes from: attention hands on its values only."""
    if call.name in _WEIGHINGS:
        return frozenset()
    if call.name == _ATTENTION and len(call.args) >= 3:
        return call.of(call.args[2]).last
    return merged.last


def _name(func: Callable) -> str:
    """`relu` for torch.relu, F.relu, Tensor.relu_ and so on."""
    name = getattr(func, "__name__", "")
    if not name.startswith("__"):
        name = name.rstrip("_")
    return _SYNONYMS.get(name, name)


def _nonlinearity(call: _Call) -> tuple[str, float | None] | None:
    """The nonlinearity that the call is and the argument that shapes it; None for the others."""
    name, args, kwargs = call.name, call.args, call.kwargs
    lower = kwargs.get("min_val", kwargs.get("min", args[1] if len(args) > 1 else None))
    if name in ("clamp", "clamp_min") and isinstance(lower, int | float) and lower == 0:
        return ("relu", None) if len(args) < 3 and kwargs.get("max") is None else None
    if name not in ACTIVATIONS:
        return None
    if name == "hardtanh" and lower == 0:
        return "relu6", None  # nn.ReLU6 calls hardtanh(0, 6)
    keyword = ACTIVATIONS[name]
    value = kwargs.get(keyword, args[1] if len(args) > 1 else None) if keyword else None
    return name, float(value) if isinstance(value, int | float) else None


def _call_of(example: Any) -> tuple[tuple, dict[str, Any]]:
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def _shapes(tree: Any) -> str:
    shapes = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors(tree)]
    return ", ".join(shapes) or "no tensor"


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; flags, buffers and torch's random state restored afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    # A scripted module keeps its buffers elsewhere, and its inside is not seen anyway.
    eager = [module for module in model.modules() if isinstance(module._buffers, dict)]
    buffers = [(module, dict(module._buffers)) for module in eager]
    values = [(buffer, buffer._version, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {p.device.index or 0 for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            # The flag alone: `train()` and `eval()` may be overridden to do more.
            for module, _ in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            for module, own in buffers:
                module._buffers.update(own)
            with torch.no_grad():
                for buffer, version, value in values:
                    if buffer._version != version:
                        buffer.copy_(value)
