"""What the page asks of a record: plain values for JSON, arrays for what is drawn on a canvas.

All of it is cut to the number of points that a screen can show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lampwork._core.errors import InputError
from lampwork._core.summary import BINS, EXPONENT_MIN, Summary
from lampwork.diagnose.finding import Finding
from lampwork.diagnose.verdict import verdict
from lampwork.record.reader import Record
from lampwork.record.schema import KINDS, Tensor
from lampwork.view import folding, words

Floats = NDArray[np.float64]
Range = tuple[int | None, int | None]

STATISTICS: dict[str, Callable[[Summary], Floats]] = {
    "rms": lambda summary: summary.rms,
    "mean": lambda summary: summary.mean,
    "std": lambda summary: summary.std,
    "min": lambda summary: summary.min,
    "max": lambda summary: summary.max,
    "absmax": lambda summary: summary.absmax,
    "norm": lambda summary: summary.norm,
    "zero_share": lambda summary: summary.zero_share,
    "dead_share": lambda summary: summary.dead_share,
    "nonfinite": lambda summary: summary.nonfinite,
}
RATIO = "update_ratio"
"""The one statistic of two tensors: rms of an update over rms of its weight."""


@dataclass(frozen=True, slots=True)
class Heat:
    """One statistic of all tensors of a kind at all recorded steps.

    Attributes:
        ids: shape (tensors,), the order of depth.
        steps: shape (steps,).
        values: shape (tensors, steps); NaN where a tensor was not seen, infinity where NaN or
            infinity was among its elements.
    """

    ids: list[int]
    steps: NDArray[np.int64]
    values: NDArray[np.float32]


def overview(record: Record) -> dict[str, Any]:
    """The facts of a run as a whole."""
    meta = record.meta
    return {
        "run": record.path.name,
        "model": meta.get("model"),
        "parameters": meta.get("parameters"),
        "optimizers": meta.get("optimizers") or [],
        "started": meta.get("started"),
        "command": meta.get("argv") or [],
        "torch": meta.get("torch"),
        "lampwork": meta.get("lampwork"),
        "every": meta.get("every"),
        "finished": bool(meta.get("finished")),
        "steps": words.steps_taken(record),
        "recorded": len(record.steps),
        "seconds": float(record.seconds[-1]) if len(record.seconds) else 0.0,
        "tensors": len(record.tensors),
        "final_loss": number(words.final_loss(record)),
    }


def findings(found: list[Finding]) -> dict[str, Any]:
    """The verdict and what it rests on, evidence as a person reads it."""
    return {"verdict": verdict(found), "findings": [_finding(one) for one in found]}


def _finding(finding: Finding) -> dict[str, Any]:
    sentence, code = words.advice(finding)
    where = None if finding.where is None else words.plain(finding.where)
    return {
        "code": words.plain(finding.code),
        "severity": finding.severity,
        "where": where,
        "step": finding.step,
        "evidence": words.evidence(finding),
        "advice": sentence,
        "fix": code,
    }


def tensors(record: Record) -> list[dict[str, Any]]:
    """Everything that was measured, in the order of depth."""
    found = [tensor for kind in KINDS for tensor in by_depth(record, kind)]
    return [
        {
            "id": tensor.id,
            "name": words.plain(tensor.name),
            "label": words.plain(tensor.label),
            "kind": tensor.kind,
            "call": tensor.call,
            "part": tensor.part,
            "shape": list(tensor.shape),
            "dtype": tensor.dtype,
            "module": words.plain(tensor.facts.get("module", "")),
        }
        for tensor in found
    ]


def by_depth(record: Record, kind: str) -> list[Tensor]:
    """The tensors of a kind, parameters where their module ran and not as they are registered."""
    found = record.of_kind(kind)
    if kind in ("output", "grad_output"):
        order = {t.label: t.id for t in record.of_kind("output")}
        return sorted(found, key=lambda tensor: order.get(tensor.label, tensor.id))
    ran = {tensor.name: tensor.id for tensor in reversed(record.of_kind("output")) if tensor.name}
    depths, depth = [], -1
    for tensor in found:
        name = tensor.name.rpartition(".")[0].partition(".parametrizations")[0]
        while name and name not in ran:
            name = name.rpartition(".")[0]
        depth = ran.get(name, depth)
        depths.append(depth)
    return [found[i] for i in np.argsort(depths, kind="stable")]


def scalars(record: Record, span: Range, points: int) -> list[dict[str, Any]]:
    """Every logged number as a curve."""
    return [
        {"name": words.plain(name), **curve(*record.scalar(name), span, points)}
        for name in record.scalar_names
    ]


def timing(record: Record, span: Range, points: int) -> dict[str, Any]:
    """Seconds per step between recorded steps, and the share that was spent waiting for data."""
    taken = np.diff(record.steps)
    per_step = np.divide(np.diff(record.seconds), taken, out=np.full(len(taken), np.nan),
                         where=taken > 0)  # fmt: skip
    waits = [float(one.stats.get("wait_s", 0)) for one in record.loaders]
    epochs = [float(one.stats.get("epoch_s", 0)) for one in record.loaders]
    return {
        "data_share": number(sum(waits) / sum(epochs)) if sum(epochs) > 0 else None,
        "median_s": number(float(np.nanmedian(per_step))) if np.isfinite(per_step).any() else None,
        "curve": curve(record.steps[1:], per_step, span, points),
        "rates": [
            {"dataset": words.plain(one.dataset), "samples_per_s": number(_rate(one.stats))}
            for one in record.loaders
        ],
    }


def _rate(stats: dict[str, Any]) -> float:
    seconds = float(stats.get("epoch_s", 0))
    given = stats.get("samples_per_s")
    return float(given) if given else float(stats.get("samples", 0)) / seconds if seconds else 0.0


def curve(steps: NDArray[np.int64], values: Floats, span: Range, points: int) -> dict[str, Any]:
    """A curve of at most `points` points: mean, minimum and maximum of each; what is not finite.

    Returns:
        `steps`, `mean`, `low`, `high`, and `broken`: pairs of a step and "nan", "inf" or "-inf".
    """
    part = folding.within(steps, *span)
    steps, values = steps[part], values[part]
    starts = folding.groups(len(values), points)
    if not len(starts):
        return {"steps": [], "mean": [], "low": [], "high": [], "broken": []}
    bad = np.flatnonzero(~np.isfinite(values))
    bad = bad[folding.groups(len(bad), 40)]
    return {
        "steps": steps[starts].tolist(),
        "mean": numbers(folding.mean(values, starts)),
        "low": numbers(folding.lowest(values, starts)),
        "high": numbers(folding.highest(values, starts)),
        "broken": [[int(steps[i]), str(float(values[i]))] for i in bad],
    }


def heat(record: Record, kind: str, statistic: str) -> Heat:
    """One statistic of every tensor of a kind, by depth.

    Raises:
        InputError: an unknown kind or statistic.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind[:40]!r} is unknown: choose from {', '.join(KINDS)}")
    found = by_depth(record, kind)
    values = np.full((len(found), len(record.steps)), np.nan, dtype=np.float32)
    for i, tensor in enumerate(found):
        summary = record.summary(tensor)
        with np.errstate(over="ignore"):
            values[i] = statistic_of(record, tensor, summary, statistic)
        if statistic != "nonfinite":
            values[i, summary.nonfinite > 0] = np.inf
    return Heat([tensor.id for tensor in found], record.steps, values)


def heat_cut(whole: Heat, span: Range, columns: int) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """A stretch of steps in at most so many columns.

    Returns:
        `ids`, `starts` and `ends` (first and last step of each column), and the values, shape
        (tensors, columns): the mean of a column, infinity where one of its steps has it.
    """
    part = folding.within(whole.steps, *span)
    steps, values = whole.steps[part], whole.values[:, part]
    starts = folding.groups(len(steps), columns)
    last = folding.ends(starts, len(steps)) if len(starts) else starts
    head = {"ids": whole.ids, "starts": steps[starts].tolist(), "ends": steps[last].tolist()}
    if len(starts) == len(steps) or not len(values):
        return head, np.ascontiguousarray(values)
    folded = folding.mean(values, starts)
    folded[np.logical_or.reduceat(np.isinf(values), starts, axis=-1)] = np.inf
    return head, folded.astype(np.float32)


def tensor(record: Record, number_: int, span: Range, points: int) -> dict[str, Any]:
    """Every statistic of one tensor as curves over the same steps.

    Raises:
        InputError: no tensor has that id.
    """
    found = _find(record, number_)
    summary = record.summary(found)
    names = [*STATISTICS, *([RATIO] if found.kind == "update" else [])]
    return {
        "id": found.id,
        "label": words.plain(found.label),
        "facts": {words.plain(k): words.number(v) for k, v in found.facts.items()},
        "curves": {
            name: curve(record.steps, statistic_of(record, found, summary, name), span, points)
            for name in names
        },
    }


def histogram(
    record: Record, number_: int, span: Range, columns: int
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """How the magnitudes of one tensor's elements are spread, over time.

    Returns:
        `starts`, `ends` (first and last step of each column), `exponent_min`, the share of `zeros`
        and `nonfinite` of each column, and shares of all elements, shape (columns, bins).
    """
    summary = record.summary(_find(record, number_))
    seen = np.flatnonzero(summary.count > 0)
    part = folding.within(record.steps[seen], *span)
    chosen = seen[part]
    starts = folding.groups(len(chosen), columns)
    if not len(starts):
        return {"starts": [], "ends": [], "exponent_min": EXPONENT_MIN}, np.zeros(
            (0, BINS), np.float32
        )
    steps, rows = record.steps[chosen], Summary(summary.rows[chosen])
    count = np.add.reduceat(rows.count, starts)
    bins = np.add.reduceat(rows.histogram, starts, axis=0) / count[:, None]
    return {
        "starts": steps[starts].tolist(),
        "ends": steps[folding.ends(starts, len(steps))].tolist(),
        "exponent_min": EXPONENT_MIN,
        "zeros": numbers(np.add.reduceat(rows.zero_share * rows.count, starts) / count),
        "nonfinite": numbers(np.add.reduceat(rows.nonfinite, starts) / count),
    }, bins.astype(np.float32)


def statistic_of(record: Record, tensor: Tensor, summary: Summary, name: str) -> Floats:
    """One statistic over the recorded steps.

    Raises:
        InputError: an unknown statistic.
    """
    if name == RATIO:
        weight = record.find(tensor.name, "weight")
        if tensor.kind != "update" or weight is None:
            return np.full(len(record.steps), np.nan)
        below = record.summary(weight).rms
        return np.divide(summary.rms, below, out=np.full(len(below), np.nan), where=below > 0)
    if name not in STATISTICS:
        known = ", ".join([*STATISTICS, RATIO])
        raise InputError(f"statistic={name[:40]!r} is unknown: choose from {known}")
    values = STATISTICS[name](summary)
    return np.where(np.isfinite(values), values, np.nan)


def pictures(record: Record) -> list[dict[str, Any]]:
    """What pictures there are, without their pixels."""
    return [
        {
            "index": i,
            "step": picture.step,
            "name": words.plain(picture.name),
            "kind": picture.kind,
            "images": picture.pixels.shape[0],
            "height": picture.pixels.shape[1],
            "width": picture.pixels.shape[2],
        }
        for i, picture in enumerate(record.pictures)
        if picture.pixels.size
    ]


def film(record: Record, index: int) -> NDArray[np.uint8]:
    """The images of one picture below each other, shape (images · height, width) or (…, 3).

    Raises:
        InputError: there is no such picture.
    """
    if not 0 <= index < len(record.pictures):
        raise InputError(f"picture {index} is unknown: there are {len(record.pictures)}")
    pixels = record.pictures[index].pixels
    return pixels.reshape(-1, *pixels.shape[2:])


def loaders(record: Record) -> list[dict[str, Any]]:
    """What each DataLoader measured."""
    return [{"dataset": words.plain(one.dataset), "stats": clean(one.stats)}
            for one in record.loaders]  # fmt: skip


def initialisation(record: Record) -> dict[str, Any]:
    """The plan and its check where the run stored them, and the signal at the first step."""
    return {
        "plan": clean(record.meta.get("plan")),
        "check": clean(record.meta.get("check")),
        "step": int(record.steps[0]) if len(record.steps) else None,
        "layers": _first_signal(record) if len(record.steps) else [],
    }


def _first_signal(record: Record) -> list[dict[str, Any]]:
    rows = []
    for output in by_depth(record, "output"):
        if output.call > 1 or output.part or output.facts.get("root"):
            continue
        grad = record.find(output.name, "grad_output")
        weight = record.find(f"{output.name}.weight", "weight")
        rows.append(
            {
                "name": words.plain(output.name),
                "module": words.plain(output.facts.get("module", "")),
                "output_rms": _first(record, output),
                "grad_rms": None if grad is None else _first(record, grad),
                "weight_std": None if weight is None else _first(record, weight, "std"),
                "weight_shape": None if weight is None else list(weight.shape),
            }
        )
    return rows


def _first(record: Record, tensor: Tensor, name: str = "rms") -> float | None:
    return number(float(STATISTICS[name](record.summary(tensor))[0]))


def _find(record: Record, number_: int) -> Tensor:
    found = next((tensor for tensor in record.tensors if tensor.id == number_), None)
    if found is None:
        raise InputError(f"tensor {number_} is unknown: there are {len(record.tensors)}")
    return found


def number(value: float | None) -> float | None:
    """A number for JSON, which has none for NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def numbers(values: NDArray[Any]) -> list[float | None]:
    """Numbers for JSON, six digits of each."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values.tolist()]


def clean(value: Any) -> Any:
    """The same in types that JSON has; NaN and infinity as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {words.plain(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, str):
        return words.plain(value)
    return value
