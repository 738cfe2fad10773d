"""Looks-linear pairs: where they are given, and that they do what they are for."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import lampwork as lw


def _chain(depth, build=lambda: nn.Linear(16, 16), activation=nn.ReLU):
    parts = [part for _ in range(depth) for part in (build(), activation())]
    return nn.Sequential(*parts[:-1])


def _weights(model, example=None, **options):
    plan = lw.init.plan(model, example, **options)
    return [row for row in plan.rows if row.name.endswith("weight")]


X = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("example", [X, None], ids=["traced", "by order"])
def test_five_plain_layers_are_a_chain_and_four_are_none(example):
    """Its first layer has no pairs to take, its last none to give."""
    rows = _weights(_chain(5), example)
    assert [row.scheme for row in rows] == ["looks_linear"] * 5
    assert [row.scheme.options["pairs_in"] for row in rows] == [False, True, True, True, True]
    assert [row.scheme.options["pairs_out"] for row in rows] == [True, True, True, True, False]
    assert "in a chain of 5 plain layers" in rows[0].reason
    assert {row.scheme for row in _weights(_chain(4), example)} == {"orthogonal"}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Softplus])
def test_a_chain_is_at_first_a_multiple_of_an_orthogonal_map(activation):
    """Autograd's Jacobian of twelve layers has equal singular values, at any input."""
    model = _chain(12, activation=activation)
    lw.init.initialize(model, X, seed=3)
    for x in (X[0], 10 * X[1]):
        jacobian = torch.autograd.functional.jacobian(model, x)
        assert isinstance(jacobian, torch.Tensor)
        # 16 inputs, of which eight pairs can carry eight.
        singular = torch.linalg.svdvals(jacobian)[:8]
        torch.testing.assert_close(
            singular, torch.full((8,), singular[0].item()), rtol=1e-3, atol=0
        )


def test_the_slopes_of_leaky_relu_are_taken_off():
    """f(z) − f(−z) = (1 + slope)·z."""
    model = _chain(8, activation=lambda: nn.LeakyReLU(0.3))
    lw.init.initialize(model, X)
    x = model[0](X)
    before = x.square().mean()
    for part in model[1:-1]:
        x = part(x)
    assert isinstance(model[-2], nn.LeakyReLU)
    after = x.square().mean() * 2 / (1 + 0.3**2)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=0)


@pytest.mark.parametrize("sizes", [(5, 9, 8, 7, 6, 3), (8, 16, 32, 64, 16, 2)])
def test_layers_of_any_sizes_take_pairs(sizes):
    """Odd numbers leave one unit without a twin."""
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
    plan = lw.init.initialize(model, torch.randn(4, sizes[0]))
    assert {row.scheme for row in plan.rows[::2]} == {"looks_linear"}
    for layer in layers[:-1]:
        pairs = layer.weight[: layer.weight.shape[0] // 2 * 2]
        assert torch.equal(pairs[::2], -pairs[1::2])
    for layer in layers[1:]:
        pairs = layer.weight[:, : layer.weight.shape[1] // 2 * 2]
        assert torch.equal(pairs[:, ::2], -pairs[:, 1::2])


def test_a_rule_or_another_kind_of_layer_parts_a_chain():
    """What is left has to be long enough on its own."""
    rows = _weights(_chain(9), X, rules=[("8.weight", "xavier_normal")])
    assert [row.scheme for row in rows] == [
        *["orthogonal"] * 4,
        "xavier_normal",
        *["orthogonal"] * 4,
    ]
    model = _chain(10)
    model[9] = nn.Sequential(nn.LayerNorm(16), nn.ReLU())
    pairs = [
        row.scheme.options.get("pairs_out") for row in _weights(model, X) if row.role != "norm"
    ]
    assert pairs == [True] * 4 + [False] + [True] * 4 + [False]


def test_residual_and_shared_layers_are_left_alone():
    """Who else takes a layer's output would see its units twice."""

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(8))

        def forward(self, x):
            for layer in self.layers:
                x = x + torch.relu(layer(x))
            return x

    assert "looks_linear" not in {row.scheme for row in _weights(Skip(), X)}
    model = _chain(6)
    model[4] = model[6]
    assert "looks_linear" not in {row.scheme for row in _weights(model, X)}
    model = _chain(6)
    model[4].weight = model[6].weight
    assert "looks_linear" not in {row.scheme for row in _weights(model, X)}


def test_groups_may_not_part_a_pair():
    """Six channels in two groups are three each; in three groups they are a pair each."""
    x = torch.randn(1, 6, 5, 5)
    for groups, expected in ((2, "kaiming_normal"), (3, "looks_linear")):
        model = _chain(5, lambda groups=groups: nn.Conv2d(6, 6, 3, padding=1, groups=groups))
        assert {row.scheme for row in _weights(model, x)} == {expected}


def test_inner_convolutions_without_a_stride_carry_each_pixel():
    """The first has its taps as features, a stride would skip pixels."""
    layers = [nn.Conv2d(3, 8, 3), *[nn.Conv2d(8, 8, 3, 1 + (n == 2), 1) for n in range(5)]]
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())])
    rows = _weights(model, torch.randn(1, 3, 16, 16))
    delta = [row.scheme.options.get("delta", False) for row in rows]
    assert delta == [False, True, True, False, True, True]


def test_pairs_are_no_copies_and_part_as_they_learn():
    """The check accuses nobody, and after a few steps twins are no longer opposites."""
    torch.manual_seed(0)
    model, y = _chain(6), torch.randint(4, (32,))
    plan = lw.init.initialize(model, X)
    assert plan.verify(X, y).ok
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        optimizer.step()
    weight = model[4].weight.detach()
    assert (weight[::2] + weight[1::2]).abs().amax(1).min() > 1e-5
