"""What a rehearsal tells of the first weights: faults of activations, gradients and the loss."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from lampwork.init.check import Finding, plain
from lampwork.init.rehearsal import Meeting, Output, Rehearsal
from lampwork.init.stored import Value

DEAD = 0.9
"""A layer is accused from this share of dead units on."""
SATURATED = 0.5
"""A layer is accused from this share of values at the ends of a tanh or sigmoid on."""
FADED, GROWN = 3.0, 3.0
"""Decades over the depth: torch's default loses 0.39 in each plain ReLU layer."""
HIGH = 3.0
"""Nats above ln C: what logits of standard deviation 2.5 cost."""
MIN_LAYERS, MIN_UNITS, MIN_SEEN = 4, 8, 16
LARGEST_JUMP = 0.7
"""A single layer may make up at most this share of a drift, in decades."""


@dataclass(frozen=True)
class Layer:
    """A layer with a weight that carries a signal, at its place in the pass."""

    name: str
    output: Output


def carrying(values: Sequence[Value], rehearsal: Rehearsal) -> list[Layer]:
    """The weighted layers in the order of execution, without those that are zero on purpose."""
    modules = {
        value.row.name.rpartition(".")[0]
        for value in values
        if value.is_weight and bool((value.values != 0).any())
    }
    return [
        Layer(name, output)
        for name, output in rehearsal.outputs.items()
        if name in modules and output.count
    ]


def nonfinite(rehearsal: Rehearsal) -> Iterator[Finding]:
    """`act-nonfinite` where a NaN or infinity is first put out, else `grad-` or `loss-nonfinite`.

    Minus infinity alone is a mask and no fault as long as the loss is finite.
    """
    value = rehearsal.loss.value.detach() if rehearsal.loss else None
    lost = value is not None and not math.isfinite(float(value))
    for output in rehearsal.outputs.values():
        if output.nan or output.posinf or (output.neginf and lost):
            evidence = {
                "nan": output.nan,
                "inf": output.posinf + output.neginf,
                "of": output.count,
            }
            advice = (
                "This is the first module that gives NaN or infinite values: look at its weights "
                f"and at what goes in.\nprint(plan)  # and the rows of {output.name}"
            )
            yield Finding("act-nonfinite", "fail", output.name or None, evidence, advice)
            return
    if lost:
        advice = (
            "All outputs are finite and the loss is not: look at the loss function and the targets."
            "\nprint(loss_fn(model(x), y))"
        )
        yield Finding("loss-nonfinite", "fail", None, {"loss": plain(float(value or 0))}, advice)
        return
    bad = [output for output in rehearsal.outputs.values() if output.gradient_nonfinite]
    if bad:  # backward met the last one first
        advice = (
            "Its gradient is NaN or infinite although all outputs are finite, as of a square root "
            "or norm at 0: keep what it is taken of away from 0.\nx = x.clamp(min=1e-6)"
        )
        evidence = {"nonfinite": bad[-1].gradient_nonfinite}
        yield Finding("grad-nonfinite", "fail", bad[-1].name or None, evidence, advice)


def loss_high(rehearsal: Rehearsal) -> Iterator[Finding]:
    """`init-loss-high`: cross-entropy far above ln C, that of guessing among C classes.

    Logits of standard deviation s cost about s²/2 nats more. A warning from 3 nats on, a failure
    where the loss is more than twice ln C as well.
    """
    loss = rehearsal.loss
    if loss is None or loss.cross_entropy is None or not math.isfinite(loss.cross_entropy):
        return
    guessing = math.log(loss.classes)
    if loss.cross_entropy <= guessing + HIGH:
        return
    yield Finding(
        "init-loss-high",
        "fail" if loss.cross_entropy > 2 * guessing + HIGH else "warn",
        None,
        {
            "cross_entropy": plain(loss.cross_entropy),
            "ln_classes": plain(guessing),
            "classes": loss.classes,
        },
        "The model is sure before it has learnt anything, so the first steps only shrink its "
        "logits: make the head small, and an embedding that is tied to it.\n"
        'plan = lampwork.init.plan(model, x, rules=[("head.weight", ("normal", {"std": 0.02}))])',
    )


def units(rehearsal: Rehearsal) -> Iterator[Finding]:
    """`act-dead` and `act-saturated`: layers that no gradient can pass.

    Not accused: layers of fewer than eight units, and of which fewer than 16 values a unit were
    seen. Of correlated inputs half the units of a sound deep ReLU network are silent, hence 0.9.
    """
    asked = [m for m in rehearsal.meetings if m.units >= MIN_UNITS and m.seen >= MIN_SEEN]
    dead = [m for m in asked if m.name == "relu" and m.dead >= DEAD]
    if dead:
        yield _of_units(
            "act-dead",
            dead,
            {"dead_share": plain(dead[0].dead), "units": dead[0].units},
            "Its units are zero whatever comes in, so no gradient passes: start with biases at "
            "zero and weights about zero",
        )
    full = [m for m in asked if m.saturated >= SATURATED]
    if full:
        yield _of_units(
            "act-saturated",
            full,
            {"saturated_share": plain(full[0].saturated), "function": full[0].name},
            "Most of its values are at the ends of the function, where the gradient fades: make "
            "the weights before it smaller",
        )


def depth(layers: Sequence[Layer], rehearsal: Rehearsal) -> Iterator[Finding]:
    """`init-vanishing`, `init-exploding`, `grad-vanishing`, `grad-exploding`: drifts with depth.

    The signal is measured by what differs between samples: a bias that holds the magnitude up
    tells nothing of the input. It fades or grows from the first to the last hidden layer by three
    decades little by little, as the wrong scale of all weights does (He et al. 2015); one layer
    alone may be small for its own reason.
    """
    hidden = layers[:-1]
    if len(layers) < MIN_LAYERS:
        return
    spreads = [_root(layer.output.spread) for layer in hidden]
    signals = spreads if rehearsal.varied and _all_finite(spreads) else None
    sizes = [_root(layer.output.moment) for layer in hidden]
    slopes = [_root(layer.output.gradient_squares) for layer in hidden]
    fades, grows = _drift(signals or sizes), _drift(sizes)
    loss = rehearsal.loss
    high = loss is not None and (loss.cross_entropy or 0) > math.log(max(loss.classes, 1)) + HIGH
    found = False
    if fades <= -FADED:
        found = True
        yield _drifting("init-vanishing", hidden, signals or sizes, "fades")
    elif grows >= (GROWN - 1.0 if high else GROWN):
        found = True
        yield _drifting("init-exploding", hidden, sizes, "grows")
    # Backward runs from the last layer to the first.
    drifted = -_drift(slopes)
    if not found and abs(drifted) >= FADED:
        code, verb = ("grad-vanishing", "fades") if drifted < 0 else ("grad-exploding", "grows")
        yield _drifting(code, hidden, slopes, verb)


def collapsed(model: nn.Module, layers: Sequence[Layer], rehearsal: Rehearsal) -> Iterator[Finding]:
    """`act-collapsed`: different samples, one output.

    Judged is what the model puts out: within a model, layers that see the same of each sample
    (positions, a time step) are ordinary.
    """
    whole = rehearsal.outputs.get("")
    if not rehearsal.varied or whole is None or not layers or whole.calls != 1:
        return
    last = layers[-1].output
    relative = _root(last.spread) / max(_root(last.moment), 1e-30)
    of_whole = _root(whole.spread) / max(_root(whole.moment), 1e-30)
    if whole.moment > 0 and max(relative, of_whole) < 1e-4:
        yield Finding(
            "act-collapsed",
            "fail",
            layers[-1].name,
            {"spread_over_size": plain(of_whole), "size": plain(_root(whole.moment))},
            "All samples get the same output, so the loss tells of no input: scale the weights to "
            "what each layer computes.\nlampwork.init.initialize(model, x)",
        )


def unreached(
    values: Sequence[Value], rehearsal: Rehearsal, modules: dict[str, nn.Module]
) -> Iterator[Finding]:
    """`grad-none`: trainable parameters that the backward pass did not reach.

    A failure where the module ran, so that something cut it off (`detach`, `no_grad`); a warning
    where it did not run. Not accused: tokens and tables (a mask token needs a mask), and experts,
    which this batch may not have chosen.
    """
    trainable = [v for v in values if v.row.role != "buffer" and v.site.stored.requires_grad]
    if not trainable:
        return
    if not rehearsal.backward:
        yield Finding(
            "grad-none",
            "fail",
            None,
            {"parameters": len(trainable)},
            "The loss depends on no parameter: something cuts the graph (detach, no_grad, argmax)."
            "\nassert loss_fn(model(x), y).requires_grad",
        )
        return
    idle = [v for v in trainable if id(v.site.stored) not in _reached(v, rehearsal)]
    cut, unused = [], []
    for value in idle:
        owner = value.row.name.rpartition(".")[0]
        ran = owner in rehearsal.outputs
        siblings = [v for v in trainable if v.site.module is value.site.module]
        if value.row.role in ("embedding", "expert") or _is_expert(owner, modules):
            continue
        (cut if ran and all(v in idle for v in siblings) else unused).append(value)
    for found, severity, why in (
        (cut, "fail", "Its layer runs and no gradient comes back: something cuts the graph"),
        (unused, "warn", "The loss does not depend on it, so it stays as it is: use it"),
    ):
        if found:
            names = [value.row.name for value in found]
            yield Finding(
                "grad-none",
                severity,  # pyright: ignore[reportArgumentType]
                names[0],
                {"count": len(names), **({"also": names[1:]} if names[1:] else {})},
                f"{why}, or freeze it.\nmodel.get_parameter({names[0]!r}).requires_grad_(False)",
            )


def _reached(value: Value, rehearsal: Rehearsal) -> set[int]:
    """Ids with a gradient; of a computed weight any of its tensors will do."""
    if any(id(tensor) in rehearsal.slopes for tensor in value.site.raw):
        return {id(value.site.stored)} | {*rehearsal.slopes}
    return set(rehearsal.slopes)


def _is_expert(owner: str, modules: dict[str, nn.Module]) -> bool:
    parts = owner.split(".")
    kinds = [type(modules.get(".".join(parts[:n]))).__name__ for n in range(1, len(parts) + 1)]
    return bool(re.search("expert|moe", " ".join([owner, *kinds]), re.IGNORECASE))


def _of_units(code: str, found: list[Meeting], evidence: dict, advice: str) -> Finding:
    first = found[0]
    names = list(dict.fromkeys(meeting.where for meeting in found))
    also = {"count": len(names), "also": names[1:]} if names[1:] else {}
    text = f"{advice}.\nlampwork.init.initialize(model, x)  # {first.layer}"
    return Finding(
        code, "fail", first.where or None, {**evidence, "layer": first.layer, **also}, text
    )


def _drifting(code: str, hidden: Sequence[Layer], values: list[float], verb: str) -> Finding:
    what = "gradient" if code.startswith("grad") else "signal"
    away = "towards the first layer" if what == "gradient" else "from layer to layer"
    return Finding(
        code,
        "fail",
        hidden[-1 if what == "signal" else 0].name,
        {
            "first": hidden[0].name,
            "first_rms": plain(values[0]),
            "last": hidden[-1].name,
            "last_rms": plain(values[-1]),
            "layers": len(hidden),
        },
        f"The {what} {verb} {away} before any training: scale the first weights to what each "
        "layer computes.\nlampwork.init.initialize(model, x)",
    )


def _drift(values: Sequence[float]) -> float:
    """Decades from the first value to the last; 0 where that is no drift, or not all are numbers.

    A jump is none, and neither is a path that goes up and down for more than half of its way, as
    that of a transformer does, whose queries get less gradient than its values.
    """
    if len(values) < 3 or not _all_finite(values):
        return 0.0
    logs = [math.log10(max(value, 1e-45)) for value in values]
    total = logs[-1] - logs[0]
    steps = [(b - a) * math.copysign(1.0, total) for a, b in pairwise(logs)]
    way = sum(abs(step) for step in steps)
    is_drift = max(steps, default=0.0) <= LARGEST_JUMP * abs(total) and abs(total) >= way / 2
    return total if is_drift else 0.0


def _all_finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _root(square: float) -> float:
    return math.sqrt(square) if square >= 0 else math.nan
