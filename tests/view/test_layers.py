from __future__ import annotations

import numpy as np
import pytest

from lampwork.view.layers import table


def test_a_row_holds_the_numbers_of_the_last_step(mlp):
    """Mean, spread, zeros, dead channels, gradient and update are those of step 30."""
    rows = {row.label: row for row in table(mlp.read())}
    assert list(rows)[:3] == ["layers.0", "relus.0", "layers.1"]
    relu, linear = rows["relus.4"], rows["layers.4"]
    output = mlp.arrays["output", "relus.4", 30]
    assert (relu.module, relu.grad_rms, relu.update_ratio) == ("ReLU", None, None)
    assert relu.mean == pytest.approx(output.mean())
    assert relu.std == pytest.approx(output.std())
    assert relu.zero_share == pytest.approx((output == 0).mean())
    assert relu.dead_share == pytest.approx(1 / 5)
    grad, update, weight = (
        np.sqrt(np.mean(mlp.arrays[kind, "layers.4.weight", 30] ** 2))
        for kind in ("grad", "update", "weight")
    )
    assert linear.grad_rms == pytest.approx(grad)
    assert linear.update_ratio == pytest.approx(update / weight)


def test_calls_and_parts_have_rows_of_their_own(build):
    """A module called twice has two rows; its weight stands in the first."""
    made = build()
    made.add("output", "lstm", 0, np.ones((2, 2)))
    made.add("output", "lstm", 0, np.ones((2, 2)), part=1)
    made.add("output", "lstm", 0, np.ones((2, 2)), call=2)
    made.add("weight", "lstm.weight_hh_l0", 0, np.ones((2, 2)))
    made.add("grad", "lstm.weight_hh_l0", 0, np.full((2, 2), 3.0))
    rows = table(made.read())
    assert [row.label for row in rows] == ["lstm", "lstm[1]", "lstm#2"]
    assert [row.grad_rms for row in rows] == [3.0, None, None]


def test_weights_whose_module_is_never_called_come_last(build):
    """A weight that another module uses has a row without output, under its own name."""
    made = build()
    made.add("weight", "attn.out_proj.weight", 0, np.ones((2, 2)), module="Linear")
    made.add("output", "attn", 0, np.ones((2, 2)))
    labels = [(row.label, row.mean) for row in table(made.read())]
    assert labels == [("attn", 1.0), ("attn.out_proj.weight", None)]


def test_what_was_not_seen_at_the_last_step_is_none(build):
    """A layer that was last seen earlier keeps its row, without numbers."""
    made = build()
    made.add("output", "a", 0, np.ones(3))
    made.add("output", "b", 10, np.ones(3))
    assert [row.mean for row in table(made.read())] == [None, 1.0]


def test_a_layer_of_nan_says_so(build):
    """Where no element is finite the mean is NaN, which is not the same as not seen."""
    made = build()
    made.add("output", "a", 0, np.array([np.nan, np.inf]))
    (row,) = table(made.read())
    assert np.isnan(row.mean)
    assert row.dead_share is None


def test_an_empty_record_has_no_layers(build):
    """Without a recorded step there is no table."""
    assert table(build().read()) == []
