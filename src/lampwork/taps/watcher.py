"""Watching a forward pass at the level of torch functions, tensor by tensor; see `taps.trace`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lampwork.taps import functions, place
from lampwork.taps.feeds import Feeds
from lampwork.taps.notes import Call, Note, called, carried, merge, pointwise, started
from lampwork.taps.place import Place
from lampwork.taps.structure import tensors
from lampwork.taps.uses import Branch, Trace, Use


class Watcher(TorchFunctionMode):
    """Keeps a note per tensor. Tensors are held, so that no id is given out twice."""

    def __init__(self, model: nn.Module, inputs: list[Tensor]) -> None:
        super().__init__()
        self.failed: Call | None = None
        self._parameters = dict(model.named_parameters())
        self._notes: dict[int, Note] = {}
        self._held: list[Tensor] = []
        self._met: dict[str, tuple[str, float | None]] = {}
        self._seen: dict[str, None] = {}  # a set that keeps the order of the pass
        self._branches: list[Branch] = []
        self._feeds = Feeds()
        self._before: dict[str, frozenset[str]] = {}
        self._places: dict[str, Place] = {}
        self._widths: dict[str, int] = {}
        self._applied: set[str] = set()
        self._consumed: set[str] = set()
        for name, parameter in self._parameters.items():
            self._set(parameter, Note(weights=frozenset([name])))
        for number, tensor in enumerate(inputs):
            self._set(tensor, Note(roots=frozenset([number]), origin=id(tensor)))

    def found(self, result: Any) -> Trace:
        """The answer, after the pass that gave this result."""
        self._feeds.returned(tensors(result))
        closing = frozenset[str]().union(*(branch.closing for branch in self._branches))
        uses = {
            name: Use(*self._met.get(name, ("linear", None)), residual=name in closing)
            for name in self._seen
        }
        places = {
            name: replace(found, ends=name in self._applied - self._consumed)
            for name, found in self._places.items()
        }
        return Trace(uses, places, tuple(self._branches), self._feeds.found())

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = tensors((args, kwargs))
        # Notes are read before the call: an in-place function returns its own argument.
        notes = [self._notes.get(id(tensor)) for tensor in inputs]
        call = Call(functions.name_of(func), func, args, kwargs, inputs, notes)
        self.failed = call
        result = called(call)
        self.failed = None
        outputs = [args[0]] if call.name == "__setitem__" else tensors(result)
        if outputs and any(notes) and not call.name.endswith("_like"):
            note = self._follow(call)
            self._look_for_cuts(call, outputs)
            self._feeds.see(call, outputs)
            for tensor in outputs:
                self._set(tensor, note if note.origin else replace(note, origin=id(tensor)))
        return result

    def _follow(self, call: Call) -> Note:
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
            return Note(
                weights=weights, offset=is_offset or any(n and n.offset for n in call.notes)
            )
        merged = merge(data)
        if weights:
            self._place_others(call, merged.depth)
        if call.name in functions.ADDITIONS:
            self._close(call)
        spelled = self._spelled_out(call, data)
        if spelled:
            return replace(merged, unmet=merged.unmet - spelled)
        # A parameter on the way, as in normalisation, belongs to the layers that came last.
        onwards = replace(merged, last=merged.last | weights, **pointwise(call, data))
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
            return replace(onwards, unmet=frozenset(), last=carried(call, merged), factor=1.0)
        return onwards

    def _layer(self, call: Call) -> Note:
        """A layer consumes what comes in linearly, and starts anew."""
        count = functions.LAYERS.get(call.name, 0)
        leading = {id(tensor) for tensor in tensors(call.args[:count])}
        data: list[Note] = []
        operands: list[tuple[Tensor, frozenset[str]]] = []
        vectors: list[tuple[Tensor, Note]] = []
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
        merged = merge(data)
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
        return started(ends, merged)

    def _pick(self, call: Call, data: list[Note], weights: frozenset[str]) -> Note | None:
        """Rows of a table that were looked up are signal; experts that were chosen are weights."""
        if call.name.startswith("embedding"):
            return None
        table, others = call.inputs[0], call.inputs[1:]
        by_rows = table.dim() <= 2 and any(index.dim() for index in others) and bool(data)
        if not by_rows:
            return Note(weights=weights)
        merged = merge(data)
        self._place("table", weights, merged.depth)
        self._seen |= dict.fromkeys(sorted(weights))
        return started(weights, merged)

    def _spelled_out(self, call: Call, data: list[Note]) -> frozenset[str]:
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

    def _close(self, call: Call) -> None:
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

    def _above(self, note: Note, depth: int) -> frozenset[str]:
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
        self, call: Call, operand: Tensor, names: frozenset[str], depth: int
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

    def _place_others(self, call: Call, depth: int) -> None:
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

    def _look_for_cuts(self, call: Call, outputs: list[Tensor]) -> None:
        if call.name not in functions.CUTS or not call.inputs:
            return
        note = call.of(call.inputs[0])
        if len(note.last) == 1 and note.unmet == note.last:
            (name,) = note.last
            pieces = place.cut(call.name, call.args, outputs, self._widths.get(name, 0))
            if pieces > 1 and self._places[name].pieces == 1:
                self._places[name] = replace(self._places[name], pieces=pieces)

    def _set(self, tensor: Tensor, note: Note) -> None:
        self._notes[id(tensor)] = note
        self._held.append(tensor)
