"""What the targets of a step were: which classes, how many of each, in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lampwork.taps.criterion import Criterion
from lampwork.taps.statistic import readable

_BINARY = ("bce", "bce_with_logits")
_OF_CLASSES = ("cross_entropy", "nll", *_BINARY)
MOST = 4096
"""Targets of a step that are looked at."""
MOST_CLASSES = 32
"""Classes of a step of which the counts are kept; of more only how many there were."""


@torch.no_grad()
def labels(criterion: Criterion) -> Tensor | None:
    """The targets as one class per sample, shape (samples,), a copy; None where they are none.

    Of a two-class loss there has to be one probability per sample, not one of several labels. For a
    target per pixel or token, nothing is told: its neighbours are alike by nature.
    """
    target = None if criterion.target is None else readable(criterion.target)
    if target is None or type(target) is not Tensor or not target.numel():
        return None
    if criterion.name not in _OF_CLASSES:
        return None
    flat = target.detach()
    if criterion.name in _BINARY:
        if flat.dim() == 2 and flat.shape[1] == 1:
            flat = flat[:, 0]
        flat = (flat.float() * 2).round() / 2
    if flat.dim() != 1:
        return None
    # Evenly, and not the first ones: a large batch may well be sorted.
    return flat[:: max(1, len(flat) // MOST)][:MOST].clone()


@torch.no_grad()
def mean_loss(criterion: Criterion) -> Tensor | None:
    """The plain mean cross-entropy of some samples, in nats, shape (); None for other losses.

    Without weights of classes and label smoothing, whatever the scale of the user's loss.
    """
    logs = criterion.log_probabilities
    if logs is None or criterion.target is None or logs.dim() != 2 or type(logs) is not Tensor:
        return None
    logs, target = logs[:MOST].detach(), criterion.target[:MOST]
    counts = target != criterion.ignored
    picked = logs.gather(1, target.where(counts, torch.zeros_like(target))[:, None])[:, 0]
    return -(picked * counts).sum().double() / counts.sum()


def describe(arrays: list[NDArray[Any]], ignored: int | None) -> dict[str, Any] | None:
    """The targets of one step, those of all its losses together; None where there are none.

    `size`, `distinct`, `sorted` (whether each loss had them in rising or falling order), and, of
    few classes, `counts` by class. Probabilities for two classes count in halves, so that soft
    labels do not pass for hard ones.
    """
    kept = [array if ignored is None else array[array != ignored] for array in arrays]
    kept = [array for array in kept if len(array)]
    if not kept:
        return None
    values, counts = np.unique(np.concatenate(kept), return_counts=True)
    told: dict[str, Any] = {
        "size": int(counts.sum()),
        "distinct": len(values),
        "sorted": all(_is_sorted(array) for array in kept),
    }
    if len(values) <= MOST_CLASSES:
        told["counts"] = {f"{v:g}": int(n) for v, n in zip(values, counts, strict=True)}
    return told


def _is_sorted(array: NDArray[Any]) -> bool:
    rises = np.diff(array.astype(np.float64))
    return bool((rises >= 0).all() or (rises <= 0).all())
