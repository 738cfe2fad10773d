"""All rules together: order of cause, the verdict, the report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lampwork.diagnose import diagnose, report, verdict
from lampwork.diagnose.finding import Finding, others, plain


def codes(run) -> list[str]:
    """The codes of all findings, in their order."""
    return [finding.code for finding in diagnose(run.read())]


def test_a_healthy_record_raises_nothing(synthetic, noise):
    """Six sound layers and a falling loss pass."""
    run = synthetic().loss(np.linspace(2.3, 0.2, 100) + noise.normal(0, 0.05, 100))
    run.stack(6).output("act", run.row(units=100, dead=20), module="ReLU")
    record = run.read()
    assert diagnose(record) == []
    assert report(record)["verdict"] == "pass"


@pytest.mark.parametrize(
    ("severities", "word"),
    [([], "pass"), (["warn"], "warn"), (["warn", "fail", "warn"], "fail")],
)
def test_the_verdict_is_the_worst(severities, word):
    """One failure outweighs any number of warnings."""
    assert verdict(Finding("x", severity, None, 0) for severity in severities) == word


def test_a_record_without_a_step_is_no_error(synthetic):
    """A run without steps or tensors has nothing to say, except that its loss was NaN."""
    assert codes(synthetic(steps=0)) == []
    assert codes(synthetic(steps=5)) == []
    assert codes(synthetic(steps=0).loss([np.nan])) == ["loss-nonfinite"]


def test_bare_records_raise_no_error(synthetic):
    """Tensors without rows, a single step and notes that lack every key are all readable."""
    run = synthetic(steps=1)
    run.layer("a", output=None, gradient=None, weight=None, grad=None, update=None)
    run.layer("b")
    for notes in run._notes:
        notes.clear()
    assert codes(run) == []


def test_the_vanishing_signal_stands_before_the_vanishing_gradient(synthetic):
    """Mend the first weights, and the gradient follows."""
    run = synthetic().loss([2.3] * 250)
    run.stack(
        8,
        output=lambda i: run.row(0.05**i, units=10),
        gradient=lambda i: run.row(0.05 ** (7 - i)),
        update=lambda i: run.row(1e-3),
    )
    assert codes(run) == ["init-vanishing", "grad-vanishing", "loss-flat"]


def nan_from(run, step: int, **columns):
    """Outputs that are sound before a step, and from it on have these columns."""
    good = run.row(units=10)
    return [good if i < step else run.row(units=10, **columns) for i in range(run.steps)]


def test_the_output_stands_before_the_loss_that_it_spoils(synthetic):
    """A NaN in the loss never hides the module that gave it."""
    run = synthetic(steps=4).loss([2.0] * 15 + [np.nan] * 25)
    run.layer("a", output=nan_from(run, 2, nan=1))
    assert codes(run) == ["act-nonfinite", "loss-nonfinite"]


def test_a_gradient_that_was_spoiled_first_stands_first(synthetic):
    """NaN in a gradient at one step is the cause of NaN in all outputs at the next."""
    run = synthetic(steps=4).loss([2.0] * 15 + [np.nan] * 25)
    update = [run.row(1e-4), run.row(1e-4, nan=3), run.row(0, nan=3), run.row(0, nan=3)]
    weight = [run.row(0.1), run.row(0.1), run.row(0, nan=3), run.row(0, nan=3)]
    run.layer(
        "a", output=nan_from(run, 2, nan=1), grad=nan_from(run, 1, nan=3),
        update=update, weight=weight,
    )  # fmt: skip
    assert codes(run) == ["grad-nonfinite", "act-nonfinite", "loss-nonfinite"]


def test_a_learning_rate_stands_before_what_it_kills(synthetic):
    """Units that died after a step that was too large have it as their cause."""
    run = synthetic(steps=8).loss([2.0, 90.0] + [4.6] * 78)
    run.layer("a", update=[run.row(0.2)] + [run.row(1e-4)] * 7)
    alive, dead = run.row(units=100), run.row(units=100, dead=95)
    run.output("relu", [alive] * 2 + [dead] * 6, module="ReLU")
    assert codes(run) == ["optim-lr-high", "act-dead"]


def test_an_exploding_gradient_stands_before_the_steps_that_it_enlarges(synthetic):
    """Where gradients grow over the depth from the first step on, the rate is not to blame."""
    run = synthetic(steps=4).loss([2.0] * 15 + [np.nan] * 25)
    updates = [run.row(0.2)] + [run.row(1e-4)] * 3
    run.stack(
        8,
        gradient=lambda i: run.row(10.0 ** (7 - i)),
        output=lambda i: nan_from(run, 2, nan=1),
        update=lambda i: updates,
    )
    assert codes(run) == ["grad-exploding", "optim-lr-high", "act-nonfinite", "loss-nonfinite"]


def test_units_that_were_dead_before_stand_before_the_learning_rate(synthetic):
    """The same, but dead from the first step: then the large step did not kill them."""
    run = synthetic(steps=8).loss([2.0, 90.0] + [4.6] * 78)
    run.layer("a", update=[run.row(0.2)] + [run.row(1e-4)] * 7)
    run.output("relu", run.row(units=100, dead=95), module="ReLU")
    assert codes(run) == ["act-dead", "optim-lr-high"]


def test_the_report_is_strict_json(synthetic):
    """No NaN and no infinity in it, keys as promised, and it comes back as it was."""
    run = synthetic(steps=4).loss([np.inf] * 15 + [np.nan] * 25)
    run.layer("a", output=nan_from(run, 2, nan=1), weight=nan_from(run, 2, posinf=9))
    told = report(run.read())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["schema"] == 1
    assert told["run"] == run.folder.name
    assert told["verdict"] == "fail"
    for finding in told["findings"]:
        assert set(finding) == {"code", "severity", "where", "step", "evidence", "advice"}
        assert len(finding["advice"].splitlines()) == 2


def test_numbers_of_evidence_are_plain():
    """Four digits, Python's own types, and words for what JSON has no number for."""
    assert plain(np.float64(0.123456)) == 0.1235
    assert type(plain(np.float32(1))) is float
    assert plain(np.inf) == "inf"
    assert plain(np.nan) == "nan"


def test_many_places_are_one_finding():
    """The first is named elsewhere; of the others five are listed and all counted."""
    assert others(["a"]) == {"count": 1}
    assert others([*"abcdefgh"]) == {"count": 8, "also": [*"bcdef"]}


def test_a_spoiled_loss_stands_before_the_weights_that_it_spoils(synthetic):
    """Where all weights are NaN at the next recorded step, no module there is the origin."""
    run = synthetic(steps=4).loss([2.0] * 15 + [np.nan] * 25)
    weight = [run.row(0.1), run.row(0.1), run.row(0, nan=3), run.row(0, nan=3)]
    run.layer("a", output=nan_from(run, 2, nan=1), weight=weight)
    assert codes(run) == ["loss-nonfinite", "act-nonfinite"]


def test_a_loss_without_a_bottom_stands_before_the_steps_that_it_enlarges(synthetic):
    """No learning rate is low enough for a loss that has no minimum."""
    run = synthetic(steps=8).loss(-(1.3 ** np.arange(80.0)))
    run.layer("a", update=[run.row(1e-4)] * 4 + [run.row(0.9)] * 4)
    assert codes(run)[0] == "loss-diverging"
    gentle = synthetic(steps=8).loss(-np.linspace(0, 50, 80))
    gentle.layer("a", update=[run.row(1e-4)] * 8)
    assert codes(gentle) == []
