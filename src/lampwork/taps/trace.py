"""Which function consumes which layer: one forward pass, watched at torch's function level.

A `TorchFunctionMode` sees every torch function that the model calls, whether a module or a line
of `forward` calls it. For each tensor it keeps a short note: which layers' outputs flow in it that
no nonlinearity has met yet (`unmet`), which layers came last on the way (`last`), through how many
layers it went (`depth`), and from which inputs it comes (`roots`). From these follow

- the consumer: the first nonlinearity that meets a layer's output. Everything that is not known
  to be a nonlinearity, a product of data with data or another layer is looked through:
  normalisation, dropout, pooling, reshaping, scaling, addition. A nonlinearity that is written
  out as a product of the signal with a function of itself counts as what it spells: x·σ(x) is
  `silu`, x·(1 + tanh(…x³…))/2 is `gelu`;
- the closed residual branch: an addition of two tensors of one shape that come from the same
  input, one of them through more layers than the other. The last layers of the longer way close
  the branch; the shorter way is the skip;
- what each parameter does (`place`): the matrix of a product, a scale, a token.

Layers are named by their parameters, so a call like `F.linear(x, self.w)` counts as well as a
module. What runs inside one fused function (LSTM, GRU) stays unseen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lampwork.taps import functions, place
from lampwork.taps.forward import as_it_was, call_of, explain, on_meta_as_the_model
from lampwork.taps.place import Place
from lampwork.taps.structure import map_tensors, tensors


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
class Branch:
    """A residual branch: what is computed of the signal and added to it.

    Attributes:
        closing: the weights whose output is added, with those of a normalisation after them.
        members: the weights of all its layers, the closing ones among them.
        layers: how many of them lie one behind the other.
    """

    closing: frozenset[str]
    members: frozenset[str]
    layers: int


@dataclass(frozen=True)
class Trace:
    """What one forward pass told.

    Attributes:
        uses: name of the parameter → its use, for every parameter of two or more dimensions that
            a layer's function took, and for those of a normalisation that closes a branch.
        places: name of the parameter → what it does, for every parameter that the pass met.
        branches: the residual branches in the order in which they were closed.
    """

    uses: Mapping[str, Use]
    places: Mapping[str, Place]
    branches: tuple[Branch, ...] = ()


@dataclass(frozen=True)
class _Note:
    """What is known of one tensor.

    `flow` is as `last`, with those layers too of which a softmax hands on weightings. `weights` is
    not empty where it is made of parameters only, `offset` where 1 was added to one.
    Of data, `origin` is the tensor that it was computed from value by value, `factor` times it if
    by nothing but numbers, and `gate` the function of it that it is, with the layers it met.
    """

    weights: frozenset[str] = frozenset()
    offset: bool = False
    unmet: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()
    flow: frozenset[str] = frozenset()
    depth: int = 0
    roots: frozenset[int] = frozenset()
    origin: int = 0
    factor: float = 1.0
    gate: tuple[str, frozenset[str]] | None = None


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

    def arguments(self) -> dict[str, Any]:
        """By name; empty where torch tells no signature."""
        try:
            return inspect.signature(self.func).bind(*self.args, **self.kwargs).arguments
        except (TypeError, ValueError):
            return {}


def consumers(model: nn.Module, example: Any) -> dict[str, Use]:
    """Runs the model once on the example and tells for each parameter what its layer feeds.

    The `uses` of `trace`.
    """
    return dict(trace(model, example).uses)


def trace(model: nn.Module, example: Any) -> Trace:
    """Runs the model once on the example and tells what becomes of each parameter.

    The pass runs in evaluation mode without gradients. Training flags, buffers and torch's random
    state are afterwards what they were. The activations of the one pass are held until it ends.

    Args:
        model: any module; on meta it is traced on meta tensors.
        example: a tensor, a tuple (positional) or a dict (keyword), as the model takes them.

    Raises:
        InputError: the model does not run on the example; names the layer that failed.
    """
    args, kwargs = on_meta_as_the_model(model, call_of(example))
    watcher = _Watcher(model, tensors((args, kwargs)))
    with as_it_was(model):
        try:
            with torch.no_grad(), watcher:
                model(*args, **kwargs)
        except Exception as error:
            failed = watcher.failed
            raise explain(
                model, (args, kwargs), error, failed and (failed.name, failed.inputs)
            ) from error
    return watcher.found()


class _Watcher(TorchFunctionMode):
    """Keeps a note per tensor. Tensors are held, so that no id is given out twice."""

    def __init__(self, model: nn.Module, inputs: list[Tensor]) -> None:
        super().__init__()
        self.failed: _Call | None = None
        self._parameters = dict(model.named_parameters())
        self._notes: dict[int, _Note] = {}
        self._held: list[Tensor] = []
        self._met: dict[str, tuple[str, float | None]] = {}
        self._seen: dict[str, None] = {}  # a set that keeps the order of the pass
        self._branches: list[Branch] = []
        self._before: dict[str, frozenset[str]] = {}
        self._places: dict[str, Place] = {}
        self._widths: dict[str, int] = {}
        self._applied: set[str] = set()
        self._consumed: set[str] = set()
        for name, parameter in self._parameters.items():
            self._set(parameter, _Note(weights=frozenset([name])))
        for number, tensor in enumerate(inputs):
            self._set(tensor, _Note(roots=frozenset([number]), origin=id(tensor)))

    def found(self) -> Trace:
        """The answer, after the pass."""
        closing = frozenset[str]().union(*(branch.closing for branch in self._branches))
        uses = {
            name: Use(*self._met.get(name, ("linear", None)), residual=name in closing)
            for name in self._seen
        }
        places = {
            name: replace(found, ends=name in self._applied - self._consumed)
            for name, found in self._places.items()
        }
        return Trace(uses, places, tuple(self._branches))

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = tensors((args, kwargs))
        # Notes are read before the call: an in-place function returns its own argument.
        notes = [self._notes.get(id(tensor)) for tensor in inputs]
        call = _Call(functions.name_of(func), func, args, kwargs, inputs, notes)
        self.failed = call
        result = _called(call)
        self.failed = None
        outputs = [args[0]] if call.name == "__setitem__" else tensors(result)
        if outputs and any(notes) and not call.name.endswith("_like"):
            note = self._follow(call)
            self._look_for_cuts(call, outputs)
            for tensor in outputs:
                self._set(tensor, note if note.origin else replace(note, origin=id(tensor)))
        return result

    def _follow(self, call: _Call) -> _Note:
        """The note of the call's results; what the call consumes or closes is written down."""
        data = [note for note in call.notes if note and not note.weights]
        weights = frozenset[str]().union(*(note.weights for note in call.notes if note))
        of_data = any(note is None or not note.weights for note in call.notes)
        if (
            call.name in functions.LOOKUPS
            and weights
            and call.inputs
            and call.of(call.inputs[0]).weights
        ):
            picked = self._pick(call, data, weights)
            if picked:
                return picked
        if call.name in functions.LAYERS or (
            call.name in functions.PRODUCTS and weights and of_data
        ):
            return self._layer(call)
        if not data:
            is_offset = call.name in functions.ADDITIONS and len(call.inputs) == 1
            return _Note(
                weights=weights, offset=is_offset or any(n and n.offset for n in call.notes)
            )
        merged = _merge(data)
        if weights:
            self._place_others(call, merged.depth)
        if call.name in functions.ADDITIONS:
            self._close(call)
        spelled = self._spelled_out(call, data)
        if spelled:
            return replace(merged, unmet=merged.unmet - spelled)
        # A parameter on the way, as in normalisation, belongs to the layers that came last.
        onwards = replace(merged, last=merged.last | weights, **_pointwise(call, data))
        met = functions.nonlinearity(call.name, call.args, call.kwargs)
        gate = functions.gate(call.name, onwards.factor, (onwards.gate or ("",))[0])
        if gate and onwards.origin:
            layers = merged.unmet or (onwards.gate[1] if onwards.gate else frozenset())
            onwards = replace(onwards, gate=(gate, layers))
        if call.name in functions.ENDS:
            if call.name in functions.PRODUCTS or call.name == functions.ATTENTION:
                self._consumed |= merged.flow
            met = met or ("linear", None)
        if met:
            self._meet(merged.unmet, met)
            return replace(onwards, unmet=frozenset(), last=_carried(call, merged), factor=1.0)
        return onwards

    def _layer(self, call: _Call) -> _Note:
        """A layer consumes what comes in linearly, and starts anew."""
        count = functions.LAYERS.get(call.name, 0)
        leading = {id(tensor) for tensor in tensors(call.args[:count])}
        data: list[_Note] = []
        operands: list[tuple[Tensor, frozenset[str]]] = []
        vectors: list[tuple[Tensor, _Note]] = []
        for tensor, note in zip(call.inputs, call.notes, strict=True):
            if note and (id(tensor) in leading or not note.weights):
                data.append(note)
            elif note and tensor.dim() >= 2:
                operands.append((tensor, note.weights))
            elif note:
                vectors.append((tensor, note))
        matrices = frozenset[str]().union(*(names for _, names in operands))
        self._seen |= dict.fromkeys(sorted(matrices))
        self._applied |= matrices
        merged = _merge(data)
        for name in matrices:
            self._before.setdefault(name, merged.flow)
        for operand, names in operands:
            self._place_matrices(call, operand, names, merged.depth)
        for _, note in vectors:
            self._place("shift", note.weights, merged.depth)
        self._meet(merged.unmet, ("linear", None))
        self._consumed |= merged.flow
        ends = matrices
        if call.name == "multi_head_attention_forward":
            ends = call.of(call.arguments()["out_proj_weight"]).weights
        return _started(ends, merged)

    def _pick(self, call: _Call, data: list[_Note], weights: frozenset[str]) -> _Note | None:
        """Rows of a table that were looked up are signal; experts that were chosen are weights."""
        if call.name.startswith("embedding"):
            return None
        table, others = call.inputs[0], call.inputs[1:]
        by_rows = table.dim() <= 2 and any(index.dim() for index in others) and bool(data)
        if not by_rows:
            return _Note(weights=weights)
        merged = _merge(data)
        self._place("table", weights, merged.depth)
        self._seen |= dict.fromkeys(sorted(weights))
        return _started(weights, merged)

    def _spelled_out(self, call: _Call, data: list[_Note]) -> frozenset[str]:
        """The layers of whose output x this call computes x·f(x), a nonlinearity written out."""
        if call.name not in functions.MULTIPLICATIONS or len(data) != 2:
            return frozenset()
        one, other = data if data[0].gate else data[::-1]
        spelled = functions.self_gated(one.gate[0]) if one.gate and not other.gate else None
        if not one.gate or not spelled or not one.origin or one.origin != other.origin:
            return frozenset()
        for layer in one.gate[1]:
            self._met[layer] = (spelled, None)
        return one.gate[1]

    def _meet(self, layers: frozenset[str], met: tuple[str, float | None]) -> None:
        for layer in layers:
            self._met.setdefault(layer, met)

    def _close(self, call: _Call) -> None:
        """Marks the layers that close a residual branch, if this addition is one."""
        if len(call.inputs) != 2 or call.inputs[0].shape != call.inputs[1].shape:
            return
        one, other = call.notes
        if one and other and one.roots & other.roots and one.depth != other.depth:
            longer, skip = (one, other) if one.depth > other.depth else (other, one)
            members = self._above(longer, skip.depth) - self._above(skip, skip.depth)
            depths = {self._places[name].depth for name in members}
            self._branches.append(Branch(longer.last, members, len(depths)))
            self._seen |= dict.fromkeys(sorted(longer.last))

    def _above(self, note: _Note, depth: int) -> frozenset[str]:
        """The layers on all ways to a tensor; far below `depth` nobody looks."""
        found: set[str] = set()
        todo = {name for name in note.flow if name in self._before}
        while todo:
            found |= todo
            before = {name for layer in todo for name in self._before[layer]} - found
            todo = {n for n in before if n in self._before and self._places[n].depth > depth - 4}
        return frozenset(found)

    def _place(self, does: str, names: frozenset[str], depth: int) -> None:
        for name in names:
            self._places.setdefault(name, Place(does, depth))

    def _place_matrices(
        self, call: _Call, operand: Tensor, names: frozenset[str], depth: int
    ) -> None:
        for name in names:
            parameter = self._parameters[name]
            does, summed, stacked = place.of_product(
                call.name, call.args, call.kwargs, operand, parameter
            )
            if call.name.startswith("embedding"):
                does = "table"
            self._places.setdefault(name, Place(does, depth, summed, stacked))
            kept = {*range(parameter.dim())} - {*summed, *stacked}
            if does == "matrix" and len(kept) == 1:
                self._widths[name] = parameter.shape[kept.pop()]

    def _place_others(self, call: _Call, depth: int) -> None:
        """Parameters that meet data outside of a layer: scales, shifts, tokens."""
        affine = functions.AFFINE.get(call.name)
        for tensor, note in zip(call.inputs, call.notes, strict=True):
            if not note or not note.weights:
                continue
            if affine:
                positions = [n for n, value in enumerate(call.args) if value is tensor]
                does = (
                    "shift"
                    if positions == [affine[1]] or call.kwargs.get("bias") is tensor
                    else "scale"
                )
            elif call.name in functions.MULTIPLICATIONS:
                does = "offset" if note.offset else "scale"
            elif call.name in functions.ADDITIONS:
                does = "shift" if tensor.numel() == max(tensor.shape, default=1) else "token"
            else:
                does = "token" if call.name in functions.JOINS else "other"
            self._place(does, note.weights, depth)

    def _look_for_cuts(self, call: _Call, outputs: list[Tensor]) -> None:
        if call.name not in functions.CUTS or not call.inputs:
            return
        note = call.of(call.inputs[0])
        if len(note.last) == 1 and note.unmet == note.last:
            (name,) = note.last
            pieces = place.cut(call.name, call.args, outputs, self._widths.get(name, 0))
            if pieces > 1 and self._places[name].pieces == 1:
                self._places[name] = replace(self._places[name], pieces=pieces)

    def _set(self, tensor: Tensor, note: _Note) -> None:
        self._notes[id(tensor)] = note
        self._held.append(tensor)


def _merge(notes: list[_Note]) -> _Note:
    return _Note(
        unmet=frozenset[str]().union(*(note.unmet for note in notes)),
        last=frozenset[str]().union(*(note.last for note in notes)),
        flow=frozenset[str]().union(*(note.flow for note in notes)),
        depth=max((note.depth for note in notes), default=0),
        roots=frozenset[int]().union(*(note.roots for note in notes)),
    )


def _started(layers: frozenset[str], before: _Note) -> _Note:
    """The note of what layers give."""
    depth, roots = before.depth + 1, before.roots
    return _Note(unmet=layers, last=layers, flow=layers, depth=depth, roots=roots)


def _called(call: _Call) -> Any:
    """The result; on meta, torch's grouped product knows the shape of bfloat16 alone."""
    args, kwargs = call.args, call.kwargs
    if call.name not in functions.GROUPED or not call.inputs[0].is_meta:
        return call.func(*args, **kwargs)
    dtype = call.inputs[0].dtype
    args, kwargs = map_tensors(
        lambda t: t.bfloat16() if t.is_floating_point() else t, (args, kwargs)
    )
    return call.func(*args, **kwargs).to(dtype)


def _pointwise(call: _Call, data: list[_Note]) -> dict[str, Any]:
    """What is still known of the tensor that the result was computed from value by value."""
    origin = data[0].origin
    if call.name not in functions.POINTWISE or any(note.origin != origin for note in data):
        return {}
    gates = [note.gate for note in data if note.gate]
    factor = data[0].factor * functions.scalar_factor(call.name, call.args)
    return {"origin": origin, "factor": factor, "gate": gates[0] if gates else None}


def _carried(call: _Call, merged: _Note) -> frozenset[str]:
    """Which last layers a result still comes from: attention hands on its values only."""
    if call.name in functions.WEIGHINGS:
        return frozenset()
    if call.name == functions.ATTENTION and len(call.args) >= 3:
        return call.of(call.args[2]).last
    return merged.last
