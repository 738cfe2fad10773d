import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import lampwork as lw
from lampwork._core.errors import InputError


class ConvBlock(nn.Module):
    """A name that snippets which match class names stumble over; it has no weight of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.bias = nn.Parameter(torch.full((3,), 7.0))


def test_every_kind_of_weight_is_written_with_its_bias():
    """Linear, bilinear, convolutions, recurrent, attention: weight by scheme, bias constant."""
    layers = [
        nn.Linear(3, 4),
        nn.Bilinear(2, 3, 4),
        nn.Conv1d(2, 3, 3),
        nn.ConvTranspose3d(2, 3, 2),
        nn.LSTM(3, 4),
        nn.GRUCell(3, 4),
        nn.MultiheadAttention(4, 2),
    ]
    model = nn.ModuleList(layers)
    model.apply(lw.init.layerwise("constant", val=3.0, bias=0.5))
    for name, parameter in model.named_parameters():
        assert parameter.eq(0.5 if "bias" in name else 3.0).all(), name


def test_norms_start_as_the_identity_and_the_rest_is_left_alone():
    """Embeddings, parameters of unknown modules and buffers keep their values."""
    model = nn.ModuleList([ConvBlock(), nn.Embedding(3, 2), nn.LayerNorm(2), nn.PReLU()])
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(7)
    model.apply(lw.init.layerwise("zeros", bias=0.1))
    block, embedding, norm, prelu = model
    assert block.conv.weight.eq(0).all()
    assert block.conv.bias.eq(0.1).all()
    for layer in (block.norm, norm):
        assert layer.weight.eq(1).all()
        assert layer.bias.eq(0).all()
    assert all(t.eq(7).all() for t in (block.bias, embedding.weight, prelu.weight))
    assert block.norm.running_mean.eq(7).all()


@pytest.mark.parametrize("scheme", ["kaiming_normal", "xavier_uniform", "orthogonal", "normal"])
def test_values_come_from_torchs_global_generator(scheme):
    """The idiom's seed is torch.manual_seed; on a plain layer the values are those of schemes."""
    layer, expected = nn.Linear(30, 20), torch.empty(20, 30)
    torch.manual_seed(3)
    layer.apply(lw.init.layerwise(scheme))
    torch.manual_seed(3)
    getattr(lw.init.schemes, f"{scheme}_")(expected)
    assert torch.equal(layer.weight, expected)


def test_true_fans_are_used_and_options_reach_the_scheme():
    """The fan_out of a depthwise convolution is 9, not 9 times its channels."""
    layer = nn.Conv2d(256, 256, 3, groups=256)
    torch.manual_seed(0)
    layer.apply(lw.init.layerwise("kaiming_normal", mode="fan_out", nonlinearity="linear"))
    assert layer.weight.std().item() == pytest.approx(1 / 3, rel=0.05)


def test_a_parametrised_weight_is_written_through():
    """Not past the parametrisation, where it would be without effect."""
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    layer.apply(lw.init.layerwise("ones"))
    torch.testing.assert_close(layer.weight, torch.ones(2, 3))


def test_only_the_modules_own_parameters_are_touched():
    """Called on a container alone it does nothing."""
    block = ConvBlock()
    before = block.conv.weight.clone()
    lw.init.layerwise("zeros")(block)
    assert torch.equal(block.conv.weight, before)


def test_mistakes_are_told_when_the_function_is_made():
    """Not in the middle of the model."""
    with pytest.raises(InputError, match="no scheme 'he_normal'"):
        lw.init.layerwise("he_normal")
    with pytest.raises(InputError, match="'normal' takes no option 'sd'"):
        lw.init.layerwise("normal", sd=0.1)
    with pytest.raises(InputError, match="'constant' needs the option 'val'"):
        lw.init.layerwise("constant")


def test_a_layer_on_meta_is_refused():
    """Torch's functions pass over it in silence."""
    with pytest.raises(InputError, match="'weight' is on meta"):
        nn.Linear(2, 2, device="meta").apply(lw.init.layerwise("zeros"))
