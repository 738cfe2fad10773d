"""Findings about outputs: dead units and values that are no numbers."""

from __future__ import annotations

import numpy as np
import pytest

from lampwork.diagnose import activation
from lampwork.diagnose.finding import Finding


def only(findings) -> Finding:
    """The one finding there is."""
    (finding,) = findings
    return finding


def relu_after(run, rows, module="ReLU"):
    """A hidden layer, its activation with these rows, and a head."""
    return run.layer("fc").output("act", rows, module=module).layer("head")


def dead_row(run, dead: float, **options):
    """An output of 100 channels of which so many are dead."""
    return run.row(units=100, dead=dead, **options)


def test_nine_of_ten_dead_units_are_a_failure(synthetic):
    """The ReLU is named with its share, the layer before it, and the step from which it held."""
    run = synthetic(steps=8)
    rows = [dead_row(run, 20)] * 3 + [dead_row(run, 92)] * 5
    finding = only(activation.dead(relu_after(run, rows).read()))
    assert (finding.code, finding.severity, finding.where) == ("act-dead", "fail", "act")
    assert finding.step == 30
    assert finding.evidence == {"dead_share": 0.92, "units": 100, "layer": "fc", "count": 1}
    assert "torch.nn.init.zeros_(model.get_submodule('fc').bias)" in finding.advice


@pytest.mark.parametrize(
    ("case", "steps", "last"),
    [
        ("below the limit", 8, {"dead": 89}),
        ("too few recorded steps", 4, {"dead": 100}),
        ("too few samples", 8, {"dead": 92, "count": 2500}),
        ("too few units", 8, {"dead": 7, "units": 7}),
    ],
)
def test_fewer_dead_units_are_ordinary(synthetic, case, steps, last):
    """Below nine of ten, in short runs, tiny layers and small batches nothing is said."""
    run = synthetic(steps=steps)
    row = run.row(**{"units": 100, "count": 6400, **last})
    assert not [*activation.dead(relu_after(run, row).read())], case


def test_a_layer_that_is_dead_to_the_last_unit_needs_few_samples(synthetic):
    """Batches of one suffice where every unit is silent."""
    run = synthetic(steps=5)
    assert only(activation.dead(relu_after(run, dead_row(run, 100, count=100)).read()))


def test_a_layer_that_revives_is_fine(synthetic):
    """What was dead at first and speaks at the end is not accused."""
    run = synthetic(steps=8)
    rows = [dead_row(run, 100)] * 7 + [dead_row(run, 10)]
    assert not [*activation.dead(relu_after(run, rows).read())]


@pytest.mark.parametrize("module", ["Dropout", "Embedding", "LeakyReLU", "PReLU", "GELU", "Linear"])
def test_only_relus_die(synthetic, module):
    """Zeros of dropout, sparse embeddings and functions without a dead zone are no deaths."""
    run = synthetic()
    assert not [*activation.dead(relu_after(run, dead_row(run, 100), module).read())]


def test_the_layer_that_died_first_is_named(synthetic):
    """A deeper layer that was dead before stands for all."""
    run = synthetic(steps=8)
    run.layer("a").output("late", [dead_row(run, 0)] * 3 + [dead_row(run, 95)] * 5, module="ReLU")
    run.layer("b").output("early", dead_row(run, 95), module="ReLU6")
    finding = only(activation.dead(run.read()))
    assert finding.where == "early"
    assert finding.evidence["also"] == ["late"]


def test_death_after_a_nan_is_no_finding_of_its_own(synthetic):
    """Units that fall silent once values are NaN have no cause of their own."""
    run = synthetic(steps=8)
    run.layer("a", output=[run.row(units=100)] * 2 + [run.row(units=100, nan=3)] * 6)
    run.output("act", [dead_row(run, 0)] * 2 + [dead_row(run, 100)] * 6, module="ReLU")
    assert not [*activation.dead(run.read())]


def functional(run, **output):
    """Two layers with a function between them, the first with zero gradients."""
    row = run.row(units=100, **output)
    return run.layer("fc", output=row, grad=run.row(0), update=run.row(0)).layer("head")


def test_a_dead_functional_relu_is_seen_in_the_layer_before_it(synthetic):
    """Outputs that are never positive, and no gradient: what follows is dead."""
    run = synthetic()
    finding = only(activation.dead(functional(run, max=-1).read()))
    assert (finding.where, finding.evidence["dead_share"]) == ("fc", 1.0)


def test_a_layer_without_gradient_but_with_positive_outputs_is_not_dead(synthetic):
    """Something further on may be dead; this layer is not accused for it."""
    run = synthetic()
    assert not [*activation.dead(functional(run, max=0.1).read())]


@pytest.mark.parametrize(
    ("share", "mean", "accused"), [(0.85, -0.5, 0), (0.95, -0.5, 1), (1.0, -0.5, 0), (0.95, 0.1, 0)]
)
def test_a_bias_without_gradient_tells_of_dead_units(synthetic, share, mean, accused):
    """Nine of ten elements without gradient are dead, unless all starve or tanh saturates."""
    run = synthetic()
    run.layer("fc", output=run.row(units=100, sum=6400 * mean))
    grad = run.row(0.01, count=100, zeros=100 * share)
    run.parameter("fc.bias", shape=(100,), grad=grad).layer("head")
    assert len([*activation.dead(run.read())]) == accused


def test_the_shift_of_a_normalisation_is_named_as_the_layer(synthetic):
    """Advice goes to what stands right before the ReLU."""
    run = synthetic().layer("conv", module="Conv2d").output("bn", synthetic().row())
    run.parameter("bn.bias", shape=(100,), module="BatchNorm2d")
    run.output("act", dead_row(run, 100), module="ReLU")
    assert only(activation.dead(run.read())).evidence["layer"] == "bn"


def test_the_last_layer_does_not_die(synthetic):
    """Classes that do not occur get no gradient, and that is no death."""
    run = synthetic()
    run.layer("fc").layer("head", output=run.row(units=100, sum=-3200))
    run.parameter("head.bias", shape=(100,), grad=run.row(0.01, count=100, zeros=95))
    assert not [*activation.dead(run.read())]


def test_the_first_module_of_the_first_step_is_named(synthetic):
    """Not where the loss became NaN, and not a shallower module that caught it a step later."""
    run = synthetic(steps=4)
    good, bad = run.row(units=100), run.row(units=100, nan=7, count=6400)
    run.layer("a", output=[good, good, good, bad])
    run.output("log", [good, good, bad, bad], module="Log")
    run.layer("b", output=[good, good, bad, bad]).output("", [good, good, bad, bad], module="Net")
    finding = only(activation.nonfinite(run.read()))
    assert (finding.code, finding.where, finding.step) == ("act-nonfinite", "log", 20)
    assert finding.evidence["module"] == "Log"
    assert finding.evidence["nonfinite"] == 7
    assert finding.evidence["weights_nonfinite"] == 0


def test_the_call_is_named(synthetic):
    """A module that is called twice and fails the second time says so."""
    run = synthetic(steps=2)
    run.output("div", run.row(), module="Div").output("div", run.row(posinf=1), call=2)
    finding = only(activation.nonfinite(run.read()))
    assert (finding.where, finding.evidence["call"]) == ("div", 2)


def test_an_operation_outside_of_modules_names_the_run(synthetic):
    """NaN that only the whole model puts out comes from its own forward."""
    run = synthetic(steps=2)
    run.layer("a").output("", run.row(nan=1), module="Net")
    assert only(activation.nonfinite(run.read())).where is None


def test_spoiled_weights_are_told_apart(synthetic):
    """Where weights were NaN before the step, the advice is to record each step."""
    run = synthetic(steps=2)
    run.layer("a", output=[run.row(), run.row(nan=5)], weight=[run.row(), run.row(nan=5)])
    finding = only(activation.nonfinite(run.read()))
    assert finding.evidence["weights_nonfinite"] == 1
    assert "every=1" in finding.advice


def test_a_mask_of_minus_infinity_is_fine(synthetic):
    """Attention masks put out minus infinity; as long as all else is finite nothing is wrong."""
    run = synthetic(steps=3).loss([2.0] * 30)
    run.layer("a").output("mask", run.row(neginf=50), module="Mask").layer("b")
    assert not [*activation.nonfinite(run.read())]


def test_a_mask_is_not_blamed_for_a_nan_elsewhere(synthetic):
    """The mask that has always been there is passed over for the module that is new."""
    run = synthetic(steps=3)
    run.output("mask", run.row(neginf=50), module="Mask")
    run.output("norm", [run.row(), run.row(), run.row(nan=1)], module="Norm")
    finding = only(activation.nonfinite(run.read()))
    assert (finding.where, finding.step) == ("norm", 20)


def test_minus_infinity_that_spoils_the_loss_is_a_fault(synthetic):
    """A logarithm of zero is the first fault where the loss is infinite at that step."""
    run = synthetic(steps=3).loss([2.0] * 20 + [np.inf] * 10)
    run.layer("a").output("log", [run.row(), run.row(), run.row(neginf=1)], module="Log")
    finding = only(activation.nonfinite(run.read()))
    assert (finding.where, finding.step) == ("log", 20)
