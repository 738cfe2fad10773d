"""Findings about the optimizer: what it does not own, does not move, or moves by too much."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lampwork.diagnose.curve import Curve, guesses, training_loss
from lampwork.diagnose.finding import Finding, others, plain
from lampwork.diagnose.layers import Parameter, finite, parameters
from lampwork.record.reader import Record

CHOSEN = 0.05
"""An optimizer that owns less than this share of what is trainable was given it on purpose."""
SHAKEN = 0.5
"""Update over weight at a single step that replaces what was learned before."""
JOLTED = 0.1
"""Update over weight at a single step that does so if the loss jumps after it."""
RESTLESS = 0.05
"""Update over weight that does so when it lasts."""
TINY = 1e-5
"""Update over weight at which a hundred steps change the third digit at most."""
MIN_FROZEN_STEPS = 3
"""Recorded steps without change; a warm-up begins with one, and a schedule may end in one."""


def missing_params(record: Record) -> Iterator[Finding]:
    """`optim-missing-params`: the optimizer does not know a parameter.

    Trainable parameters get gradients but no optimizer moves them. The classic is an optimizer made
    before a layer was added, or from one part of the model. Two recorded steps are needed, and the
    values must not have changed between them, which shows that no optimizer steps them in between
    either.

    Not accused: what is done on purpose, a backbone left out (all that is left out comes before all
    that is owned, in order of execution or registration), matrices left out while vectors of the
    same module are owned (BitFit, Ben Zaken et al. 2022), and an optimizer that owns less than 5 %
    (adapters, LoRA).

    Known limits: parameters that are left out and come before all that are owned look like a frozen
    backbone.

    Source: torch.optim, "Constructing it"; Ben Zaken et al. 2022, "BitFit", for matrices left out
    on purpose.

    Cure: make the optimizer after the model is complete, or hand over what is missing.

        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # after every layer is in place
    """
    strays = record.meta.get("strays")
    if isinstance(strays, list) and strays:
        yield _stray(record, [str(name) for name in strays])
        return
    own = [p for p in parameters(record) if p.trainable]
    if len(record.steps) < 2 or not any(p.optimized for p in own):
        return
    owned = [p for p in own if p.optimized or p.moved]
    left = [p for p in own if p not in owned and p.pulled.sum() >= 2]
    if not left or _on_purpose(left, owned, own):
        return
    left.sort(key=lambda p: -1 if p.depth is None else p.depth)
    first = left[0]
    yield Finding(
        "optim-missing-params",
        "fail",
        first.name,
        int(record.steps[0]),
        {
            **others([p.name for p in left]),
            "elements": sum(p.size for p in left),
            "share": plain(sum(p.size for p in left) / sum(p.size for p in own)),
        },
        "It gets gradients but belongs to no optimizer, so it stays as it is: hand it over, or "
        "freeze it with requires_grad_(False).\n"
        f'optimizer.add_param_group({{"params": [model.get_parameter({first.name!r})]}})',
    )


def _stray(record: Record, names: list[str]) -> Finding:
    holder = names[0].split(".")[0]
    return Finding(
        "optim-missing-params",
        "fail",
        names[0],
        int(record.steps[0]) if len(record.steps) else 0,
        {**others(names), "registered": False},
        "It gets gradients, but its layer lies in a plain list, tuple or dict, so the model does "
        "not own it, and neither optimizer nor state_dict finds it: register it.\n"
        f"self.{holder} = torch.nn.ModuleList(self.{holder})  # ModuleDict for a dict",
    )


def frozen(record: Record) -> Iterator[Finding]:
    """`optim-frozen`: weights do not move.

    The optimizer steps, the gradient is not zero, and nothing changes at all. A learning rate of 0,
    or one below what the weights' number format resolves (bfloat16 weights lose updates below 1/256
    of their value). Demanded are three recorded steps in a row up to the end, of every update
    exactly zero, by a gradient no smaller than a thousandth of its own largest (smaller is
    convergence) and of the largest of those that do move (smaller has vanished, which is another
    finding).

    When all parameters are frozen from the first step on, it is a failure; from a later step on, as
    by a schedule that ran out, a warning. When only some are, a warning too, unless they come
    before all that move (a backbone held by a rate of 0).

    Known limits: a learning rate so small that some updates still round to a change is
    `optim-lr-low`.

    Source: torch.optim.lr_scheduler, "How to adjust learning rate"; bfloat16 has 8 bits of
    precision.

    Cure: look at the learning rate while training: a scheduler stepped per batch that counts in
    epochs ends at zero; keep weights in float32 and use autocast.

        print(optimizer.param_groups[0]["lr"])
    """
    own = [p for p in parameters(record) if p.stepped.any()]
    still = [p for p in own if _still(p) >= MIN_FROZEN_STEPS]
    moving = [p for p in own if p.update.absmax[p.stepped][-1] > 0]
    still = [p for p in still if _pulls_like(p, moving)]
    if not still or (moving and _precede(still, moving)):
        return
    first = still[0]
    steps = _still(first) if moving else min(_still(p) for p in still)
    throughout = steps == first.stepped.sum()
    yield Finding(
        "optim-frozen",
        "fail" if throughout and not moving else "warn",
        first.name if moving else None,
        int(record.steps[first.stepped][-steps]),
        {
            "steps_without_change": steps,
            "gradient_norm": plain(finite(first.grad.norm)[-1]),
            "lr": _rate(record, -1),
            **others([p.name for p in still]),
        },
        "The optimizer steps but the weights do not change: its learning rate is 0, or too small "
        "for the weights' number format.\n"
        f'optimizer.param_groups[0]["lr"] = 1e-3  # or the group that holds {first.name}',
    )


def lr_high(record: Record) -> Iterator[Finding]:
    """`optim-lr-high`: steps are too large.

    Updates as large as the weights, and the loss does not fall. Measured is the norm of the update
    over the norm of the weight, the median over matrices; a rule of thumb asks for about 1e-3.
    Accused is, after at least 20 logged values of the loss, one recorded step that changes the
    weights by half; or by a tenth, if the loss then jumped by half as well; or, after 100 values, a
    median of a twentieth over five recorded steps or more.

    In all cases the loss must end at the level of guessing, or no lower than 5 % below where it
    stood before that step and at the beginning (NaN counts as no lower). Large ratios with a
    falling loss are ordinary: small first weights under Adam double at once.

    Known limits: without a logged or backpropagated scalar loss nothing is said.

    Source: Bengio 2012, "Practical Recommendations for Gradient-Based Training", 3.1; Karpathy,
    CS231n notes, "Ratio of weights:updates".

    Cure: lower the learning rate tenfold, more than once if need be.

        for group in optimizer.param_groups:
            group["lr"] *= 0.1
    """
    curve = training_loss(record)
    ratios = _ratios(parameters(record))
    step = None if curve is None or len(curve) < 20 else _shaken(record, curve, ratios)
    if curve is None or step is None:
        return
    before = curve.until(int(record.steps[step]))
    rate = _rate(record, step)
    yield Finding(
        "optim-lr-high",
        "fail",
        None,
        int(record.steps[step]),
        {
            "update_to_weight": plain(np.max(finite(ratios))),
            "lr": rate,
            "loss_before": plain(before),
            "loss_end": plain(curve.end),
        },
        "Each step replaces much of what the weights held, and the loss does not fall: lower the "
        f"learning rate tenfold, more than once if need be.\n{_set_rate(rate, 0.1)}",
    )


def lr_low(record: Record) -> Iterator[Finding]:
    """`optim-lr-low`: steps are too small.

    Updates too small to get anywhere, and the model knows no more than guessing. Accused is a
    median ratio of update to weight below 1e-5 in every matrix, over at least five recorded steps
    and 100 logged values of the loss, if the loss neither moves by more than 2 % nor leaves the
    level of guessing (within 10 % of ln C for C outputs).

    Not accused: fine-tuning (its loss is not that of guessing), warm-up (the rate rises), and
    updates of zero (`optim-frozen`).

    Known limits: a regression has no level of guessing, so there the rule is silent.

    Source: Karpathy, CS231n notes, "Ratio of weights:updates"; Smith 2017, "Cyclical Learning
    Rates", for a range test.

    Cure: raise the learning rate a hundredfold, then look again.

        for group in optimizer.param_groups:
            group["lr"] *= 100
    """
    curve = training_loss(record)
    ratio = pace(record)
    if curve is None or len(curve) < 100 or len(record.steps) < 5 or rising(record):
        return
    if not 0 < ratio < TINY or abs(curve.fallen) > 0.02 or not guesses(record, curve.end, 0.1):
        return
    rate = _rate(record, -1)
    yield Finding(
        "optim-lr-low",
        "fail",
        None,
        int(record.steps[0]),
        {
            "update_to_weight": plain(ratio),
            "lr": rate,
            "loss_start": plain(curve.start),
            "loss_end": plain(curve.end),
        },
        "The weights change by too little to learn anything in this many steps: raise the learning "
        f"rate a hundredfold, then look again.\n{_set_rate(rate, 100)}",
    )


def pace(record: Record) -> float:
    """Update over weight of the matrix that moves most, a median over recorded steps; 0 if none."""
    ratios = [finite(p.ratio) for p in parameters(record) if p.is_matrix]
    return max((float(np.median(ratio)) for ratio in ratios if len(ratio)), default=0.0)


def rising(record: Record) -> bool:
    """Whether the learning rate is still rising at the end of the record, as in a warm-up."""
    rates = _rates(record)
    return len(rates) >= 2 and rates[-1] > 1.05 * rates[len(rates) // 2]


def _on_purpose(left: list[Parameter], owned: list[Parameter], own: list[Parameter]) -> bool:
    if sum(p.size for p in owned) < CHOSEN * sum(p.size for p in own) or _precede(left, owned):
        return True
    kinds = {p.owner for p in owned if not p.is_matrix}
    return all(p.is_matrix for p in left) and {p.owner for p in left} <= kinds


def _precede(these: list[Parameter], those: list[Parameter]) -> bool:
    """Whether all of these come before all of those, in order of execution or of registration."""
    ran, after = ([p.depth for p in group if p.depth is not None] for group in (these, those))
    if ran and after and max(ran) < min(after):
        return True
    return max(p.registered for p in these) < min(p.registered for p in those)


def _still(parameter: Parameter) -> int:
    """At how many of its last steps in a row it did not move although the gradient pulled."""
    norm = np.where(parameter.pulled, parameter.grad.norm, 0.0)
    still = (parameter.update.absmax == 0) & (norm > 1e-3 * norm.max(initial=0.0))
    moves = np.flatnonzero(~still[parameter.stepped])
    return int(parameter.stepped.sum()) - (int(moves[-1]) + 1 if len(moves) else 0)


def _pulls_like(parameter: Parameter, moving: list[Parameter]) -> bool:
    pulls = [float(p.grad.rms[p.stepped][-1]) for p in moving if p.pulled[p.stepped][-1]]
    return float(parameter.grad.rms[parameter.stepped][-1]) >= 1e-3 * max(pulls, default=0.0)


def _shaken(record: Record, curve: Curve, ratios: NDArray[np.float64]) -> int | None:
    """Position of the first recorded step that was too much for the loss, or None."""
    lasting = len(curve) >= 100 and len(finite(ratios)) >= 5
    limit = RESTLESS if lasting and np.median(finite(ratios)) >= RESTLESS else JOLTED
    lost = guesses(record, curve.end)
    if curve.end < 0.95 * curve.values[0] and not lost:
        return None
    for step in np.flatnonzero(ratios >= limit):
        at = int(record.steps[step])
        before = curve.until(at)
        jumped = curve.highest_after(at) > before + 0.5 * abs(before)
        enough = ratios[step] >= SHAKEN or jumped or limit == RESTLESS
        if enough and (lost or curve.end >= before - 0.05 * abs(before)):
            return int(step)
    return None


def _ratios(own: list[Parameter]) -> NDArray[np.float64]:
    """Update over weight at each recorded step, the median over matrices; NaN where unknown."""
    table = np.array([p.ratio for p in own if p.is_matrix and p.stepped.any()])
    return np.array([np.median(finite(c)) if len(finite(c)) else np.nan for c in table.T])


def _rates(record: Record) -> list[float]:
    """The learning rate at each recorded step, the largest of all parameter groups."""
    found = [notes.get("lr") or [] for notes in record.notes]
    return [max(float(rate) for rate in rates) for rates in found if rates]


def _rate(record: Record, step: int) -> float | None:
    rates = record.notes[step].get("lr") or []
    return max(float(rate) for rate in rates) if rates else None


def _set_rate(rate: float | None, factor: float) -> str:
    change = f"*= {factor:g}" if rate is None else f"= {rate * factor:.3g}  # it was {rate:.3g}"
    return f'for group in optimizer.param_groups: group["lr"] {change}'
