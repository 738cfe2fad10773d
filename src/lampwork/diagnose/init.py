"""Findings about the first weights: what they cannot break, and what they do to the signal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lampwork.diagnose.criterion import criteria
from lampwork.diagnose.curve import guesses, guessing, knows, training_loss
from lampwork.diagnose.drift import Drift, drift
from lampwork.diagnose.finding import Finding, others, plain
from lampwork.diagnose.layers import (
    Layer,
    Parameter,
    finite,
    is_norm,
    parameters,
    weighted_layers,
)
from lampwork.record.reader import Record

MIN_LAYERS = 4
"""Weighted layers that a model needs before one speaks of its depth."""
LOSS_HIGH = 3.0
"""Nats above ln C: what logits of standard deviation 2.5 cost."""
STUCK = 1e-12
"""A gradient of at most this magnitude moves nothing."""


def symmetric(record: Record) -> Iterator[Finding]:
    """`init-symmetric`: units start as copies of one another.

    A weight matrix starts as one constant other than zero. All units of such a layer compute the
    same and get the same gradient, so they stay copies of one unit (Goodfellow et al. 2016, "Deep
    Learning", 8.4, "break symmetry"). The threshold is exact: smallest and largest element are
    equal.

    Not accused: normalisation, embeddings (ones are a scale by class, as in conditional
    normalisation), depthwise convolutions behind the first layer (each channel has its own input)
    and matrices of unknown modules that are not called weight, which may be elementwise gains.

    Known limits: rows that are equal to one another but not constant are seen by `lampwork.init`'s
    check of a plan, not here.

    Source: Goodfellow et al. 2016, "Deep Learning", 8.4, "break symmetry".

    Cure: draw the weight at random.

        torch.nn.init.xavier_uniform_(layer.weight)
    """
    found = [p for p in parameters(record) if _constant(p) and _mixes(p, record)]
    if found:
        first = min(found, key=_execution)
        names = [first.name, *(p.name for p in found if p is not first)]
        yield Finding(
            "init-symmetric",
            "fail",
            first.name,
            int(record.steps[0]),
            {"value": plain(first.weight.min[0]), **others(names)},
            "All elements of this weight start equal, so its units stay copies of one another: "
            "draw it at random.\n"
            f"torch.nn.init.xavier_uniform_(model.get_parameter({first.name!r}))",
        )


def zero(record: Record) -> Iterator[Finding]:
    """`init-zero`: a weight starts at zero.

    A weight matrix starts at zero and cannot leave it. Zeros are fine where the gradient reaches
    them: LoRA's second matrix, the last layer of a residual branch, a head. They are not where two
    of them follow one another, because each one's gradient is then a product with the other. So the
    finding asks for three recorded steps over which the matrix is exactly zero, its optimizer
    steps, and its gradient is zero as well (at most 1e-12, below what moves any float32 weight).

    Known limits: zeros behind saturating functions other than zero at zero (sigmoid) get a
    gradient, but the same in each unit; nothing here sees that.

    Source: Glorot & Bengio 2010; for zeros that are meant, Hu et al. 2021, "LoRA", and Goyal et al.
    2017, "Accurate, Large Minibatch SGD", 5.1.

    Cure: draw the weight at random, or leave zeros to the last layer of a branch alone.

        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    """
    found = [p for p in parameters(record) if p.is_matrix and p.trainable and _stuck_at_zero(p)]
    if found:
        first = min(found, key=_execution)
        names = [first.name, *(p.name for p in found if p is not first)]
        yield Finding(
            "init-zero",
            "fail",
            first.name,
            int(record.steps[0]),
            {"largest_gradient": plain(np.nanmax(first.grad.absmax)), **others(names)},
            "This weight starts at zero and gets no gradient that could move it: draw it at "
            "random.\n"
            f"torch.nn.init.xavier_uniform_(model.get_parameter({first.name!r}))",
        )


def vanishing(record: Record) -> Iterator[Finding]:
    """`init-vanishing`: the signal fades with depth at the start.

    The signal fades from layer to layer at the first recorded step. Measured is the root mean
    square of the outputs of weighted layers, last hidden against first hidden, where it is lost
    little by little. A healthy initialisation keeps it within a factor of about
    2 (He et al. 2015). Accused from three decades on where the loss, after at least 100 values, has
    fallen by less than 5 % or stands where guessing does; from six where it is not known what the
    loss will do; never where it has fallen by a fifth. Needs four weighted layers; layers that are
    zero on purpose are left out; normalisation between layers restores the signal, so there it
    never drifts.

    Known limits: torch's default biases hold the magnitude up (at about 0.1) although the signal
    that they hide fades; then only `grad-vanishing` sees it.

    Source: He et al. 2015, "Delving Deep into Rectifiers"; Mishkin & Matas 2016, "All you need is a
    good init".

    Cure: scale the first weights to what each layer computes.

        lampwork.init.initialize(model, x)  # x: one batch of inputs
    """
    yield from _drifting(record, "init-vanishing", -1, fade_limit(record))


def exploding(record: Record) -> Iterator[Finding]:
    """`init-exploding`: the signal grows with depth at the start.

    The signal grows from layer to layer at the first recorded step. As for `init-vanishing`;
    accused from two decades on where the loss begins five times above guessing, else from four;
    never where it ends clearly below guessing. N(0, 1) in layers of 64 units grows by 5.7 a layer.
    Residual branches without normalisation double the variance at each block, so 30 blocks of them
    are accused, and rightly (Zhang et al. 2019, "Fixup").

    Known limits: a model with fewer than four weighted layers is not judged by its depth; its loss
    may tell (`init-loss-high`).

    Source: He et al. 2015, "Delving Deep into Rectifiers"; Zhang et al. 2019, "Fixup
    Initialization".

    Cure: scale the first weights to what each layer computes; in residual nets, normalise or start
    branches near zero.

        lampwork.init.initialize(model, x)  # x: one batch of inputs
    """
    yield from _drifting(record, "init-exploding", +1, growth_limit(record))


def fade_limit(record: Record) -> float:
    """From how many decades on a signal or gradient that fades over the depth is at fault.

    Three where the loss, after at least 100 values, has fallen by less than 5 % or stands where
    guessing does; six, beyond what torch's default (0.41 a layer with ReLU) does to fifteen layers,
    where it is not known what the loss will do; infinitely many where it has fallen by a fifth,
    since an adaptive optimizer trains on with small gradients.
    """
    curve = training_loss(record)
    if curve is None:
        return 6.0
    lost = guesses(record, curve.end)
    if curve.fallen >= 0.2 and not lost:
        return math.inf
    return 3.0 if len(curve) >= 100 and (curve.fallen < 0.05 or lost) else 6.0


def growth_limit(record: Record) -> float:
    """From how many decades on a signal or gradient that grows over the depth is at fault.

    Two where the loss begins five times above guessing, which shows outputs that are far too
    large; infinitely many where it ends clearly below guessing; else four. A falling loss does
    not acquit by itself, since it falls from an absurd height in such a model.
    """
    curve, levels = training_loss(record), guessing(record)
    if knows(record):
        return math.inf
    high = curve is not None and levels and not curve.values[0] < 5 * levels[-1]
    return 2.0 if high else 4.0


def loss_high(record: Record) -> Iterator[Finding]:
    """`init-loss-high`: the model starts out sure and wrong.

    The cross-entropy lies far above ln C, that of guessing among C classes. Logits of standard
    deviation s cost about s²/2 nats more. A warning from 3 nats on, a failure where the loss is
    more than twice ln C as well. In a run it is the plain mean over the samples of the first step,
    whatever the user's loss is scaled by or added to.

    Known limits: a loss other than the cross-entropy has no level to compare with, nor has one
    whose targets are probabilities.

    Source: Karpathy 2019, "A Recipe for Training Neural Networks", "verify loss @ init".

    Cure: make the head small, and an embedding that is tied to it.

        torch.nn.init.normal_(model.head.weight, std=0.02)
    """
    step, told = next(criteria(record), (-1, {}))
    value, classes = told.get("value"), told.get("classes") or 0
    if step != 0 or value is None or classes < 2 or told.get("direct") is False:
        return
    level = math.log(classes)
    if value <= level + LOSS_HIGH:
        return
    yield Finding(
        "init-loss-high",
        "fail" if value > 2 * level + LOSS_HIGH else "warn",
        None,
        step,
        {"cross_entropy": plain(value), "ln_classes": plain(level), "classes": classes},
        "The model is sure before it has learnt anything, so the first steps only shrink its "
        "logits: make the head small, and an embedding that is tied to it.\n"
        "torch.nn.init.normal_(head.weight, std=0.02)  # the layer that gives the logits",
    )


def hidden_drift(
    layers: list[Layer], magnitudes: NDArray[np.float64], direction: int, limit: float
) -> tuple[list[Layer], Drift] | None:
    """The drift over all layers but the last, if it goes far enough (direction -1 down, +1 up)."""
    found = drift(magnitudes[:-1]) if len(layers) >= MIN_LAYERS else None
    if found is None or found.decades * direction < limit:
        return None
    return layers[:-1], found


def _drifting(record: Record, code: str, direction: int, limit: float) -> Iterator[Finding]:
    if not len(record.steps):
        return
    layers = [layer for layer in weighted_layers(record) if _carries(layer)]
    rms = np.array([layer.output.rms[0] for layer in layers])
    drifted = hidden_drift(layers, rms, direction, limit)
    if drifted is None:
        return
    hidden, found = drifted
    where = hidden[found.begins].name
    verb = "fades" if direction < 0 else "grows"
    yield Finding(
        code,
        "fail",
        where,
        int(record.steps[0]),
        {
            "first": hidden[0].name,
            "first_rms": plain(rms[0]),
            "last": hidden[-1].name,
            "last_rms": plain(rms[len(hidden) - 1]),
            "ratio": plain(found.ratio),
            "layers": len(hidden),
        },
        f"The signal {verb} from layer to layer before any training: scale the first weights to "
        f"what each layer computes.\nlampwork.init.initialize(model, x)  # {where} and all others",
    )


def _constant(parameter: Parameter) -> bool:
    weight = parameter.weight
    return bool(
        parameter.trainable
        and parameter.is_matrix
        and len(weight.count)
        and weight.min[0] == weight.max[0] != 0
        and weight.nonfinite[0] == 0
    )


def _mixes(parameter: Parameter, record: Record) -> bool:
    """Whether the matrix maps one space to another, rather than scaling element by element."""
    module = parameter.module
    if is_norm(module) or "Embedding" in module or "Scale" in module:
        return False
    if "Conv" in module and len(parameter.shape) > 2 and parameter.shape[1] == 1:
        layers = weighted_layers(record)
        return not layers or layers[0].name == parameter.owner
    known = ("Linear", "Conv", "LSTM", "GRU", "RNN", "Attention", "Bilinear")
    leaf = parameter.name.rpartition(".")[2].lower()
    return any(word in module for word in known) or leaf.startswith(("weight", "kernel", "w_"))


def _stuck_at_zero(parameter: Parameter) -> bool:
    steps = parameter.has_gradient & parameter.stepped
    return bool(
        steps.sum() >= 3
        and (finite(parameter.weight.absmax) == 0).all()
        and (parameter.weight.nonfinite[steps] == 0).all()
        and (parameter.grad.nonfinite[steps] == 0).all()
        and (parameter.grad.absmax[steps] <= STUCK).all()
    )


def _carries(layer: Layer) -> bool:
    """Whether a layer lets a signal through at the first step: it ran with weights other than 0."""
    matrices = [p for p in layer.parameters if p.is_matrix]
    return layer.output.count[0] > 0 and any(p.weight.absmax[0] > 0 for p in matrices)


def _execution(parameter: Parameter) -> float:
    return float("inf") if parameter.depth is None else parameter.depth
