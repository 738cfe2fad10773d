"""Findings about the optimizer, on both sides of each limit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lampwork.diagnose import optimiser
from lampwork.diagnose.finding import Finding

LEFT_OUT = {"optimized": False, "update": None}


def only(findings) -> Finding:
    """The one finding there is."""
    (finding,) = findings
    return finding


def test_a_layer_behind_the_owned_ones_is_missing(synthetic):
    """The first parameter that is left out is named, the others are counted."""
    run = synthetic(steps=2).layer("a").layer("b", **LEFT_OUT)
    run.parameter("b.bias", shape=(100,), **LEFT_OUT)
    finding = only(optimiser.missing_params(run.read()))
    assert (finding.code, finding.severity) == ("optim-missing-params", "fail")
    assert finding.where == "b.weight"
    assert finding.evidence == {"count": 2, "also": ["b.bias"], "elements": 10100, "share": 0.5025}
    assert "add_param_group" in finding.advice
    assert "b.weight" in finding.advice


def test_a_layer_in_the_middle_is_missing(synthetic):
    """What is left out between owned layers was forgotten."""
    run = synthetic(steps=2).layer("a").layer("b", **LEFT_OUT).layer("c")
    assert only(optimiser.missing_params(run.read())).where == "b.weight"


def test_one_recorded_step_does_not_show_what_is_missing(synthetic):
    """Two are needed to see that nothing moves it."""
    run = synthetic(steps=1).layer("a").layer("b", **LEFT_OUT)
    assert not [*optimiser.missing_params(run.read())]


def test_a_backbone_left_out_is_fine(synthetic):
    """All that is left out comes before all that is owned."""
    run = synthetic().layer("a", **LEFT_OUT).layer("b", **LEFT_OUT).layer("head")
    assert not [*optimiser.missing_params(run.read())]


def test_a_backbone_registered_after_its_head_is_fine(synthetic):
    """Order of execution counts, where registration tells another."""
    run = synthetic()
    for name in ("backbone", "head"):
        run.output(name, run.row(units=100))
    run.parameter("head.weight").parameter("backbone.weight", **LEFT_OUT)
    assert not [*optimiser.missing_params(run.read())]


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("frozen", {"requires_grad": False}),
        ("no gradient", {"grad": None}),
        ("zero gradient", {"grad": 0.0}),
        ("another optimizer moves it", {"weight": [0.1, 0.2]}),
    ],
)
def test_parameters_that_need_no_optimizer_are_fine(synthetic, case, options):
    """What is frozen, without gradient, or moved between recorded steps is not missing."""
    run = synthetic(steps=2)
    for kind in ("grad", "weight"):
        if isinstance(options.get(kind), float):
            options[kind] = run.row(options[kind])
        elif isinstance(options.get(kind), list):
            options[kind] = [run.row(rms) for rms in options[kind]]
    run.layer("a").layer("b", **{**LEFT_OUT, **options})
    assert not [*optimiser.missing_params(run.read())], case


def test_biases_alone_are_a_choice(synthetic):
    """Training the biases of every layer and leaving the matrices is a method."""
    run = synthetic()
    for name in "abc":
        run.layer(name, **LEFT_OUT).parameter(f"{name}.bias", shape=(1000,))
    assert not [*optimiser.missing_params(run.read())]


@pytest.mark.parametrize(("rank", "accused"), [(4, 0), (20, 1)])
def test_adapters_are_a_choice(synthetic, rank, accused):
    """An optimizer of less than a twentieth of the model was given that on purpose."""
    run = synthetic()
    run.layer("a").parameter("b.lora", shape=(1, rank)).layer("c", shape=(200, 200), **LEFT_OUT)
    run = synthetic()
    run.layer("first", shape=(100, rank)).layer("b", shape=(100, 100), **LEFT_OUT)
    assert len([*optimiser.missing_params(run.read())]) == accused


def test_a_model_of_which_nothing_is_owned_is_left_alone(synthetic):
    """The optimizer may train the input, as in style transfer."""
    run = synthetic().layer("a", **LEFT_OUT).layer("b", **LEFT_OUT)
    assert not [*optimiser.missing_params(run.read())]


def still(run, steps: int, moves: int = 0):
    """Updates of zero, after so many that are not."""
    return [run.row(1e-4)] * moves + [run.row(0)] * (steps - moves)


def test_updates_of_zero_are_frozen(synthetic):
    """All parameters, from the first step: a failure of the run as a whole."""
    run = synthetic(steps=3).notes(lr=[[0.0]] * 3)
    run.layer("a", update=still(run, 3)).layer("b", update=still(run, 3))
    finding = only(optimiser.frozen(run.read()))
    assert (finding.code, finding.severity, finding.where) == ("optim-frozen", "fail", None)
    assert finding.evidence["steps_without_change"] == 3
    assert finding.evidence["lr"] == 0.0
    assert finding.evidence["count"] == 2


def test_two_steps_without_change_are_not_frozen(synthetic):
    """A warm-up begins at 0, and a schedule may end there."""
    run = synthetic(steps=10)
    assert not [*optimiser.frozen(run.layer("a", update=still(run, 10, moves=8)).read())]


def test_a_schedule_that_ran_out_is_a_warning(synthetic):
    """Training that stands still from some step on wastes time."""
    run = synthetic(steps=10)
    finding = only(optimiser.frozen(run.layer("a", update=still(run, 10, moves=6)).read()))
    assert (finding.severity, finding.where, finding.step) == ("warn", None, 60)


def test_a_group_at_rest_behind_the_others_is_a_warning(synthetic):
    """Some parameters stand still while others move: the first of them is named."""
    run = synthetic(steps=4)
    run.layer("a").layer("b", update=still(run, 4))
    finding = only(optimiser.frozen(run.read()))
    assert (finding.severity, finding.where) == ("warn", "b.weight")


def test_a_backbone_at_rest_is_fine(synthetic):
    """A learning rate of 0 for what comes first is one way to freeze it."""
    run = synthetic(steps=4)
    run.layer("a", update=still(run, 4)).layer("b")
    assert not [*optimiser.frozen(run.read())]


@pytest.mark.parametrize("grad", [0.0, 1e-9])
def test_without_a_gradient_to_speak_of_nothing_is_frozen(synthetic, grad):
    """Dead layers and vanished gradients are other findings."""
    run = synthetic(steps=4)
    run.layer("a").layer("b", update=still(run, 4), grad=run.row(grad))
    assert not [*optimiser.frozen(run.read())]


def test_convergence_is_not_frozen(synthetic):
    """An optimizer that stops at the minimum has gradients a thousand times smaller than before."""
    run = synthetic(steps=8)
    grads = [run.row(0.1)] * 3 + [run.row(1e-6)] * 5
    run.layer("a", update=still(run, 8, moves=3), grad=grads)
    assert not [*optimiser.frozen(run.read())]


def pushed(synthetic, ratios, values, units=100):
    """One layer of weights of norm 1 (per element 0.1), moved by these ratios."""
    run = synthetic(steps=len(ratios))
    rows = [run.row(0.1 * ratio) for ratio in ratios]
    return run.layer("a", output=run.row(units=units), update=rows).loss(values)


@pytest.mark.parametrize(
    ("case", "ratios", "values", "accused"),
    [
        ("half of the weight", [0.6, 0.01], [9.0] * 20, True),
        ("less", [0.4, 0.01], [9.0] * 20, False),
        ("less, but the loss jumps", [0.2, 0.01], [9.0, 20.0, *[9.0] * 18], True),
        ("a twentieth, and a jump", [0.05, 0.01], [9.0, 20.0, *[9.0] * 18], False),
        ("then NaN", [0.6, 0.01], [9.0] * 5 + [np.nan] * 15, True),
        ("half, and the loss falls", [0.6, 0.01], np.linspace(9, 5, 20), False),
        ("half, and few values", [0.6, 0.01], [9.0] * 19, False),
        ("lasting", [0.06] * 5, [9.0] * 100, True),
        ("lasting, and short", [0.06] * 5, [9.0] * 99, False),
        ("lasting, less", [0.04] * 5, [9.0] * 100, False),
        ("back at guessing", [0.6, 0.01], [9.0] * 10 + [math.log(100)] * 10, True),
    ],
)
def test_too_much_of_a_step_shows_in_weights_and_loss(synthetic, case, ratios, values, accused):
    """Large updates are accused only together with a loss that does not fall."""
    found = [*optimiser.lr_high(pushed(synthetic, ratios, values).read())]
    assert bool(found) is accused, case
    if found:
        assert (found[0].code, found[0].severity, found[0].where) == ("optim-lr-high", "fail", None)
        assert found[0].evidence["update_to_weight"] == pytest.approx(max(ratios))
        assert 'group["lr"] = 0.01  # it was 0.1' in found[0].advice


def test_without_a_loss_no_learning_rate_is_accused(synthetic):
    """Whether updates are too large or too small only the loss can tell."""
    record = pushed(synthetic, [0.9] * 5, []).read()
    assert not [*optimiser.lr_high(record), *optimiser.lr_low(record)]


@pytest.mark.parametrize(
    ("case", "ratio", "values", "accused"),
    [
        ("tiny", 9e-6, [4.6] * 100, True),
        ("small", 2e-5, [4.6] * 100, False),
        ("few values", 9e-6, [4.6] * 99, False),
        ("fine-tuning", 9e-6, [0.3] * 100, False),
        ("it falls", 9e-6, np.linspace(4.7, 4.5, 100), False),
        ("no update at all", 0.0, [4.6] * 100, False),
    ],
)
def test_too_little_of_a_step_shows_in_a_loss_at_guessing(synthetic, case, ratio, values, accused):
    """Tiny updates are accused only where the loss stays at guessing."""
    found = [*optimiser.lr_low(pushed(synthetic, [ratio] * 5, values).read())]
    assert bool(found) is accused, case
    if found:
        assert (found[0].code, found[0].where) == ("optim-lr-low", None)
        assert 'group["lr"] = 10  # it was 0.1' in found[0].advice


def test_one_matrix_that_moves_clears_the_learning_rate(synthetic):
    """Where the last layer moves and the others do not, the gradient is to blame."""
    run = pushed(synthetic, [1e-7] * 5, [4.6] * 100)
    run.layer("head", output=run.row(units=100))
    assert not [*optimiser.lr_low(run.read())]


def test_warm_up_is_not_too_slow(synthetic):
    """A learning rate that still rises is on its way."""
    run = pushed(synthetic, [1e-7] * 5, [4.6] * 100).notes(lr=[[1e-6 * i] for i in range(5)])
    assert not [*optimiser.lr_low(run.read())]
