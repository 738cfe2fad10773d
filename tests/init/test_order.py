import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from lampwork.init.order import _ACTIVATIONS, chained, following
from lampwork.taps.trace import Use, consumers, trace


def test_the_next_activation_counts_through_norm_dropout_and_pooling():
    """The usual stack of a CNN."""
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.MaxPool2d(2), nn.GELU()]
    assert following(nn.Sequential(*layers))[layers[0]] == Use("gelu")


def test_what_a_sequence_feeds_is_what_a_trace_finds():
    """Through dropout and sequences in sequences; a norm, pooling and a second place end it."""
    twice = nn.Linear(4, 4)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout()),
        nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.LeakyReLU(0.2)),
        nn.Linear(4, 4),
        nn.LayerNorm(4),
        nn.ReLU(),
        nn.Linear(4, 4),
        nn.GELU(),
        nn.Linear(4, 4),
        nn.ReLU(),
        twice,
        nn.ReLU(),
        twice,
    )
    found = chained(model)
    traced = trace(model, torch.randn(2, 4)).feeds
    assert found == {name: feed for name, feed in traced.items() if feed.alone}
    assert [*found] == ["1.0.weight", "2.weight", "7.weight"]


def test_another_layer_in_between_means_linear():
    """Also at the end of the model."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    uses = following(nn.Sequential(first, second, nn.Flatten()))
    assert uses[first] == uses[second] == Use("linear")


def test_nested_and_reused_activations_are_found():
    """One ReLU object in two places, and blocks within blocks."""
    relu, layers = nn.ReLU(), [nn.Linear(2, 2) for _ in range(3)]
    model = nn.Sequential(
        nn.Sequential(layers[0], relu), nn.Sequential(nn.Sequential(layers[1]), relu), layers[2]
    )
    uses = following(model)
    assert [uses[layer].nonlinearity for layer in layers] == ["relu", "relu", "linear"]


def test_a_layer_that_stands_twice_is_judged_by_its_first_place():
    """Order of registration has no other way to choose."""
    layer = nn.Linear(2, 2)
    assert following(nn.Sequential(layer, nn.Tanh(), layer, nn.ReLU()))[layer] == Use("tanh")


def test_a_parametrised_layer_is_followed_like_any_other():
    """What computes the weight does not stand between the layer and its activation."""
    layer = parametrizations.weight_norm(nn.Linear(2, 2))
    assert following(nn.Sequential(layer, nn.SiLU()))[layer] == Use("silu")


def test_shaped_activations_tell_their_shape():
    """A subclass counts as what it derives from."""

    class Mine(nn.LeakyReLU):
        pass

    layer = nn.Linear(2, 2)
    assert following(nn.Sequential(layer, Mine(0.3)))[layer] == Use("leaky_relu", 0.3)
    assert following(nn.Sequential(layer, nn.ELU(2.0)))[layer] == Use("elu", 2.0)


@pytest.mark.parametrize("activation", _ACTIVATIONS, ids=lambda activation: activation.__name__)
def test_a_guess_and_a_trace_agree_where_order_tells_all(activation):
    """For every activation module the name and parameter are those that a forward pass shows."""
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), activation(), nn.Linear(4, 2))
    traced, guessed = consumers(model, torch.randn(2, 3)), following(model)
    assert traced["0.weight"].nonlinearity == guessed[model[0]].nonlinearity
    assert traced["0.weight"].param == guessed[model[0]].param
    assert traced["3.weight"] == guessed[model[3]] == Use()
