from __future__ import annotations

import numpy as np
import pytest

from lampwork.view.depth import (
    MOST_LABELS,
    activation_spread,
    gradient_flow,
    short,
    update_ratio,
)

LAYERS = [f"layers.{i}" for i in range(6)]


def rms(array):
    """Root mean square."""
    return np.sqrt(np.mean(np.asarray(array) ** 2))


def lines(axes):
    """The lines of the axes by label."""
    return {line.get_label(): line for line in axes.get_lines()}


def names(axes):
    """The names on the depth axis."""
    return [label.get_text() for label in axes.get_xticklabels()]


def test_gradient_flow_draws_the_rms_of_each_weight_in_order_of_execution(mlp):
    """One line per step holds the rms of the weights' gradients, first executed layer first."""
    axes = gradient_flow(mlp.read()).axes[0]
    assert names(axes) == LAYERS
    found = lines(axes)
    assert list(found) == ["step 0", "step 10", "step 20", "step 30"]
    for step in (0, 10, 20, 30):
        expected = [rms(mlp.arrays["grad", f"{name}.weight", step]) for name in LAYERS]
        np.testing.assert_allclose(found[f"step {step}"].get_ydata(), expected)
    assert axes.get_yscale() == "log"


def test_update_ratio_divides_the_update_by_the_weight(mlp):
    """The ratio is rms of update by rms of weight, with the usual 1e-3 as a guide."""
    axes = update_ratio(mlp.read()).axes[0]
    found = lines(axes)
    np.testing.assert_array_equal(found["guide 1e-3"].get_ydata(), [1e-3, 1e-3])
    expected = [
        rms(mlp.arrays["update", f"{name}.weight", 30])
        / rms(mlp.arrays["weight", f"{name}.weight", 30])
        for name in LAYERS
    ]
    np.testing.assert_allclose(found["step 30"].get_ydata(), expected)
    low, high = axes.get_ylim()
    assert low < 1e-3 < high


def test_activation_spread_shows_rms_and_mean_at_first_and_last_step(mlp):
    """The upper axes hold the rms, the lower ones the mean, of all outputs but the root's."""
    upper, lower = activation_spread(mlp.read()).axes
    order = [f"{kind}.{i}" for i in range(6) for kind in ("layers", "relus")]
    assert names(lower) == order
    found = lines(upper)
    assert list(found) == ["step 0", "step 30"]
    for step, line in zip((0, 30), lower.get_lines(), strict=True):
        arrays = [mlp.arrays["output", name, step] for name in order]
        np.testing.assert_allclose(found[f"step {step}"].get_ydata(), [rms(a) for a in arrays])
        np.testing.assert_allclose(line.get_ydata(), [a.mean() for a in arrays])
    last = mlp.arrays["output", "relus.5", 30]
    edges = lower.collections[-1].get_paths()[0].vertices
    at_last = edges[edges[:, 0] == len(order) - 1, 1]
    assert at_last.max() == pytest.approx(last.mean() + last.std())
    assert at_last.min() == pytest.approx(last.mean() - last.std())


def test_a_gradient_of_zero_and_one_with_nan_are_marked(build):
    """What has no place on a logarithmic axis is marked at the edge, above its layer."""
    made = build()
    for i, values in enumerate([[[1.0, 2.0]], [[0.0, 0.0]], [[np.nan, 1.0]], [[np.inf, np.nan]]]):
        made.add("grad", f"l{i}.weight", 0, np.array(values))
    found = lines(gradient_flow(made.read()).axes[0])
    assert list(found["zero"].get_xdata()) == [1]
    assert list(found["NaN or inf"].get_xdata()) == [2, 3]
    np.testing.assert_allclose(
        found["step 0"].get_ydata(), [np.sqrt(2.5), np.nan, 1.0, np.nan], equal_nan=True
    )


def test_a_layer_without_gradient_leaves_a_gap(build):
    """A weight that got no gradient at a step has no dot there."""
    made = build()
    for step in (0, 10):
        made.add("grad", "a.weight", step, np.ones((2, 2)))
    made.add("grad", "b.weight", 10, np.ones((2, 2)))
    found = lines(gradient_flow(made.read()).axes[0])
    np.testing.assert_array_equal(found["step 0"].get_ydata(), [1.0, np.nan])
    np.testing.assert_array_equal(found["step 10"].get_ydata(), [1.0, 1.0])


def test_only_a_few_steps_are_drawn_with_the_first_and_the_last(build):
    """Of 50 recorded steps five become lines."""
    made = build()
    for step in range(50):
        made.add("grad", "a.weight", step, np.ones((2, 2)))
    found = list(lines(gradient_flow(made.read()).axes[0]))
    assert (found[0], found[-1], len(found)) == ("step 0", "step 49", 5)


@pytest.mark.parametrize("count", [MOST_LABELS, MOST_LABELS + 1, 500])
def test_names_are_thinned_beyond_forty_layers(build, count):
    """Up to 40 layers all are named; beyond, evenly fewer, and all are drawn."""
    made = build()
    for i in range(count):
        made.add("grad", f"l{i}.weight", 0, np.ones((2, 2)))
    axes = gradient_flow(made.read()).axes[0]
    ticks = axes.get_xticks()
    assert len(ticks) <= MOST_LABELS
    assert len(set(np.diff(ticks))) == 1
    assert names(axes)[1] == f"l{ticks[1]}"
    assert len(lines(axes)["step 0"].get_ydata()) == count


def test_parameters_of_children_that_do_not_run_stand_with_their_parent(build):
    """Attention's projection, which is never called, has the depth of the attention around it."""
    made = build()
    for name in ("embed", "attn", "head"):
        made.add("output", name, 0, np.ones(3))
    for name in ("head.weight", "attn.out_proj.weight", "embed.parametrizations.weight.original0"):
        made.add("grad", name, 0, np.ones((2, 2)))
    axes = gradient_flow(made.read()).axes[0]
    assert [name[:5] for name in names(axes)] == ["embed", "attn.", "head"]


@pytest.mark.parametrize("draw", [gradient_flow, update_ratio, activation_spread])
def test_an_empty_record_gives_no_figure(build, draw):
    """Without a recorded step, or with tensors that were announced only, there is nothing."""
    assert draw(build().read()) is None


def test_a_long_name_loses_its_middle():
    """The ends of a dotted name tell most: `encoder.la…self_attn.out_proj`."""
    assert short("a.weight") == "a"
    name = short("encoder.layers.11.self_attn.out_proj.weight")
    assert len(name) == 30
    assert name.startswith("encoder.la…")
    assert name.endswith("self_attn.out_proj")
