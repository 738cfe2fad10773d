"""Findings about the loss: silent where none was logged. They tell that, the others tell why."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lampwork.diagnose.criterion import criteria
from lampwork.diagnose.curve import Curve, guesses, guessing, training_loss
from lampwork.diagnose.finding import Finding, plain
from lampwork.diagnose.layers import parameters, take_turns
from lampwork.diagnose.optimiser import pace, rising
from lampwork.record.reader import Record

RUN_AWAY = 10.0
"""How many times its start a loss must end at."""
MIN_VALUES = 20
FLAT_VALUES = 200
"""Logged values before a loss may be called diverging, and flat."""
BOTTOMLESS = 1e4
"""A loss is without a lower bound when it ends so many times its first value below zero."""
TRIED = 0.3
"""How far, in norms of the weight, the liveliest matrix must have been moved."""


def double_softmax(record: Record) -> Iterator[Finding]:
    """`loss-double-softmax`: probabilities go into a loss that takes logits.

    `cross_entropy` computes the softmax itself, `binary_cross_entropy_with_logits` the sigmoid
    (torch.nn.CrossEntropyLoss, "input is expected to contain the unnormalized logits"). What comes
    out of a second one lies between 1/(C - 1 + e) and e/(C - 1 + e), so the loss cannot come near
    0 and gradients are small. Read off autograd's graph just before the backward pass of recorded
    steps: a softmax (or sigmoid) whose result reaches the loss unchanged but for shape and type.

    Named is the module of that function; no place, where it was called outright.

    Not accused: `log_softmax` before `cross_entropy`, which changes nothing the second time, and
    probabilities that are scaled before they go in.

    Known limits: under torch.compile there is no such graph to read.

    Source: torch.nn.CrossEntropyLoss; Karpathy 2018, "most common neural net mistakes", the fourth.

    Cure: give the loss the output of the last layer.

        loss = torch.nn.functional.cross_entropy(logits, target)  # no softmax before it
    """
    for step, criterion in criteria(record):
        if not criterion.get("squashed"):
            continue
        function, name = criterion["squashed"], criterion["name"]
        taker = "cross_entropy" if function == "softmax" else "binary_cross_entropy_with_logits"
        yield Finding(
            "loss-double-softmax",
            "fail",
            criterion.get("at"),
            step,
            {"function": function, "loss": name, "classes": criterion.get("classes", 2)},
            f"{taker} applies the {function} itself, and what it gets has been through one "
            "already: give it the output of the last layer.\n"
            f"loss = F.{taker}(logits, target)  # no {function} before it",
        )
        return


def broadcast(record: Record) -> Iterator[Finding]:
    """`loss-broadcast`: input and target of a loss have shapes that stretch each other.

    (N, 1) against (N,) gives (N, N): each output is compared with the targets of all samples, and
    the best that can be learnt is their mean (torch warns of it in `mse_loss` and its kin,
    pytorch/pytorch issue 16045; not where the difference is written out). Accused is a loss whose
    input and target were both enlarged, read off autograd's graph at recorded steps.

    Not accused: a target that alone is stretched, as in quantile regression, pairs made on
    purpose with `unsqueeze` or `[:, None]`, and losses of two outputs.

    Known limits: under torch.compile there is no such graph to read.

    Source: torch.nn.MSELoss; pytorch/pytorch issue 16045.

    Cure: give output and target one shape.

        loss = torch.nn.functional.mse_loss(output.view_as(target), target)
    """
    for step, criterion in criteria(record):
        if not criterion.get("broadcast"):
            continue
        given, wanted, result = (list(sides) for sides in criterion["broadcast"])
        yield Finding(
            "loss-broadcast",
            "fail",
            None,
            step,
            {"input_shape": given, "target_shape": wanted, "compared_shape": result},
            f"An output of shape {_shape(given)} and a target of shape {_shape(wanted)} are "
            f"stretched to {_shape(result)}, each sample against all others: give both one shape.\n"
            "loss = F.mse_loss(output.view_as(target), target)",
        )
        return


def nonfinite(record: Record) -> Iterator[Finding]:
    """`loss-nonfinite`: the loss is NaN or infinite.

    The loss is NaN or infinite. A failure where the last value is still so; a warning where it
    recovered, as after a batch whose every label is ignored.

    Known limits: only a scalar that backward() is called on, or that is logged as a loss, is seen.

    Source: torch.autograd.set_detect_anomaly.

    Cure: find the first operation that spoils it; use losses that work on logits, which are stable.

        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    """
    curve = training_loss(record)
    if curve is None or np.isfinite(curve.values).all():
        return
    bad = ~np.isfinite(curve.values)
    first = int(np.argmax(bad))
    yield Finding(
        "loss-nonfinite",
        "fail" if bad[-1] else "warn",
        None,
        int(curve.steps[first]),
        {
            "value": str(curve.values[first]),
            "values": int(bad.sum()),
            "of": len(curve),
            "before": plain(curve.values[first - 1]) if first else None,
        },
        f"{curve.name} is no number any more: find the first operation that spoils it, in forward "
        f"or backward.\n{_search(record, int(curve.steps[first]))}",
    )


def _search(record: Record, step: int) -> str:
    """The line of code that finds what spoiled the loss."""
    if step in record.steps or not len(record.steps):
        return "torch.autograd.set_detect_anomaly(True)  # for a few steps, it is slow"
    return (
        f"lampwork.watch(model, every=1)  # or lampwork run --every 1: names the module, at {step}"
    )


def diverging(record: Record) -> Iterator[Finding]:
    """`loss-diverging`: the loss grows.

    The loss ends ten times above its start, and does not come back. Judged by medians (see
    `curve.Curve`) of at least 20 values. A loss that may be negative has no "ten times": what
    counts then is ten times the spread of its first values. Adversarial and annealed losses rise
    severalfold in good health, hence ten, and hence not a second time from the top: a loss that has
    come down to less than half of its highest fifth is silent, since a change of task looks like
    that. A loss that grew a thousandfold and then overflowed is named here, too, and so is one that
    falls, ever faster, ten thousand times its first value below zero: it has no minimum. Silent
    where optimizers take turns, each with its loss.

    Known limits: a loss that may be negative is judged by its first values' spread.

    Source: LeCun et al. 1998, "Efficient BackProp", 4.7, on the largest stable rate.

    Cure: lower the learning rate and clip the gradients.

        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()
    """
    curve = training_loss(record)
    if curve is None or take_turns(parameters(record)):
        return
    sound = np.isfinite(curve.values)
    if _bottomless(curve.values[sound]):
        yield _without_bound(curve)
    elif sound.all() and len(curve) >= MIN_VALUES:
        yield from _growing(curve)
    elif _overflows(curve.values):
        start, last = float(curve.values[0]), float(curve.values[sound][-1])
        yield _run_away(curve, start + (RUN_AWAY - 1) * abs(start), {"highest": plain(last)})


def _growing(curve: Curve) -> Iterator[Finding]:
    early = curve.values[: max(5, len(curve) // 10)]
    scale = max(abs(curve.start), float(np.ptp(early)))
    top = max(float(np.median(part)) for part in np.array_split(curve.values, 5))
    if curve.end - curve.start > (RUN_AWAY - 1) * scale and curve.end >= 0.5 * top:
        yield _run_away(curve, curve.start + (RUN_AWAY - 1) * scale, {"highest": plain(top)})


def _run_away(curve: Curve, limit: float, evidence: dict[str, float | str]) -> Finding:
    return Finding(
        "loss-diverging",
        "fail",
        None,
        int(curve.steps[np.argmax(curve.values > limit)]),
        {"start": plain(curve.start), "end": plain(curve.end), **evidence},
        f"{curve.name} runs away instead of falling: lower the learning rate and clip the "
        "gradients.\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()",
    )


def _without_bound(curve: Curve) -> Finding:
    values = np.where(np.isfinite(curve.values), curve.values, np.inf)
    begun = values < -RUN_AWAY * max(abs(float(curve.values[0])), 1.0)
    return Finding(
        "loss-diverging",
        "fail",
        None,
        int(curve.steps[np.argmax(begun)]),
        {"start": plain(curve.start), "end": plain(curve.end), "lowest": plain(values.min())},
        f"{curve.name} has no lower bound, so nothing but ever larger outputs is learnt: give "
        "nll_loss log-probabilities, and mind the sign of a loss of your own.\n"
        "loss = F.cross_entropy(logits, target)  # or F.nll_loss(F.log_softmax(logits, 1), target)",
    )


def _bottomless(values: NDArray[np.float64]) -> bool:
    """Whether a loss ends far below zero, and falls the faster the lower it is."""
    if len(values) < MIN_VALUES:
        return False
    first, middle, last = (float(np.median(part)) for part in np.array_split(values, 3))
    scale = max(abs(float(values[0])), 1.0)
    return float(values[-1]) < -BOTTOMLESS * scale and first - middle < middle - last


def _overflows(values: NDArray[np.float64]) -> bool:
    """Whether the loss grew a thousandfold, the last three times in a row, until it was inf."""
    bad = ~np.isfinite(values)
    grown = values[: int(np.argmax(bad))] if bad.any() and bad[-1] else values[:0]
    return bool(
        len(grown) >= 5
        and (np.diff(grown[-4:]) > 0).all()
        and grown[-1] > 1e3 * max(abs(float(grown[0])), 1e-3)
    )


def flat(record: Record) -> Iterator[Finding]:
    """`loss-flat`: the loss does not fall.

    The loss stands where guessing would leave it. That is ln C for C outputs, within 10 %. Accused
    after 200 values, if the loss has fallen by less than 2 % or to no less than that level, its
    second half shows no fall that stands out of its noise (slope below three standard errors), and
    there was time: the matrix that moves most has been moved by 0.3 of its norm, adding up all
    updates, or not at all; or it does fall, but after 300 values and 0.9 of the norm is still
    within 2 % of guessing. Accused after 20 values, too, if all are the same to six digits. While
    the learning rate still rises nothing is said, nor where the noise of the loss blurs it (a
    standard error above 0.3 % of it, as in batches of one), nor where optimizers take turns: a GAN
    in balance stands at ln 2.

    Known limits: a regression has no level of guessing, and classes of unequal frequency lower it;
    both are then silent. Problems with a long plateau before the first progress (parity, saturating
    deep networks) may be accused on it.

    Source: Karpathy 2019, "A Recipe for Training Neural Networks", "overfit one batch".

    Cure: see whether the model can learn eight examples by heart; if it can, look at whether labels
    belong to their inputs.

        x, y = x[:8], y[:8]  # train on these alone: the loss must go to 0
    """
    curve = training_loss(record)
    if curve is None or not _judged(record, curve):
        return
    if rising(record) or not guesses(record, curve.end, 0.1):
        return
    level = min(guessing(record), key=lambda level: abs(level - curve.end))
    if not _constant(curve) and not _stands(curve, level, pace(record)):
        return
    yield Finding(
        "loss-flat",
        "fail",
        None,
        int(curve.steps[0]),
        {
            "start": plain(curve.start),
            "end": plain(curve.end),
            "guessing": plain(level),
            "values": len(curve),
        },
        f"{curve.name} has not left the level of guessing: see whether the model can learn eight "
        "examples by heart, and if not, whether labels, loss and learning rate are meant so.\n"
        "x, y = x[:8], y[:8]  # train on these alone: the loss must go to 0",
    )


def _shape(sides: list[int]) -> str:
    return str(tuple(sides))


def _judged(record: Record, curve: Curve) -> bool:
    """Whether the curve is long enough, of numbers, and one game rather than that of two."""
    if len(curve) < MIN_VALUES or not np.isfinite(curve.values).all():
        return False
    return not take_turns(parameters(record))


def _constant(curve: Curve) -> bool:
    return bool(np.ptp(curve.values) <= 1e-6 * abs(curve.start))


def _stands(curve: Curve, level: float, pace: float) -> bool:
    """Whether enough was seen, and tried, to say that the loss does not fall."""
    if len(curve) < FLAT_VALUES or 0 < pace < TRIED / len(curve):
        return False
    last = curve.values[-(len(curve) // 5) :]
    blurred = np.std(last) / np.sqrt(len(last)) > 0.003 * level
    fallen = curve.fallen > 0.02 and curve.end < 0.98 * level
    # Learning by heart what cannot be learnt is a fall, too, but one that gets nowhere.
    tried_hard = len(curve) >= 1.5 * FLAT_VALUES and pace >= 3 * TRIED / len(curve)
    nowhere = tried_hard and curve.end > 0.98 * level
    return not (blurred or fallen) and (nowhere or not _falls(curve.values[len(curve) // 2 :]))


def _falls(values: NDArray[np.float64]) -> bool:
    """Whether a straight line through the values falls by more than three standard errors."""
    time = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(time @ values) / float(time @ time)
    rest = values - values.mean() - slope * time
    error = float(np.sqrt(rest @ rest / (len(values) - 2) / (time @ time)))
    return slope < -3 * error
