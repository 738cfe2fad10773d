"""All rules over one record, in the order of cause, and the one word that they come to.

The order of cause is that of a training step: data, weights, mode, wiring of the optimizer,
outputs, gradients, learning rate, loss. Two things turn it round, both by the evidence of time: a
learning rate that was already too high when outputs or gradients went wrong stands before them,
and a gradient that was spoiled before any output stands before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from lampwork.diagnose import activation, data, gradient, init, loss, mode, optimiser
from lampwork.diagnose.curve import training_loss
from lampwork.diagnose.finding import Finding, plain
from lampwork.record.reader import Record

Verdict = Literal["pass", "warn", "fail"]
Rule = Callable[[Record], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    data.starved,
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
    gradient.nonfinite,
    gradient.exploding,
    gradient.vanishing,
    optimiser.lr_high,
    optimiser.lr_low,
    loss.nonfinite,
    loss.diverging,
    loss.flat,
)
"""Every rule, causes before what they cause."""

_OF_LR = {"act-nonfinite", "act-dead", "grad-nonfinite", "grad-exploding"}


def diagnose(record: Record) -> list[Finding]:
    """What is wrong with a run, the finding to mend first standing first; empty if nothing is.

    A code appears once: its finding names the first place and counts the others.
    """
    if not len(record.steps):
        return [*data.starved(record), *loss.nonfinite(record)]
    return _by_cause([finding for rule in RULES for finding in rule(record)])


def verdict(findings: Iterable[Finding]) -> Verdict:
    """The worst of the findings: `pass` without any, `fail` if one is a failure, else `warn`."""
    severities = {finding.severity for finding in findings}
    return "fail" if "fail" in severities else "warn" if severities else "pass"


def report(record: Record) -> dict[str, Any]:
    """The verdict as JSON types: `schema`, `run`, `verdict`, `findings`, and what it rests on."""
    findings = diagnose(record)
    return {
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


def _loss(record: Record) -> dict[str, Any] | None:
    curve = training_loss(record)
    if curve is None:
        return None
    return {"name": curve.name, "start": plain(curve.start), "end": plain(curve.end)}


def _by_cause(findings: Sequence[Finding]) -> list[Finding]:
    ordered = list(findings)
    first = {finding.code: finding for finding in reversed(ordered)}
    rate, spoiled = first.get("optim-lr-high"), first.get("grad-nonfinite")
    outputs = first.get("act-nonfinite")
    if spoiled is not None and outputs is not None and spoiled.step < outputs.step:
        _put_before(ordered, spoiled, {"act-nonfinite"})
    if rate is not None:
        later = {f.code for f in ordered if f.code in _OF_LR and f.step > rate.step}
        _put_before(ordered, rate, later)
    return ordered


def _put_before(ordered: list[Finding], cause: Finding, effects: set[str]) -> None:
    at = min((i for i, f in enumerate(ordered) if f.code in effects), default=None)
    if at is not None and at < ordered.index(cause):
        ordered.remove(cause)
        ordered.insert(at, cause)
