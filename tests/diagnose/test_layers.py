"""The model as the rules see it."""

from __future__ import annotations

import pytest

from lampwork.diagnose.layers import parameters, take_turns, weighted_layers


def test_layers_stand_in_the_order_in_which_they_ran(synthetic):
    """Registration may tell another order; normalisation and embeddings map nothing."""
    run = synthetic()
    for name in ("embed", "first", "norm", "second", ""):
        run.output(name, run.row())
    run.parameter("second.weight").parameter("first.weight").parameter("first.bias", shape=(10,))
    run.parameter("norm.weight", module="LayerNorm", shape=(4, 4))
    run.parameter("embed.weight", module="Embedding").parameter("position", module="Net")
    record = run.read()
    layers = weighted_layers(record)
    assert [layer.name for layer in layers] == ["first", "second"]
    assert [p.name for p in layers[0].parameters] == ["first.weight", "first.bias"]
    assert [p.name for p in parameters(record)][:2] == ["second.weight", "first.weight"]


def test_a_parameter_belongs_to_the_layer_that_uses_it(synthetic):
    """The originals of a parametrisation, and a child that its parent uses without calling it."""
    run = synthetic().output("fc", synthetic().row()).output("mha", synthetic().row())
    run.parameter("fc.parametrizations.weight.original0").parameter("mha.out_proj.weight")
    run.parameter("position")
    first, second, root = parameters(run.read())
    assert first.owner == "fc"
    assert (first.depth, second.depth, root.depth) == (0, 1, None)


@pytest.mark.parametrize(
    ("shape", "matrix"), [((3, 4), True), ((1, 4), False), ((4,), False), ((2, 1, 3), True)]
)
def test_two_sides_make_a_matrix(synthetic, shape, matrix):
    """What maps one space to another has two dimensions of more than one element."""
    (parameter,) = parameters(synthetic().parameter("w", shape=shape).read())
    assert parameter.is_matrix is matrix


def test_a_changed_row_shows_that_a_weight_moved(synthetic):
    """A sum in another order is no movement; another smallest element is."""
    run = synthetic(steps=2)
    row = run.row(0.1)
    for name, other in (("same", row), ("order", run.row(0.1 * (1 + 1e-7), min=-0.2, max=0.2))):
        run.parameter(name, weight=[row, other])
    run.parameter("moved", weight=[row, run.row(0.1, min=-0.21)])
    assert [p.moved for p in parameters(run.read())] == [False, False, True]


def test_optimizers_take_turns(synthetic):
    """Seen by their updates, or by values that change without one; one optimizer takes none."""
    row, other = synthetic().row(1e-4), synthetic().row(2e-4)
    alone = synthetic(steps=2).layer("a").layer("b", update=None, optimized=False)
    turns = synthetic(steps=2).layer("a", update=[row, None]).layer("b", update=[None, row])
    hidden = synthetic(steps=2).layer("a")
    hidden.layer("b", update=None, weight=[row, other], optimized=False)
    assert [take_turns(parameters(run.read())) for run in (alone, turns, hidden)] == [
        False,
        True,
        True,
    ]
