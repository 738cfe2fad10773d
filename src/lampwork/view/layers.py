"""The table of layers: what each module put out and how its weight moved, at one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lampwork._core.summary import Summary
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor
from lampwork.view.depth import owner, ratio


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of the table; None where the record has no such number at that step.

    Mean, std and rms are those of the finite elements, and NaN where no element is finite.

    Attributes:
        label: name of the module, with the number of the call or part where there are several.
        module: class name.
        mean: of the output.
        std: of the output.
        zero_share: share of the output's elements that are 0.
        dead_share: share of the output's channels that are 0 throughout the last recorded steps.
        grad_rms: root mean square of the gradient of the module's weight.
        update_ratio: rms of the weight's last update by rms of the weight.
    """

    label: str
    module: str
    mean: float | None
    std: float | None
    zero_share: float | None
    dead_share: float | None
    grad_rms: float | None
    update_ratio: float | None


def table(record: Record) -> list[Layer]:
    """The layers in the order of depth, at the last recorded step; empty without one."""
    if not len(record.steps):
        return []
    weights = _weights(record)
    # Taken out, so that a weight stands in the row of its module's first call only.
    rows = [_layer(record, t, weights.pop(t.name, None)) for t in record.of_kind("output")]
    # What is left moved without its module being called, as attention's projections do.
    return rows + [_layer(record, None, weight) for weight in weights.values()]


def _weights(record: Record) -> dict[str, Tensor]:
    """Module name → its weight: the first parameter of two dimensions or more, else the first."""
    found: dict[str, Tensor] = {}
    for tensor in sorted(record.of_kind("weight"), key=lambda tensor: len(tensor.shape) < 2):
        found.setdefault(owner(tensor.name), tensor)
    return found


def _layer(record: Record, output: Tensor | None, weight: Tensor | None) -> Layer:
    named = output or weight
    assert named is not None
    seen = record.summary(output) if output else None
    grad = record.find(weight.name, "grad") if weight else None
    update = record.find(weight.name, "update") if weight else None
    return Layer(
        label=named.label,
        module=str(named.facts.get("module", "")),
        mean=_finite(seen, "mean"),
        std=_finite(seen, "std"),
        zero_share=_last(seen.zero_share) if seen else None,
        dead_share=_last(seen.dead_share) if seen else None,
        grad_rms=_finite(record.summary(grad) if grad else None, "rms"),
        update_ratio=_last(ratio(record, update)) if update else None,
    )


def _finite(summary: Summary | None, name: str) -> float | None:
    """A number over the finite elements: NaN where there is none, None where nothing was seen."""
    if summary is None or not summary.count[-1] > 0:
        return None
    return float(getattr(summary, name)[-1])


def _last(values: NDArray[np.float64]) -> float | None:
    value = float(values[-1])
    return None if np.isnan(value) else value
