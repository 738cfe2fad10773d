"""The finding about a model whose output tells nothing of its input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lampwork.diagnose.criterion import batches
from lampwork.diagnose.finding import Finding, plain
from lampwork.diagnose.layers import weighted_layers
from lampwork.record.reader import Record

COLLAPSED = 1e-5
"""Variance between samples over the mean square, below which an output counts as one."""
EQUAL = 1e-12
"""The same where nothing but rounding is left."""
LASTING = 5
FALL = 0.1


def collapsed(record: Record) -> Iterator[Finding]:
    """`act-collapsed`: the same output for every sample.

    What the model puts out does not differ from sample to sample, so the loss tells of no input.
    Measured is the variance between samples over the mean square of the output, on a few features
    of some samples. Accused is a model at whose last five recorded steps it is below 1e-5 and has
    fallen to a hundredth of what it was, as where a loss of similarity alone pulls all embeddings
    together; or below 1e-12, which is rounding, at all of them. Named is the first module that
    gives one number only, else the last layer.

    Not accused: outputs of nothing but zeros, as of a head that starts at zero, batches of fewer
    than four samples and of one sample repeated, outputs that have no sample dimension.

    Known limits: judged by what the model puts out; within a model, layers that see the same of
    each sample (positions, a first time step) are ordinary.

    Source: Chen & He 2021, "Exploring Simple Siamese Representation Learning", on collapse.

    Cure: scale the weights to what each layer computes; in learning by similarity, add negatives, a
    stop-gradient or a term that keeps the spread.

        lampwork.init.initialize(model, x)  # x: one batch of inputs
    """
    seen = [(s, told) for s, told in batches(record) if told.get("spread") is not None]
    if len(seen) < LASTING or all(told.get("alike") for _, told in seen):
        return
    values = np.array([told["spread"] for _, told in seen])
    end = float(np.median(values[-LASTING:]))
    equal = bool((values < EQUAL).all())
    fallen = bool((values[-LASTING:] < COLLAPSED).all()) and end <= 0.01 * values[0]
    if not equal and not fallen:
        return
    # Where a fall begins: it is no more a tenth of what it was, and stays so.
    higher = np.flatnonzero(values >= FALL * values[0])
    since = 0 if equal else int(higher[-1]) + 1
    yield Finding(
        "act-collapsed",
        "fail",
        _where(record),
        seen[since][0],
        {"spread_start": plain(values[0]), "spread_end": plain(end), "limit": COLLAPSED},
        "All samples get the same output, whatever goes in: look at what the last layers do to "
        "their differences, and at a loss that is smallest when all are equal.\n"
        "print(model(x).std(dim=0))  # 0 throughout: no output depends on the sample",
    )


def _where(record: Record) -> str | None:
    for tensor in record.of_kind("output"):
        summary = record.summary(tensor)
        low, high = summary.min[-LASTING:], summary.max[-LASTING:]
        if tensor.name and np.isfinite(low).all() and (low == high).all():
            return tensor.name
    layers = weighted_layers(record)
    return layers[-1].name or None if layers else None
