"""Histograms over time."""

import numpy as np

from lampwork.view.histograms import histograms


def test_a_column_holds_the_shares_of_its_step(build):
    """Each cell is the share of a step's non-zero elements of that magnitude."""
    made = build()
    for step, values in ((0, [1, 1.5, 0, 4]), (10, [0.5, 5, 6, 7])):
        made.add("output", "a", step, np.array(values))
    (axes,) = histograms(made.read()).axes
    (mesh,) = axes.collections
    shares = np.ma.filled(mesh.get_array(), 0.0)
    edges = mesh.get_coordinates()[:, 0, 1]
    np.testing.assert_allclose(edges, np.log10(2.0 ** np.arange(-2, 5)))
    np.testing.assert_allclose(
        shares, [[0, 0], [0, 1 / 4], [2 / 3, 0], [0, 0], [1 / 3, 3 / 4], [0, 0]]
    )


def test_rows_are_outputs_gradients_and_weights(mlp):
    """Up to four layers each, the first and the last among them."""
    axes = histograms(mlp.read()).axes
    titles = [a.get_title("left") for a in axes if a.get_title("left")]
    assert titles[0] == "layers.0"
    assert "relus.5" in titles
    assert len(titles) == 8


def test_one_step_or_only_zeros_make_no_figure(build):
    """There is nothing to follow in a single step, nor in a tensor that is zero."""
    made, other = build("one"), build("zeros")
    made.add("output", "a", 0, np.ones(3))
    for step in (0, 1):
        other.add("output", "a", step, np.zeros(3))
    assert histograms(made.read()) is None
    assert histograms(other.read()) is None
