"""The run as a whole: facts, findings, logged numbers, and who waited for whom."""

from __future__ import annotations

from typing import Any

import numpy as np

from lampwork.diagnose.finding import Finding
from lampwork.diagnose.verdict import verdict
from lampwork.record.timeline import Timeline
from lampwork.view import words
from lampwork.view.answers.plain import Floats, Range, clean, curve, number, points_of

RECENT = 10
"""The present is the last so-manieth part of the run."""


def overview(timeline: Timeline) -> dict[str, Any]:
    """The facts of a run."""
    meta, index = timeline.meta(), timeline.steps()
    taken = meta.get("steps")
    if not isinstance(taken, int):
        taken = int(index.last[-1]) + 1 if len(index.last) else 0
    return {
        "run": timeline.path.name,
        "model": meta.get("model"),
        "parameters": meta.get("parameters"),
        "optimizers": meta.get("optimizers") or [],
        "started": meta.get("started"),
        "command": meta.get("argv") or [],
        "torch": meta.get("torch"),
        "lampwork": meta.get("lampwork"),
        "every": meta.get("every"),
        "finished": bool(meta.get("finished")),
        "steps": taken,
        "recorded": len(index.first),
        "seconds": float(index.seconds[-1]) if len(index.seconds) else 0.0,
        "tensors": timeline.tensor_count(),
        "final_loss": number(_final_loss(timeline.latest())),
    }


def _final_loss(latest: dict[str, float]) -> float | None:
    names = [name for name in latest if "loss" in name.lower()]
    return latest["loss" if "loss" in names else names[0]] if names else None


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


def scalars(timeline: Timeline, span: Range, points: int) -> list[dict[str, Any]]:
    """Every logged number as a curve."""
    found = timeline.all_scalars(*span, points)
    return [
        {"name": words.plain(name), **points_of(one.first, one.mean, one.low, one.high)}
        for name, one in found.items()
    ]


def timing(timeline: Timeline, span: Range, points: int) -> dict[str, Any]:
    """Seconds a step between recorded steps, the share of them waited for data, and throughput.

    `data_share` and `samples_per_s` are those of the last tenth of the run, so that they show what
    is going on now; of runs that did not note them step by step, what the loaders told at the end.
    """
    index, notes = timeline.told()
    steps, seconds = index.first, np.diff(index.seconds)
    per_step = _per(seconds, np.diff(steps))
    loaded = [note.get("loaded") or {} for note in notes]
    wait_s, samples = (
        np.array([float(one.get(key, np.nan)) for one in loaded]) for key in ("wait_s", "samples")
    )
    shares, rates = _per(np.diff(wait_s), seconds).clip(0, 1), _per(np.diff(samples), seconds)
    share, rate = _lately(wait_s, index.seconds), _lately(samples, index.seconds)
    loaders = timeline.loaders()
    known = np.isfinite(shares)
    return {
        "data_share": number(_share_of(loaders) if share is None else min(max(share, 0.0), 1.0)),
        "median_s": number(float(np.nanmedian(per_step))) if np.isfinite(per_step).any() else None,
        "curve": curve(steps[1:], per_step, span, points),
        "share_curve": curve(steps[1:][known], shares[known], span, points),
        "rate_curve": curve(steps[1:][known], rates[known], span, points),
        "samples_per_s": number(rate),
        "rates": [
            {"dataset": words.plain(one.dataset), "samples_per_s": number(_rate(one.stats))}
            for one in loaders
        ],
    }


def _per(parts: Floats, wholes: Any) -> Floats:
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)


def _lately(total: Floats, seconds: Floats) -> float | None:
    """How much a running total rose a second in the last tenth of the run."""
    known = np.flatnonzero(np.isfinite(total))
    if len(known) < 2:
        return None
    first = known[min(len(known) - 1 - len(known) // RECENT, len(known) - 2)]
    span_s = seconds[known[-1]] - seconds[first]
    return float((total[known[-1]] - total[first]) / span_s) if span_s > 0 else None


def _share_of(loaders: list[Any]) -> float | None:
    waits = sum(float(one.stats.get("wait_s", 0)) for one in loaders)
    epochs = sum(float(one.stats.get("epoch_s", 0)) for one in loaders)
    return waits / epochs if epochs > 0 else None


def _rate(stats: dict[str, Any]) -> float:
    seconds = float(stats.get("epoch_s", 0))
    given = stats.get("samples_per_s")
    return float(given) if given else float(stats.get("samples", 0)) / seconds if seconds else 0.0


def loaders(timeline: Timeline) -> list[dict[str, Any]]:
    """What each DataLoader measured."""
    return [
        {"dataset": words.plain(one.dataset), "stats": clean(one.stats)}
        for one in timeline.loaders()
    ]
