"""Findings about gradients, on both sides of each limit."""

from __future__ import annotations

import numpy as np
import pytest

from lampwork.diagnose import gradient
from lampwork.diagnose.finding import Finding


def only(findings) -> Finding:
    """The one finding there is."""
    (finding,) = findings
    return finding


def fading(run, factor: float, layers: int = 8):
    """Gradients that change by `factor` a layer on their way down."""
    last = layers - 1
    return run.stack(layers, gradient=lambda i: run.row(1e-2 * factor ** (last - i)))


def test_a_gradient_that_fades_little_by_little_is_vanishing(synthetic):
    """The first layer is named, with the norms at both ends and where a tenth was left."""
    finding = only(gradient.vanishing(fading(synthetic(), 0.09).read()))
    assert (finding.code, finding.severity, finding.where) == ("grad-vanishing", "fail", "0")
    assert finding.evidence["last"] == "6"
    assert finding.evidence["begins"] == "5"
    assert finding.evidence["ratio"] == pytest.approx(0.09**6, rel=1e-3)


def test_three_recorded_steps_are_needed_for_a_drift_of_the_gradient(synthetic):
    """Two steps may be an accident."""
    assert not [*gradient.vanishing(fading(synthetic(steps=2), 0.01).read())]
    assert [*gradient.vanishing(fading(synthetic(steps=3), 0.01).read())]


def test_one_step_is_no_drift_of_the_gradient(synthetic):
    """Judged is the median over the steps, so a single bad one does not count."""
    run = synthetic(steps=5)
    fine, faint = run.row(1e-2), [run.row(1e-2 * 0.01**i) for i in range(8)]
    run.stack(8, gradient=lambda i: [faint[7 - i], fine, fine, fine, fine])
    assert not [*gradient.vanishing(run.read())]


def test_a_dead_layer_is_no_drift_of_the_gradient(synthetic):
    """Gradients that stop at one layer did not fade."""
    run = synthetic()
    run.stack(8, gradient=lambda i: run.row(0 if i < 4 else 1e-2))
    assert not [*gradient.vanishing(run.read())]


def test_a_falling_loss_acquits_small_gradients(synthetic):
    """An adaptive optimizer trains with gradients of any size."""
    run = fading(synthetic(), 0.05).loss(np.linspace(2.3, 1.5, 60))
    assert not [*gradient.vanishing(run.read())]


def test_a_gradient_that_grows_over_the_depth_is_exploding(synthetic):
    """The gradient at the first layer is 1e4 times and more that at the last hidden one."""
    finding = only(gradient.exploding(fading(synthetic(), 5.0).read()))
    assert (finding.code, finding.where) == ("grad-exploding", "0")
    assert not [*gradient.exploding(fading(synthetic(), 4.0).read())]


@pytest.mark.parametrize(("growth", "accused"), [(0.9e4, 0), (2e4, 1)])
def test_a_gradient_that_grows_in_time_is_exploding(synthetic, growth, accused):
    """The norm of all gradients must stay 1e4 times above that of the first third."""
    run = synthetic(steps=9)
    rows = [run.row(1e-3)] * 6 + [run.row(1e-3 * growth)] * 3
    run.layer("rnn", grad=rows).layer("head", grad=run.row(1e-4))
    found = [*gradient.exploding(run.read())]
    assert len(found) == accused
    if found:
        assert found[0].where == "rnn.weight"
        assert found[0].step == 60
        assert "clip_grad_norm_" in found[0].advice


def test_growth_with_a_falling_loss_is_fine(synthetic):
    """Gradients that grow while the model learns are its own affair."""
    run = synthetic(steps=9).loss(np.linspace(100, 50, 90))
    run.layer("a", grad=[run.row(1e-3)] * 6 + [run.row(1e2)] * 3)
    assert not [*gradient.exploding(run.read())]


def spoiled_gradient(run, *, update=0.0, later=0.0):
    """Three layers whose gradients have NaN at the second step, with or without damage."""
    bad, good = run.row(1e-2, nan=4), run.row(1e-2)
    grads = [good, bad, good]
    run.layer("a", grad=grads, gradient=[good, bad, good])
    run.layer("b", grad=grads, gradient=[good, bad, good])
    run.layer(
        "c", update=[run.row(1e-4), run.row(1e-4, nan=update), run.row(1e-4)],
        weight=[run.row(0.1), run.row(0.1), run.row(0.1, nan=later)],
        grad=grads,
    )  # fmt: skip
    return run


@pytest.mark.parametrize("damage", [{"update": 1.0}, {"later": 1.0}])
def test_a_spoiled_gradient_names_the_deepest_place(synthetic, damage):
    """Backward met it first in the deepest layer, whose own weight got it."""
    finding = only(gradient.nonfinite(spoiled_gradient(synthetic(steps=3), **damage).read()))
    assert (finding.code, finding.severity) == ("grad-nonfinite", "fail")
    assert (finding.where, finding.step) == ("c.weight", 10)
    assert finding.evidence["parameters"] == 3


def test_the_gradient_of_an_output_is_nearer_to_the_cause(synthetic):
    """Where the gradient of a deeper module's output is spoiled, that module is named."""
    run = spoiled_gradient(synthetic(steps=3), update=1.0)
    good = run.row(1e-3)
    for kind, rows in (("output", good), ("grad_output", [good, run.row(nan=1), good])):
        run.tensor(kind, "norm", rows, module="Norm", root=False)
    assert only(gradient.nonfinite(run.read())).where == "norm"


def test_an_overflow_that_the_scaler_skips_is_fine(synthetic):
    """Infinite gradients at one step, and nothing spoiled after it, are mixed precision at work."""
    assert not [*gradient.nonfinite(spoiled_gradient(synthetic(steps=3)).read())]


def test_gradients_after_spoiled_outputs_are_explained(synthetic):
    """Where an output was NaN first, the gradient is no finding of its own."""
    run = spoiled_gradient(synthetic(steps=3), update=1.0)
    run.output("log", [run.row(), run.row(nan=1), run.row()], module="Log")
    assert not [*gradient.nonfinite(run.read())]


def cut(run, **options):
    """Two layers of which the second gets no gradient."""
    return run.layer("a").layer("b", grad=None, gradient=None, update=run.row(0), **options)


def test_a_layer_that_runs_without_gradient_is_cut_off(synthetic):
    """Two recorded steps prove that nothing comes back to a layer that runs."""
    finding = only(gradient.missing(cut(synthetic(steps=2)).read()))
    assert (finding.code, finding.severity, finding.where) == ("grad-none", "fail", "b.weight")
    assert finding.evidence == {"recorded_steps": 2, "runs": True, "count": 1}
    assert "detach()" in finding.advice
    assert not [*gradient.missing(cut(synthetic(steps=1)).read())]


@pytest.mark.parametrize(("steps", "accused"), [(2, 0), (3, 1)])
def test_a_parameter_that_never_runs_is_a_warning(synthetic, steps, accused):
    """Dead weight is worth a word after three recorded steps."""
    run = synthetic(steps=steps).layer("a")
    run.parameter("pooler.weight", grad=None, update=run.row(0))
    found = [*gradient.missing(run.read())]
    assert [f.severity for f in found] == ["warn"] * accused
    if found:
        assert "requires_grad_(False)" in found[0].advice


@pytest.mark.parametrize(("steps", "accused"), [(19, 0), (20, 1)])
def test_layers_that_chance_may_drop_get_time(synthetic, steps, accused):
    """One of several like layers is accused after twenty recorded steps only."""
    run = synthetic(steps=steps).layer("layers.0.fc")
    run.parameter("layers.1.fc.weight", grad=None, update=run.row(0))
    assert len([*gradient.missing(run.read())]) == accused


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("frozen", {"requires_grad": False}),
        ("no optimizer", {"optimized": False, "update": None}),
        ("trained in between", {"weight": [0.1, 0.2, 0.3]}),
    ],
)
def test_parameters_that_need_no_gradient_here_are_fine(synthetic, case, options):
    """What is frozen, unowned or stepped between the recorded steps is not accused."""
    run = synthetic(steps=3)
    if "weight" in options:
        options["weight"] = [run.row(rms) for rms in options["weight"]]
    run.layer("a").layer("b", **{"grad": None, "gradient": None, **options})
    assert not [*gradient.missing(run.read())], case


def test_a_starved_expert_is_not_accused(synthetic):
    """A router may leave an expert of a mixture alone for long."""
    run = synthetic(steps=30).layer("experts.0.fc")
    run.parameter("experts.1.fc.weight", grad=None, update=run.row(0))
    assert not [*gradient.missing(run.read())]


@pytest.mark.parametrize(
    ("stale", "accused"),
    [
        ([False, True, True, True], 1),
        ([False, True, True, False, False], 1),
        ([True, False, False, False], 0),
        ([True, True, False, False], 0),
        ([False, True, True, False, False, False], 0),
    ],
)
def test_gradients_that_are_never_cleared_pile_up(synthetic, stale, accused):
    """At least two stale steps, half of all but the first; the first may hold what came before."""
    run = synthetic(steps=len(stale)).layer("a").notes(stale_gradient=stale)
    found = [*gradient.accumulating(run.read())]
    assert [f.code for f in found] == ["grad-accumulating"] * accused
    if found:
        assert found[0].step == 10
        assert found[0].evidence["stale_steps"] == sum(stale[1:])
        assert "optimizer.zero_grad()" in found[0].advice


def test_two_optimizers_in_turn_are_not_accused_of_piling_up(synthetic):
    """In a GAN one pass runs through the parameters of the other optimizer."""
    run = synthetic(steps=4).notes(stale_gradient=True)
    row = run.row(1e-4)
    run.layer("g", update=[row, None, row, None]).layer("d", update=[None, row, None, row])
    assert not [*gradient.accumulating(run.read())]


def test_a_recurrent_gradient_that_dwarfs_its_matrix_is_told(synthetic):
    """It grows through time, not depth; an ordinary one passes, and so does another module."""

    def found(module: str, name: str, rms: float) -> list[str]:
        run = synthetic().loss([2.3] * 90)
        run.parameter(name, module=module, grad=run.row(rms))
        return [one.code for one in gradient.exploding(run.read())]

    assert found("RNN", "rnn.weight_hh_l0", 1e6) == ["grad-exploding"]
    assert found("RNN", "rnn.weight_hh_l0", 10.0) == []
    assert found("Linear", "rnn.weight_hh_l0", 1e6) == []


def test_a_spoiled_gradient_is_not_told_where_the_loss_was_spoiled_before(synthetic):
    """A loss that is NaN while all outputs are finite spoils every gradient, and is the cause."""
    rows = [synthetic().row(0.01)] + [synthetic().row(nan=3)] * 4
    sound = synthetic(steps=5).loss([2.0] * 41).parameter("a.weight", grad=rows, update=rows)
    lost = synthetic(steps=5).loss([2.0] * 10 + [float("nan")] * 31)
    lost.parameter("a.weight", grad=rows, update=rows)
    assert [one.code for one in gradient.nonfinite(sound.read())] == ["grad-nonfinite"]
    assert [*gradient.nonfinite(lost.read())] == []
