"""How the model began: the plan, its check, and the signal at the first recorded step."""

from __future__ import annotations

from typing import Any

from lampwork._core.summary import Summary
from lampwork.record.schema import Tensor
from lampwork.record.timeline import Timeline
from lampwork.view import words
from lampwork.view.answers.depth import by_depth
from lampwork.view.answers.plain import clean, number


def initialisation(timeline: Timeline, known: list[Tensor]) -> dict[str, Any]:
    """The plan and its check where the run has them, and what the first step showed."""
    meta = timeline.meta()
    step = timeline.first_step()
    return {
        "plan": clean(meta.get("plan")),
        "check": clean(meta.get("check")),
        "step": step,
        "layers": [] if step is None else _signal(timeline, known, step),
    }


def _signal(timeline: Timeline, known: list[Tensor], step: int) -> list[dict[str, Any]]:
    of = {tensor.key: tensor for tensor in known}
    layers = []
    for output in by_depth(known, "output"):
        if output.call == 1 and not output.part and not output.facts.get("root"):
            grad = of.get((output.name, "grad_output", 1, 0))
            weight = of.get((f"{output.name}.weight", "weight", 1, 0))
            layers.append((output, grad, weight))
    ids = [tensor.id for layer in layers for tensor in layer if tensor is not None]
    rows = timeline.summaries(ids, step, step, 1).summary.rows
    at = {number_: Summary(row[0]) for number_, row in zip(ids, rows, strict=True) if len(row)}

    def value(tensor: Tensor | None, name: str) -> float | None:
        summary = None if tensor is None else at.get(tensor.id)
        return None if summary is None else number(float(getattr(summary, name)))

    return [
        {
            "name": words.plain(output.name),
            "module": words.plain(output.facts.get("module", "")),
            "output_rms": value(output, "rms"),
            "grad_rms": value(grad, "rms"),
            "weight_std": value(weight, "std"),
            "weight_shape": None if weight is None else list(weight.shape),
        }
        for output, grad, weight in layers
    ]
