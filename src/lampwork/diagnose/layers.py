"""The model as the rules see it: parameters, and layers in the order in which they ran.

A record lists parameters in the order of registration and outputs in the order of execution; a
rule that says "deeper" means execution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lampwork._core.summary import COLUMN, WIDTH, Summary
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor


@dataclass(frozen=True, eq=False)
class Parameter:
    """One parameter; statistics have one entry per recorded step, NaN where there was none.

    Attributes:
        name: dotted name.
        owner: dotted name of the module that it belongs to.
        module: class name of that module.
        optimized: an optimizer was seen to step it.
        registered: place among the parameters.
        depth: place of its owner among the outputs; None if it, and all around it, gave none.
    """

    name: str
    owner: str
    module: str
    shape: tuple[int, ...]
    trainable: bool
    optimized: bool
    registered: int
    depth: int | None
    weight: Summary
    grad: Summary
    update: Summary

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape))

    @property
    def is_matrix(self) -> bool:
        """Whether it maps one space to another: two dimensions of more than one element."""
        return sum(side > 1 for side in self.shape) >= 2

    @property
    def has_gradient(self) -> NDArray[np.bool_]:
        """At which recorded steps there was a gradient, be it zero."""
        return ~np.isnan(self.grad.count)

    @property
    def stepped(self) -> NDArray[np.bool_]:
        """At which recorded steps an optimizer that owns it took the step."""
        return ~np.isnan(self.update.count)

    @property
    def pulled(self) -> NDArray[np.bool_]:
        """At which recorded steps there was a finite gradient other than zero."""
        return (self.grad.absmax > 0) & (self.grad.nonfinite == 0)

    @cached_property
    def moved(self) -> bool:
        """Whether its values differ between recorded steps, whoever changed them."""
        rows = self.weight.rows[~np.isnan(self.weight.count)]
        # Sums depend on the order of summation, which is not the same each time on a GPU.
        exact = np.delete(rows, [COLUMN["sum"], COLUMN["sumsq"]], axis=1)
        sums = rows[:, COLUMN["sumsq"]]
        return bool((exact != exact[:1]).any() or (abs(sums - sums[:1]) > 1e-5 * sums).any())

    @cached_property
    def ratio(self) -> NDArray[np.float64]:
        """Norm of the update over norm of the weight; NaN without an update, or where that is 0."""
        norm = self.weight.norm
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(norm > 0, self.update.norm / norm, np.nan)


@dataclass(frozen=True, eq=False)
class Layer:
    """A module that owns a matrix, by the first part of the output of its first call."""

    name: str
    dtype: str
    output: Summary
    grad_output: Summary
    parameters: list[Parameter]


def parameters(record: Record) -> list[Parameter]:
    """All parameters in the order of registration."""
    places = _places(record)
    return [_parameter(record, weight, places) for weight in record.of_kind("weight")]


def weighted_layers(record: Record) -> list[Layer]:
    """The layers that map one space to another, in the order in which they first ran.

    Normalisation, embeddings and containers of other layers (a transformer with its table of
    positions) own matrices too but do not map what comes in by them.
    """
    by_owner: dict[str, list[Parameter]] = {}
    for parameter in parameters(record):
        by_owner.setdefault(parameter.owner, []).append(parameter)
    found = []
    for tensor in record.of_kind("output"):
        mine = by_owner.get(tensor.name, [])
        if (tensor.call, tensor.part) == (1, 0) and any(p.is_matrix for p in mine):
            if is_norm(mine[0].module) or "Embedding" in mine[0].module:
                continue
            found.append(_layer(record, tensor, mine))
    return [layer for layer in found if not any(_contains(layer, other) for other in found)]


def take_turns(own: list[Parameter]) -> bool:
    """Whether several optimizers step them at different times, as in a GAN."""
    seen = {p.stepped.tobytes() for p in own if p.stepped.any()}
    return len(seen) > 1 or any(p.moved and not p.stepped.any() for p in own)


def is_norm(module: str) -> bool:
    """Whether a class name is that of a normalisation (BatchNorm2d, LayerNorm, RMSNorm, …)."""
    return "norm" in module.lower()


def seen(record: Record, name: str, kind: str) -> Summary:
    """The statistics of that tensor, all NaN where the record has none."""
    tensor = record.find(name, kind)
    if tensor is None:
        return Summary(np.broadcast_to(np.nan, (len(record.steps), WIDTH)))
    return record.summary(tensor)


def units(summary: Summary) -> NDArray[np.float64]:
    """Channels of an output at each recorded step, 0 where it has none."""
    return np.nan_to_num(summary.column("units"))


def finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of the values that are numbers."""
    return values[np.isfinite(values)]


def _contains(layer: Layer, other: Layer) -> bool:
    return other is not layer and (not layer.name or other.name.startswith(layer.name + "."))


def _places(record: Record) -> dict[str, int]:
    places: dict[str, int] = {}
    for tensor in record.of_kind("output"):
        if tensor.name:  # the whole model ends last, which says nothing about its own parameters
            places.setdefault(tensor.name, tensor.id)
    return places


def _parameter(record: Record, weight: Tensor, places: dict[str, int]) -> Parameter:
    # torch.nn.utils.parametrize keeps the originals two modules below the layer that uses them.
    owner = weight.name.rpartition(".")[0].partition(".parametrizations")[0]
    update = seen(record, weight.name, "update")
    return Parameter(
        name=weight.name,
        owner=owner,
        module=str(weight.facts.get("module", "")),
        shape=tuple(weight.shape),
        trainable=bool(weight.facts.get("requires_grad", True)),
        optimized=bool(weight.facts.get("optimized")) or not np.isnan(update.count).all(),
        registered=weight.id,
        depth=_depth(owner, places),
        weight=record.summary(weight),
        grad=seen(record, weight.name, "grad"),
        update=update,
    )


def _depth(owner: str, places: dict[str, int]) -> int | None:
    while owner:
        if owner in places:
            return places[owner]
        # A child whose parameters its parent uses directly (MultiheadAttention.out_proj).
        owner = owner.rpartition(".")[0]
    return None


def _layer(record: Record, tensor: Tensor, own: list[Parameter]) -> Layer:
    return Layer(
        name=tensor.name,
        dtype=tensor.dtype,
        output=record.summary(tensor),
        grad_output=seen(record, tensor.name, "grad_output"),
        parameters=own,
    )
