"""Findings about tanh and sigmoid whose values lie where the functions are flat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lampwork.diagnose.curve import knows
from lampwork.diagnose.finding import Finding, others, plain
from lampwork.record.reader import Record

SATURATED = 0.8
"""A layer is accused from this share of values at the flat ends on."""
SLOPE = 0.15
"""And below this mean slope, relative to the steepest: some steep places carry a gradient yet."""
MIN_SEEN = 3


def saturated(record: Record) -> Iterator[Finding]:
    """`act-saturated`: units at the flat ends of a tanh or sigmoid.

    Most values of an activation lie at the ends of the function, where its slope is nearly zero, so
    hardly any gradient passes. Accused are four of five values with less than 0.04 of the steepest
    slope (a tanh beyond 0.98) and a mean slope below 0.15 of it, each time it was looked at: at the
    first recorded steps and at every fourth after them, three at least. Where it came in the course
    of training, the model must not have learnt anything either. Named is the first such layer in
    the order of execution; where the function is no module, the layer before it.

    Not accused: the last activation, which may be sure of itself, and a function whose result
    multiplies something, which is a gate.

    Known limits: fused recurrent layers and compiled models keep no such values to read.

    Source: Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward
    networks".

    Cure: scale the inputs, and make the weights before the function smaller.

        torch.nn.init.xavier_uniform_(layer.weight, gain=torch.nn.init.calculate_gain("tanh"))
    """
    told = [
        (step, notes["slopes"])
        for step, notes in zip(record.steps.tolist(), record.notes, strict=True)
        if isinstance(notes.get("slopes"), dict)
    ]
    found = []
    for name in dict.fromkeys(name for _, slopes in told for name in slopes):
        seen = [(step, *slopes[name]) for step, slopes in told if name in slopes]
        flat = [share >= SATURATED and slope <= SLOPE for _, _, slope, share in seen]
        since = len(flat) - int(np.argmin([*flat[::-1], False]))
        lasting = len(flat) - since
        if lasting >= MIN_SEEN and (since == 0 or not knows(record)):
            found.append((name, seen[since][0], seen[-1]))
    if found:
        name, step, (_, function, slope, share) = found[0]
        yield Finding(
            "act-saturated",
            "fail",
            name or None,
            step,
            {
                "function": function,
                "flat_share": plain(share),
                "mean_slope": plain(slope),
                **others([name for name, _, _ in found]),
            },
            f"Nearly all values of this {function} lie where it is flat, so no gradient passes: "
            "scale what goes in, and make the weights before it smaller.\n"
            "torch.nn.init.xavier_uniform_(layer.weight)  # of the layer before it",
        )
