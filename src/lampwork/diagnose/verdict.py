"""All rules over one record, in the order of cause, and the one word that they come to.

The order of cause is that of a training step: data, weights, mode, wiring of the optimizer,
outputs, gradients, learning rate, loss. Two things turn it round, both by the evidence of time: a
learning rate that was already too high when outputs or gradients went wrong stands before them,
and a gradient that went wrong before an output or a step did stands before those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from lampwork.diagnose import (
    activation,
    batches,
    collapse,
    data,
    gradient,
    init,
    loss,
    mode,
    optimiser,
    saturation,
)
from lampwork.diagnose.curve import training_loss
from lampwork.diagnose.finding import Finding, plain
from lampwork.diagnose.limit import within_limit
from lampwork.record.reader import Record

Verdict = Literal["pass", "warn", "fail"]
Rule = Callable[[Record], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    data.worker_died,
    batches.nonfinite,
    batches.repeated,
    batches.single_class,
    batches.not_shuffled,
    batches.unscaled,
    loss.double_softmax,
    loss.broadcast,
    init.symmetric,
    init.zero,
    init.exploding,
    init.vanishing,
    mode.eval_in_training,
    optimiser.missing_params,
    gradient.missing,
    optimiser.frozen,
    gradient.accumulating,
    activation.nonfinite,
    activation.dead,
    saturation.saturated,
    collapse.collapsed,
    gradient.nonfinite,
    gradient.exploding,
    gradient.vanishing,
    init.loss_high,
    optimiser.lr_high,
    optimiser.lr_low,
    loss.nonfinite,
    loss.diverging,
    loss.flat,
    # These cost time or measure wrongly, and keep no model from learning.
    data.slow_handover,
    data.starved,
    mode.train_in_validation,
)
"""Every rule, causes before what they cause."""

_WITHOUT_STEPS: tuple[Rule, ...] = (
    data.worker_died,
    data.slow_handover,
    data.starved,
    loss.nonfinite,
)

_CAUSES = (
    ("grad-nonfinite", {"act-nonfinite"}),
    ("optim-lr-high", {"act-nonfinite", "act-dead", "grad-nonfinite", "grad-exploding"}),
    ("grad-exploding", {"act-nonfinite"}),
    ("act-collapsed", {"act-dead"}),
    ("init-loss-high", {"act-dead", "act-nonfinite", "grad-nonfinite"}),
    ("loss-diverging", {"act-nonfinite", "grad-nonfinite", "loss-nonfinite"}),
)
"""What stands before what, against the order of `RULES`, if it showed at an earlier step."""


def diagnose(record: Record) -> list[Finding]:
    """What is wrong with a run, the finding to mend first standing first; empty if nothing is.

    A code appears once: its finding names the first place and counts the others.
    """
    if not len(record.steps):
        return [finding for rule in _WITHOUT_STEPS for finding in rule(record)]
    return _by_cause([finding for rule in RULES for finding in rule(record)])


def verdict(findings: Iterable[Finding]) -> Verdict:
    """The worst of the findings: `pass` without any, `fail` if one is a failure, else `warn`."""
    severities = {finding.severity for finding in findings}
    return "fail" if "fail" in severities else "warn" if severities else "pass"


def report(record: Record, findings: Sequence[Finding] | None = None) -> dict[str, Any]:
    """The verdict as JSON types: `schema`, `run`, `verdict`, `findings`, and what it rests on.

    It is at most `limit.LIMIT_BYTES` long.

    Args:
        record: the run.
        findings: what `diagnose` gave for it, where that is known already.
    """
    findings = diagnose(record) if findings is None else findings
    told = {
        "schema": 1,
        "run": record.path.name,
        "verdict": verdict(findings),
        "findings": [finding.as_json() for finding in findings],
        "model": record.meta.get("model"),
        "steps": record.meta.get("steps"),
        "recorded_steps": len(record.steps),
        "finished": bool(record.meta.get("finished")),
        "loss": _loss(record),
    }
    return within_limit(told)


def _loss(record: Record) -> dict[str, Any] | None:
    curve = training_loss(record)
    if curve is None:
        return None
    return {"name": curve.name, "start": plain(curve.start), "end": plain(curve.end)}


def _by_cause(findings: Sequence[Finding]) -> list[Finding]:
    ordered = list(findings)
    of = {finding.code: finding for finding in findings}
    for code, effects in _CAUSES:
        if code in of:
            _put_before(
                ordered, of[code], {e for e in effects & of.keys() if of[code].step < of[e].step}
            )
    faded, collapsed = of.get("grad-vanishing"), of.get("act-collapsed")
    if faded is not None and collapsed is not None and faded.step <= collapsed.step:
        # A chain that no gradient comes back through lets no difference through either.
        _put_before(ordered, faded, {"act-collapsed"})
    rate, growth = of.get("optim-lr-high"), of.get("grad-exploding")
    if rate is not None and growth is not None and growth.step <= rate.step:
        _put_before(ordered, growth, {"optim-lr-high"})  # what made its steps so large
    spoiled = of.get("act-nonfinite")
    if spoiled is not None and spoiled.evidence["weights_nonfinite"] and "grad-nonfinite" not in of:
        # The module is only the first with such weights; the loss was there before them.
        lost = of.get("loss-nonfinite")
        if lost is not None and lost.step < spoiled.step:
            _put_before(ordered, lost, {"act-nonfinite"})
    bottomless = of.get("loss-diverging")
    if rate is not None and bottomless is not None and "lowest" in bottomless.evidence:
        _put_before(ordered, bottomless, {"optim-lr-high"})  # no rate is low enough for it
    return ordered


def _put_before(ordered: list[Finding], cause: Finding, effects: set[str]) -> None:
    at = min((i for i, f in enumerate(ordered) if f.code in effects), default=len(ordered))
    if at < ordered.index(cause):
        ordered.remove(cause)
        ordered.insert(at, cause)
