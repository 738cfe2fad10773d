"""Findings about the first weights, on both sides of each limit."""

from __future__ import annotations

import numpy as np
import pytest

from lampwork.diagnose import init
from lampwork.diagnose.finding import Finding


def only(findings) -> Finding:
    """The one finding there is."""
    (finding,) = findings
    return finding


def constant(synthetic, value: float):
    """The row of a weight that is this value throughout."""
    return synthetic.row(abs(value), min=value, max=value)


def test_a_constant_weight_is_symmetric(synthetic):
    """A weight of one value is named, and others like it are counted."""
    run = synthetic()
    run.layer("a").layer("b", weight=constant(run, 0.5)).layer("c", weight=constant(run, -0.5))
    finding = only(init.symmetric(run.read()))
    assert (finding.code, finding.severity, finding.step) == ("init-symmetric", "fail", 0)
    assert finding.where == "b.weight"
    assert finding.evidence == {"value": 0.5, "count": 2, "also": ["c.weight"]}
    assert "xavier_uniform_(model.get_parameter('b.weight'))" in finding.advice.splitlines()[1]


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("nearly constant", {"weight": {"min": 0.5, "max": 0.5001}}),
        ("zero", {"weight": {"min": 0.0, "max": 0.0}}),
        ("frozen", {"requires_grad": False}),
        ("a vector", {"shape": (1, 1, 100)}),
        ("a normalisation over images", {"module": "LayerNorm", "shape": (8, 4, 4)}),
        ("gains by class", {"module": "ConditionalEmbedding"}),
        ("depthwise", {"module": "Conv2d", "shape": (8, 1, 3, 3)}),
    ],
)
def test_constants_on_purpose_are_not_symmetric(synthetic, case, options):
    """Only what maps one space to another must not be constant."""
    run = synthetic().layer("first")
    ends = options.pop("weight", {"min": 0.5, "max": 0.5})
    run.layer("b", weight=run.row(0.5, **ends), **options)
    assert not [*init.symmetric(run.read())], case


def test_a_constant_first_convolution_of_a_grey_image_is_symmetric(synthetic):
    """One input channel makes a convolution depthwise only behind another layer."""
    run = synthetic()
    run.layer("c", module="Conv2d", shape=(8, 1, 3, 3), weight=constant(run, 0.1))
    assert only(init.symmetric(run.read())).where == "c.weight"


def test_an_elementwise_gain_of_an_unknown_module_is_not_symmetric(synthetic):
    """A matrix of ones in a module that nobody knows is accused only if it is called a weight."""
    run = synthetic().layer("first")
    run.parameter("m.gain", module="Mine", weight=constant(run, 1.0))
    assert not [*init.symmetric(run.read())]
    run = synthetic().layer("first")
    run.parameter("m.weight", module="Mine", weight=constant(run, 1.0))
    assert only(init.symmetric(run.read())).where == "m.weight"


def test_zeros_without_a_gradient_are_stuck(synthetic):
    """A zero matrix that gets zero gradients and stays zero is named."""
    run = synthetic(steps=3)
    run.layer("a").layer("b", weight=run.row(0), grad=run.row(0), update=run.row(0))
    finding = only(init.zero(run.read()))
    assert (finding.code, finding.severity, finding.where) == ("init-zero", "fail", "b.weight")
    assert finding.evidence == {"largest_gradient": 0.0, "count": 1}


@pytest.mark.parametrize(
    ("case", "steps", "options"),
    [
        ("a gradient", 3, {"grad": 1e-9}),
        ("two steps only", 2, {}),
        ("it moves", 3, {"weight": [0, 0, 1e-9]}),
        ("a vector", 3, {"shape": (100,)}),
        ("frozen", 3, {"requires_grad": False}),
        ("no gradient at all", 3, {"grad": None}),
        ("no optimizer", 3, {"update": None, "optimized": False}),
    ],
)
def test_zeros_that_can_leave_are_fine(synthetic, case, steps, options):
    """LoRA's second matrix, a residual branch that starts closed, a head: the gradient comes."""
    run = synthetic(steps=steps)
    rows = {"weight": 0, "grad": 0, "update": 0} | options
    for kind in ("weight", "grad", "update"):
        value = rows[kind]
        if isinstance(value, list):
            rows[kind] = [run.row(rms) for rms in value]
        elif value is not None:
            rows[kind] = run.row(value)
    run.layer("a").layer("b", **rows)
    assert not [*init.zero(run.read())], case


def fading(synthetic, factor: float, layers: int = 8, **options):
    """Outputs that change by `factor` a layer."""
    run = synthetic(**options)
    return run.stack(layers, output=lambda i: run.row(factor**i, units=10))


def test_a_signal_that_fades_by_the_same_factor_is_vanishing(synthetic):
    """Six layers of a tenth and less are named where the first power of ten is gone."""
    finding = only(init.vanishing(fading(synthetic, 0.09).read()))
    assert (finding.code, finding.severity, finding.where) == ("init-vanishing", "fail", "1")
    assert finding.evidence["first"] == "0"
    assert finding.evidence["last"] == "6"
    assert finding.evidence["layers"] == 7
    assert finding.evidence["ratio"] == pytest.approx(0.09**6, rel=1e-3)
    assert "1" in finding.advice.splitlines()[1]


def test_what_the_default_does_is_not_vanishing(synthetic):
    """0.41 a layer over fifteen layers stays below the limit as long as nothing more is known."""
    assert not [*init.vanishing(fading(synthetic, 0.41, layers=15).read())]


def test_a_flat_loss_lowers_the_limit(synthetic):
    """The same fading is accused once a hundred values of the loss have not fallen."""
    run = fading(synthetic, 0.41, layers=15).loss([2.3] * 100)
    assert only(init.vanishing(run.read())).severity == "fail"
    run = fading(synthetic, 0.41, layers=15).loss([2.3] * 99)
    assert not [*init.vanishing(run.read())]


def test_a_falling_loss_acquits(synthetic):
    """A model that learns nevertheless is not accused of fading."""
    run = fading(synthetic, 0.05).loss(np.linspace(2.3, 1.0, 50))
    assert not [*init.vanishing(run.read())]


def test_three_layers_have_no_depth(synthetic):
    """Four weighted layers are needed, of which the last does not count."""
    assert not [*init.vanishing(fading(synthetic, 1e-5, layers=3).read())]
    assert [*init.vanishing(fading(synthetic, 1e-5, layers=4).read())]


def test_layers_that_are_zero_on_purpose_are_left_out(synthetic):
    """A branch that starts closed gives zeros, and the layers around it are judged without it."""
    run = synthetic()
    for i in range(8):
        closed = run.row(0)
        scale = run.row(0.05**i)
        run.layer(f"{i}.a", output=scale).layer(f"{i}.b", output=closed, weight=run.row(0))
    assert only(init.vanishing(run.read())).evidence["layers"] == 7


def test_a_signal_that_grows_is_exploding(synthetic):
    """Four powers of ten over the depth are a failure."""
    finding = only(init.exploding(fading(synthetic, 6.0).read()))
    assert (finding.code, finding.severity, finding.where) == ("init-exploding", "fail", "2")
    assert not [*init.exploding(fading(synthetic, 4.0).read())]


def test_a_loss_far_above_guessing_lowers_the_limit_of_growth(synthetic):
    """A hundredfold growth is accused where the first loss is five times that of guessing."""
    assert [*init.exploding(fading(synthetic, 2.5).loss([12.0] * 5).read())]
    assert not [*init.exploding(fading(synthetic, 2.5).loss([11.0] * 5).read())]


def test_knowledge_acquits_of_growth(synthetic):
    """A loss that ends below guessing shows that the growth did no harm; a mere fall does not."""
    assert not [*init.exploding(fading(synthetic, 9.0).loss([50.0] * 10 + [1.0] * 10).read())]
    assert [*init.exploding(fading(synthetic, 9.0).loss([1e6] * 10 + [1e3] * 10).read())]
