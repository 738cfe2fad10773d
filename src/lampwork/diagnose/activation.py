"""Findings about what modules put out: units that never speak, values that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lampwork.diagnose.curve import training_loss
from lampwork.diagnose.finding import Finding, others, plain
from lampwork.diagnose.layers import Layer, parameters, units, weighted_layers
from lampwork.record.reader import Record
from lampwork.record.schema import Tensor

DEAD = 0.9
"""A layer is accused from this share of dead units on."""
WINDOW = 5
"""Recorded steps that the record looks back on before it calls a unit dead."""
MIN_SAMPLES = 128
"""Values per unit within the window, below which a silent unit may just not have been asked."""
MIN_UNITS = 8

_NEVER_ZERO = ("LeakyReLU", "RReLU", "PReLU")


@dataclass(frozen=True, slots=True)
class _Dead:
    name: str
    layer: str
    since: int
    share: float
    units: int


def dead(record: Record) -> Iterator[Finding]:
    """`act-dead`: units that always put out zero.

    At least nine of ten units of a ReLU are zero for all inputs, and stay so. A dead unit passes no
    gradient, so nothing revives it (Lu et al. 2019, "Dying ReLU and Initialization"). Counted are
    channels that were zero throughout each of the last five recorded steps, up to the end of the
    record. Some dead units are ordinary (sound large models were found with 70 % in some layers),
    hence 0.9.

    Not accused: layers of fewer than eight units (gates often switch off whole), dropout and
    embeddings, which are not ReLUs, and layers of which fewer than 128 values per unit were seen,
    unless every unit is dead.

    Where the ReLU is a function rather than a module, the layer before it is judged by what it
    leaves behind: its outputs are never positive and its gradients are zero, or nine of ten
    elements of its bias have a gradient of exactly zero at each of the last five recorded steps.

    Known limits: units that a function other than ReLU silences, or that die in the last recorded
    steps only, are not counted.

    Source: Lu et al. 2019, "Dying ReLU and Initialization"; Maas et al. 2013 for leaky units.

    Cure: lower the learning rate, start with biases at zero, and scale what comes in.

        torch.nn.init.zeros_(layer.bias)  # of the layer before the ReLU
    """
    if len(record.steps) < WINDOW:
        return
    found = [*_dead_modules(record)] or [*_dead_layers(record)]
    # What dies after the first NaN has no other cause.
    spoiled = first_spoiled(record)
    found = [item for item in found if spoiled is None or item.since < spoiled]
    if found:
        first = min(found, key=lambda item: item.since)
        names = [first.name, *(item.name for item in found if item is not first)]
        yield Finding(
            "act-dead",
            "fail",
            first.name,
            int(record.steps[first.since]),
            {
                "dead_share": plain(first.share),
                "units": first.units,
                "layer": first.layer,
                **others(names),
            },
            "Its units are zero whatever comes in, so no gradient passes: lower the learning rate "
            "and start with biases at zero.\n"
            f"torch.nn.init.zeros_(model.get_submodule({first.layer!r}).bias)",
        )


def nonfinite(record: Record) -> Iterator[Finding]:
    """`act-nonfinite`: NaN or infinity in an output.

    The first module whose output is NaN or infinite, at the first such step. Minus infinity alone
    is a mask and no fault, as long as nothing else at that step is spoiled; where something is, a
    module that gave minus infinity for the first time may be its origin (a logarithm of zero).

    Known limits: on an accelerator, or where one step is not built of the same operations as the
    next, the module of a step that was not recorded is not known; where weights were spoiled
    meanwhile, the first module is only the first with such weights, as the evidence says.

    Source: IEEE 754 on log(0), 0/0 and overflow; torch.finfo for the largest number of each format.

    Cure: keep what goes in from log(0), division by 0 and overflow.

        x = x.clamp(min=1e-6)  # before a logarithm or a division
    """
    step = first_spoiled(record)
    between = _between_recorded_steps(record, step)
    if between is not None or step is None:
        yield from [between] if between is not None else []
        return
    outputs = record.of_kind("output")
    counts = _nonfinite_counts(record, outputs)
    spoilt = [t for t, c in zip(outputs, counts, strict=True) if _is_new(c, step)]
    leaves = [tensor for tensor in spoilt if not tensor.facts.get("root")]
    yield _nonfinite(record, (leaves or spoilt)[0], step)


def _between_recorded_steps(record: Record, after: int | None) -> Finding | None:
    """The module that spoiled the loss of a step that was not recorded (`watching.origin`)."""
    told = record.meta.get("spoiled_output")
    if not isinstance(told, dict) or told.get("module") is None:
        return None
    step, name = int(told["step"]), str(told["module"])
    if step in record.steps or (after is not None and step > record.steps[after]):
        return None
    gave = f"{told['operation']} in" if told["operation"] else "what comes in from outside to"
    return Finding(
        "act-nonfinite",
        "fail",
        name or None,
        step,
        {
            "phase": "forward",
            "call": told.get("call", 1),
            "operation": told["operation"] or "input",
            "weights_nonfinite": 0,
        },
        f"The first NaN or infinite value is given by {gave} this module: look at what goes in and "
        "keep it from log(0), division by 0 and overflow.\n"
        f"x = x.clamp(min=1e-6)  # before the logarithm or division in {name or 'the model'}",
    )


def first_spoiled(record: Record) -> int | None:
    """Position of the first recorded step at which an output is spoiled, or None.

    Minus infinity spoils only where the step's loss or a gradient is not finite.
    """
    counts = _nonfinite_counts(record, record.of_kind("output"))
    spoiled = (counts[..., :2] > 0).any(axis=(0, 2))
    spoiled |= (counts[..., 2] > 0).any(axis=0) & _harmed(record)
    return int(np.argmax(spoiled)) if spoiled.any() else None


def _nonfinite(record: Record, tensor: Tensor, step: int) -> Finding:
    summary = record.summary(tensor)
    own = [p for p in parameters(record) if p.weight.nonfinite[step] > 0]
    evidence = {
        "nonfinite": int(summary.nonfinite[step]),
        "nan": int(summary.nan[step]),
        "of": int(summary.count[step]),
        "module": tensor.facts.get("module"),
        "phase": "forward",
        "call": tensor.call,
        "weights_nonfinite": len(own),
    }
    if own:
        advice = (
            "The weights had become NaN or infinite before this step: record each step to see "
            "where, and lower the learning rate.\n"
            f"lampwork.watch(model, every=1)  # {tensor.label} is only the first to show it"
        )
    else:
        advice = (
            "This is the first module that gives NaN or infinite values: look at what goes in and "
            "keep it from log(0), division by 0 and overflow.\n"
            f"x = x.clamp(min=1e-6)  # before the logarithm or division in {tensor.label}"
        )
    where, at = tensor.name or None, int(record.steps[step])
    return Finding("act-nonfinite", "fail", where, at, evidence, advice)


def _nonfinite_counts(record: Record, tensors: list[Tensor]) -> NDArray[np.float64]:
    """How many elements are NaN, inf and -inf, shape (tensors, steps, 3)."""
    counts = np.empty((len(tensors), len(record.steps), 3))
    for summary, own in zip(map(record.summary, tensors), counts, strict=True):
        for i, name in enumerate(("nan", "posinf", "neginf")):
            own[:, i] = summary.column(name)
    return np.nan_to_num(counts)


def _is_new(counts: NDArray[np.float64], step: int) -> bool:
    """Whether a module is spoiled at this step, other than by the mask it has always put out."""
    nan, above, below = counts[step]
    return bool(nan or above or (below and not (counts[:step, 2] > 0).any()))


def _harmed(record: Record) -> NDArray[np.bool_]:
    """At which recorded steps a gradient or the loss is not finite."""
    counts = _nonfinite_counts(record, record.of_kind("grad"))
    curve = training_loss(record)
    lost = [] if curve is None else curve.steps[~np.isfinite(curve.values)]
    return np.logical_or((counts > 0).any(axis=(0, 2)), np.isin(record.steps, lost))


def _dead_modules(record: Record) -> Iterator[_Dead]:
    own = parameters(record)
    for tensor in record.of_kind("output"):
        if not _like_relu(str(tensor.facts.get("module", ""))):
            continue
        summary = record.summary(tensor)
        channels = units(summary)
        since = _until_the_end(summary.dead_share >= DEAD)
        if since is None or channels[-1] < MIN_UNITS:
            continue
        share = float(summary.dead_share[-1])
        seen = np.nansum(summary.count[-WINDOW:]) / channels[-1]
        if share < 1 and seen < MIN_SAMPLES:
            continue
        # Normalisation counts here, too: its shift may be what keeps the units silent.
        before = [p for p in own if p.depth is not None and p.depth < tensor.id]
        layer = max(before, key=lambda p: p.depth or 0).owner if before else tensor.name
        yield _Dead(tensor.name, layer, since, share, int(channels[-1]))


def _dead_layers(record: Record) -> Iterator[_Dead]:
    for layer in weighted_layers(record)[:-1]:
        channels = units(layer.output)
        if channels[-1] < MIN_UNITS or layer.dtype != "float32":
            continue
        for share in (_silent_share(layer), _unmoved_share(layer)):
            since = _until_the_end(share >= DEAD)
            if since is not None and len(record.steps) - since >= WINDOW:
                yield _Dead(layer.name, layer.name, since, float(share[-1]), int(channels[-1]))
                break


def _silent_share(layer: Layer) -> NDArray[np.float64]:
    """1 at the steps at which no output was positive and no own parameter got a gradient."""
    largest = [p.grad.absmax for p in layer.parameters if p.trainable and p.is_matrix]
    still = np.all([np.nan_to_num(absmax, nan=1.0) == 0 for absmax in largest], axis=0)
    return np.where(still & (layer.output.max <= 0), 1.0, 0.0)


def _unmoved_share(layer: Layer) -> NDArray[np.float64]:
    """Share of the bias that got a gradient of exactly zero, 0 where that says nothing.

    All of it says nothing: then what follows may be dead. Neither does a part of it where the
    outputs are not negative for the most: saturation on both sides stops gradients, too.
    """
    channels = units(layer.output)
    asked = np.nan_to_num(layer.output.count) >= MIN_SAMPLES / WINDOW * channels
    negative = layer.output.mean < -0.3 * layer.output.rms
    for p in layer.parameters:
        if p.name.endswith("bias") and p.shape == (int(channels[-1]),):
            share = np.nan_to_num(p.grad.zero_share)
            return np.where(asked & negative & (share < 1), share, 0.0)
    return np.zeros(len(channels))


def _like_relu(module: str) -> bool:
    if module in _NEVER_ZERO or "Leaky" in module:
        return False
    return "ReLU" in module or module in ("Threshold", "Hardswish", "Hardsigmoid")


def _until_the_end(flags: NDArray[np.bool_]) -> int | None:
    """Where the unbroken run of True that ends the series begins; None if it ends in False."""
    if not len(flags) or not flags[-1]:
        return None
    broken = np.flatnonzero(~flags)
    return int(broken[-1]) + 1 if len(broken) else 0
