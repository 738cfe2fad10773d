"""Findings about gradients: missing, spoiled, left over, or lost on their way down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lampwork.diagnose.activation import first_spoiled
from lampwork.diagnose.curve import training_loss
from lampwork.diagnose.finding import Finding, Severity, others, plain
from lampwork.diagnose.init import fade_limit, growth_limit, hidden_drift
from lampwork.diagnose.layers import (
    Parameter,
    finite,
    parameters,
    take_turns,
    weighted_layers,
)
from lampwork.record.reader import Record

MIN_DRIFT_STEPS = 3
"""Recorded steps that a gradient must fade or grow in, so that it is no accident."""
GROWTH = 1e4
"""The norm of all gradients explodes when it stays this many times above that of the start."""


def nonfinite(record: Record) -> Iterator[Finding]:
    """`grad-nonfinite`: NaN or infinity in a gradient.

    A gradient is NaN or infinite although all outputs are finite. Named is the deepest module, the
    first one that backward met. Demanded is damage: the update or a later weight is spoiled too, or
    gradients stay so to the end. A gradient that overflows once under mixed precision is ordinary:
    the GradScaler skips that step (torch.amp.GradScaler, "unscale_" and "step").

    Known limits: on an accelerator it is seen at recorded steps only; a gradient that spoils the
    weights between two of them shows as `act-nonfinite` with spoiled weights.

    Source: torch.autograd, "Gradients for non-differentiable functions"; torch.amp.GradScaler,
    "unscale_" and "step".

    Cure: keep the argument of roots, norms, divisions and powers away from zero.

        distance = torch.sqrt(squares.sum(dim=1) + 1e-6)
    """
    own = parameters(record)
    table = np.array([p.grad.nonfinite > 0 for p in own]).reshape(len(own), len(record.steps))
    for step in np.flatnonzero(np.any(table[:, : first_spoiled(record)], axis=0)):
        if _loss_is_spoiled(record, int(record.steps[step])):
            return
        bad = [p for p, spoiled in zip(own, table[:, step], strict=True) if spoiled]
        if _damages(bad, int(step)):
            yield _nonfinite(record, bad, int(step))
            return
    yield from _between_recorded_steps(record, own)


def vanishing(record: Record) -> Iterator[Finding]:
    """`grad-vanishing`: early layers get almost no gradient.

    The gradient fades on its way from the last hidden layer to the first. Measured is the norm of
    the gradient of the outputs of weighted layers, which is kept from layer to layer in a
    well-scaled model (Glorot & Bengio 2010): a median over at least three recorded steps (fewer
    where an output was NaN so soon), lost little by little, with the limits of
    `init-vanishing`. Four weighted layers are needed. A single dead or frozen layer is a jump and
    belongs to other findings. A sigmoid passes at most a quarter, so eight layers of it keep less
    than 1e-5.

    Known limits: fewer than four weighted layers are not judged, nor a recurrent layer over its
    steps of time.

    Source: Bengio et al. 1994; Glorot & Bengio 2010, "Understanding the difficulty of training deep
    feedforward neural networks".

    Cure: use ReLU-like activations, normalisation or residual connections, and scale the first
    weights.

        nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())  # in place of a sigmoid
    """
    yield from _drifting(record, "grad-vanishing", -1, fade_limit(record))


def exploding(record: Record) -> Iterator[Finding]:
    """`grad-exploding`: gradients grow out of bounds.

    The gradient grows on its way to the first layer, or in the course of time. Over the depth as
    for `grad-vanishing`, with the limits of `init-exploding`. Over time: the norm of all gradients
    is, at each of the last three of at least eight recorded steps, 1e4 times the median of the
    first third, and the loss has not fallen by a fifth. That is what an exploding recurrent network
    looks like (Pascanu et al. 2013); norms that grow tenfold while a model finds its way are
    ordinary.

    Known limits: gradients that explode and end in NaN between two recorded steps show as
    non-finite values alone.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks".

    Cure: clip the gradients, lower the learning rate, and scale the first weights.

        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # between backward() and step()
    """
    found = [*_drifting(record, "grad-exploding", +1, growth_limit(record))]
    curve = training_loss(record)
    if not found and (curve is None or curve.fallen < 0.2):
        found = [*_through_time(record)] or [*_growing(record)]
    yield from found


def missing(record: Record) -> Iterator[Finding]:
    """`grad-none`: a parameter gets no gradient.

    A trainable parameter in the optimizer that no backward pass ever reached. If its module runs
    (and none of the module's parameters got a gradient), it is cut off by a `detach`, `no_grad` or
    a step that is not differentiable: a failure after two recorded steps. If it never runs, it is
    dead weight, worth a warning after three; where siblings of the same pattern (`layers.3.weight`)
    do get gradients, chance may choose among them (layer drop), and twenty recorded steps are asked
    for.

    Not accused: the experts of a mixture, which may starve, and a parameter whose values change: an
    optimizer steps it between the recorded steps.

    Known limits: a parameter that gets a gradient of zero throughout is not one without a gradient.

    Source: torch.Tensor.detach, torch.no_grad; torch.nn.Module.requires_grad_ for what is left out
    on purpose.

    Cure: look for detach(), no_grad(), .data, numpy or argmax between the layer and the loss; use a
    layer that nobody calls, or freeze it.

        assert layer(x).requires_grad  # then follow its result to the loss
    """
    own = parameters(record)
    reached = [p for p in own if p.has_gradient.any()]
    idle = [p for p in own if p not in reached and _is_trained(p)] if reached else []
    cut = [p for p in idle if len(record.steps) >= 2 and _ran(record, p, reached)]
    unused = [p for p in idle if p not in cut and len(record.steps) >= _patience(p, reached)]
    if cut or unused:
        yield _missing(record, cut or unused, "fail" if cut else "warn")


def accumulating(record: Record) -> Iterator[Finding]:
    """`grad-accumulating`: gradients of earlier steps are still there.

    Gradients of former steps are never cleared, so they pile up. The record notes whether the first
    backward pass after a step found a gradient that was left over; accumulation over micro-batches
    clears it after the step and is not accused. Demanded are two such steps that make up at least
    half of all but the first. Silent where several optimizers take turns, since one's pass
    legitimately runs through the other's parameters.

    Known limits: with several optimizers that take turns nothing is said.

    Source: torch.optim.Optimizer.zero_grad.

    Cure: clear the gradients once per optimizer step.

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """
    stale = [bool(notes.get("stale_gradient")) for notes in record.notes]
    own = parameters(record)
    count = sum(stale[1:])
    if count < 2 or 2 * count < len(stale) - 1 or take_turns(own):
        return
    norms = _total_norm(own)
    yield Finding(
        "grad-accumulating",
        "fail",
        None,
        int(record.steps[1 + stale[1:].index(True)]),
        {
            "stale_steps": count,
            "recorded_steps": len(stale),
            "first_norm": plain(norms[0]),
            "last_norm": plain(norms[-1]),
        },
        "Each backward pass adds to the gradients of all steps before: clear them after the step.\n"
        "optimizer.zero_grad()  # once per step, right after optimizer.step()",
    )


def _bad(count: float) -> bool:
    return bool(count > 0)  # NaN, no gradient at all, is not bad


def _damages(bad: list[Parameter], step: int) -> bool:
    for p in bad:
        if _bad(p.update.nonfinite[step]) or (p.weight.nonfinite[step + 1 :] > 0).any():
            return True
    rest = len(bad[0].grad.count) - step
    return rest >= 3 and any((p.grad.nonfinite[step:] > 0).all() for p in bad)


def _nonfinite(record: Record, bad: list[Parameter], step: int) -> Finding:
    outputs = [
        tensor
        for tensor in record.of_kind("grad_output")
        if _bad(record.summary(tensor).nonfinite[step]) and not tensor.facts.get("root")
    ]
    deepest = max(bad, key=lambda p: -1 if p.depth is None else p.depth)
    where = deepest.name
    # Places of parameters are ids of outputs, and the gradient of an output is described after it.
    if outputs and (deepest.depth is None or outputs[-1].id > deepest.depth):
        where = outputs[-1].name
    evidence = {
        "nonfinite": int(deepest.grad.nonfinite[step]),
        "of": int(deepest.grad.count[step]),
        "parameters": len(bad),
    }
    return _spoiling(where, int(record.steps[step]), deepest, evidence)


def _spoiling(where: str, step: int, deepest: Parameter, evidence: dict[str, int]) -> Finding:
    return Finding(
        "grad-nonfinite",
        "fail",
        where,
        step,
        {"phase": "backward", "parameter": deepest.name, **evidence},
        "All outputs are finite but the gradient is not, from here down: look for the square root "
        "of 0, a norm of zeros or a power in what follows, and keep it from 0.\n"
        f"x = x.clamp(min=1e-6)  # where the output of {where!r} enters a root, norm or division",
    )


def _drifting(record: Record, code: str, direction: int, limit: float) -> Iterator[Finding]:
    spoiled = first_spoiled(record)
    needed = MIN_DRIFT_STEPS if spoiled is None else min(MIN_DRIFT_STEPS, max(spoiled, 1))
    sound = [(layer, finite(layer.grad_output.norm[:spoiled])) for layer in weighted_layers(record)]
    layers = [layer for layer, norms in sound if len(norms) >= needed]
    norms = np.array([np.median(norms) for _, norms in sound if len(norms) >= needed])
    # Backward runs from the last hidden layer to the first; the last layer of all stays out.
    order = [*range(len(layers) - 2, -1, -1), *range(len(layers))[-1:]]
    drifted = hidden_drift([layers[i] for i in order], norms[order], direction, limit)
    if drifted is None:
        return
    hidden, found = drifted
    where = hidden[-1].name
    verb = "fades" if direction < 0 else "grows"
    steps = np.flatnonzero(np.isfinite(hidden[-1].grad_output.norm))
    yield Finding(
        code,
        "fail",
        where,
        int(record.steps[steps[0]]),
        {
            "first": where,
            "first_norm": plain(norms[0]),
            "last": hidden[0].name,
            "last_norm": plain(norms[len(hidden) - 1]),
            "ratio": plain(found.ratio),
            "layers": len(hidden),
            "begins": hidden[found.begins].name,
        },
        f"The gradient {verb} from layer to layer before it reaches this one: use ReLU-like "
        "activations, normalisation or residual connections, and scale the first weights.\n"
        f"lampwork.init.initialize(model, x)  # {where} and all others",
    )


def _total_norm(own: list[Parameter]) -> NDArray[np.float64]:
    squares = [np.nan_to_num(p.grad.norm) ** 2 for p in own if p.optimized]
    return np.sqrt(np.sum(squares, axis=0)) if squares else np.zeros(1)


def _growing(record: Record) -> Iterator[Finding]:
    own = [p for p in parameters(record) if p.optimized]
    norms = _total_norm(own)
    if len(norms) < 8 or take_turns(own):
        return
    before = float(np.median(norms[: len(norms) // 3]))
    if not 0 < before * GROWTH < norms[-3:].min():
        return
    where = max(own, key=lambda p: float(np.nan_to_num(p.grad.norm[-1])))
    yield Finding(
        "grad-exploding",
        "fail",
        where.name,
        int(record.steps[int(np.argmax(norms > GROWTH * before))]),
        {
            "norm_before": plain(before),
            "norm": plain(norms[-1]),
            "growth": plain(norms[-1] / before),
        },
        "The gradients have grown without bound since the start: clip them, and lower the "
        "learning rate.\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step(); "
        f"the largest is that of {where.name}",
    )


def _through_time(record: Record) -> Iterator[Finding]:
    """A recurrent matrix whose gradient dwarfs it: each step back in time multiplies it."""
    for p in parameters(record):
        if not any(word in p.module for word in ("RNN", "LSTM", "GRU")) or "hh" not in p.name:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = p.grad.norm / p.weight.norm
        above = np.flatnonzero(np.nan_to_num(ratio, posinf=0.0) >= GROWTH)
        if not len(above):
            continue
        at = int(above[0])
        yield Finding(
            "grad-exploding",
            "fail",
            p.name,
            int(record.steps[at]),
            {
                "norm": plain(p.grad.norm[at]),
                "weight_norm": plain(p.weight.norm[at]),
                "gradient_to_weight": plain(ratio[at]),
            },
            "The gradient grows with each step back in time: clip it, shorten the sequences, or "
            "start the recurrent matrix orthogonal.\n"
            f"torch.nn.init.orthogonal_(model.get_parameter({p.name!r}))",
        )
        return


def _is_trained(parameter: Parameter) -> bool:
    """Whether it is there to be trained, at every step, by the optimizer that is watched."""
    return (
        parameter.trainable
        and parameter.optimized
        and not parameter.moved
        and "expert" not in parameter.name
    )


def _ran(record: Record, parameter: Parameter, reached: list[Parameter]) -> bool:
    output = record.find(parameter.owner, "output") if parameter.owner else None
    if output is None or any(p.owner == parameter.owner for p in reached):
        return False
    return bool((record.summary(output).count > 0).sum() >= 2)


def _patience(parameter: Parameter, reached: list[Parameter]) -> int:
    """How many recorded steps a parameter that never runs may go without a gradient."""
    like = _block_pattern(parameter)
    chosen = like is not None and like in {_block_pattern(p) for p in reached}
    return 20 if chosen else 3


def _block_pattern(parameter: Parameter) -> str | None:
    """The name and shape without numbers, `layers.*.fc.weight`; None outside of numbered blocks."""
    parts = parameter.name.split(".")
    if not any(part.isdigit() for part in parts[:-2]):
        return None  # a number just before the end is one layer of a Sequential
    return ".".join("*" if part.isdigit() else part for part in (*parts, str(parameter.shape)))


def _loss_is_spoiled(record: Record, step: int) -> bool:
    """Whether the loss was no number already, so that its gradients cannot be any."""
    curve = training_loss(record)
    return curve is not None and not np.isfinite(curve.values[curve.steps == step]).all()


def _between_recorded_steps(record: Record, own: list[Parameter]) -> Iterator[Finding]:
    """As `nonfinite`, of a step that was not recorded but for the names (`watching.flight`)."""
    told = record.meta.get("spoiled_gradient")
    if not isinstance(told, dict) or told["weights_nonfinite"]:
        return
    curve = training_loss(record)
    recovered = curve is None or bool(np.isfinite(curve.values[-1:]).all())
    if recovered and first_spoiled(record) is None:
        return  # as under a GradScaler that skipped the step
    step = int(told["step"])
    bad = [p for p in own if p.name in told["parameters"]]
    if not bad or step in record.steps or _loss_is_spoiled(record, step):
        return
    deepest = max(bad, key=lambda p: -1 if p.depth is None else p.depth)
    yield _spoiling(deepest.owner or deepest.name, step, deepest, {"parameters": told["count"]})


def _missing(record: Record, found: list[Parameter], severity: Severity) -> Finding:
    found = sorted(found, key=lambda p: float("inf") if p.depth is None else p.depth)
    name = found[0].name
    if severity == "fail":
        advice = (
            "This layer runs, but no gradient comes back to it: look for detach(), no_grad(), "
            ".data or argmax between it and the loss.\n"
            f"assert model.get_submodule({found[0].owner!r})(x).requires_grad  # then follow it on"
        )
    else:
        advice = (
            "Nothing in the forward pass uses this parameter: use it, or freeze it so that it is "
            f"not mistaken for trained.\nmodel.get_parameter({name!r}).requires_grad_(False)"
        )
    return Finding(
        "grad-none",
        severity,
        name,
        int(record.steps[0]),
        {
            "recorded_steps": len(record.steps),
            "runs": severity == "fail",
            **others([p.name for p in found]),
        },
        advice,
    )
