import pytest
import torch
from torch import nn

import lampwork as lw
from lampwork.init.fans import kind, matrices, matrix_shape, of_shape


def _weights_met(layer, weight, inputs, output_unit):
    """How many entries of the weight one output unit depends on: fan_in by brute force."""
    output = output_unit(layer(*inputs))
    (gradient,) = torch.autograd.grad(output, weight)
    return int((gradient != 0).sum())


def _ones(*shape):
    return torch.rand(*shape, dtype=torch.float64) + 0.5


def _impulse(position, *shape):
    x = torch.zeros(*shape, dtype=torch.float64)
    x[position] = 1.0
    return x


CONVOLUTIONS = [
    (nn.Conv1d(6, 4, 3), (1, 6, 9)),
    (nn.Conv1d(6, 4, 3, groups=2, dilation=2), (1, 6, 15)),
    (nn.Conv2d(4, 8, (3, 2), groups=4), (1, 4, 7, 7)),
    (nn.Conv2d(6, 6, 3, groups=6), (1, 6, 7, 7)),
    (nn.Conv3d(2, 3, 2), (1, 2, 5, 5, 5)),
    (nn.ConvTranspose1d(6, 4, 4, stride=2), (1, 6, 9)),
    (nn.ConvTranspose1d(6, 4, 3, groups=2), (1, 6, 9)),
    (nn.ConvTranspose2d(4, 8, 4, stride=2, groups=2), (1, 4, 7, 7)),
    (nn.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 5, 5, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=lambda value: str(value)[:60])
def test_convolutions_have_the_fans_that_counting_gives(layer, shape):
    """An inner output unit meets fan_in weights, an inner input unit acts through fan_out."""
    layer = layer.double()
    found = kind(layer, "weight", layer.weight.shape)
    middle = tuple(size // 2 for size in shape[2:])
    output = tuple(size // 2 for size in layer(_ones(*shape)).shape[2:])

    fan_in = _weights_met(layer, layer.weight, [_ones(*shape)], lambda y: y[(0, 0, *output)])
    fan_out = _weights_met(layer, layer.weight, [_impulse((0, 0, *middle), *shape)], torch.sum)

    assert (found.fan_in, found.fan_out) == (fan_in, fan_out)


def test_a_stride_that_does_not_divide_the_kernel_gives_the_mean_fan_in():
    """With three taps at stride two, inner output units meet one and two taps in turn."""
    layer = nn.ConvTranspose1d(3, 5, 3, stride=2).double()
    met = [
        _weights_met(layer, layer.weight, [_ones(1, 3, 11)], lambda y, at=at: y[0, 0, at])
        for at in (10, 11)
    ]
    assert kind(layer, "weight", layer.weight.shape).fan_in == sum(met) / 2 == 4.5


def test_a_strided_convolution_keeps_the_fan_out_of_its_shape():
    """A convolution's fan_out leaves its stride out, as He et al. and torch do."""
    layer = nn.Conv2d(3, 64, 7, stride=2)
    assert kind(layer, "weight", layer.weight.shape).fan_out == 64 * 49


def test_linear_and_bilinear_have_the_fans_that_counting_gives():
    """Linear and bilinear layers, the latter as seen from its first input."""
    linear, bilinear = nn.Linear(5, 3).double(), nn.Bilinear(4, 5, 3).double()
    found = kind(linear, "weight", linear.weight.shape)
    assert found.fan_in == _weights_met(linear, linear.weight, [_ones(5)], lambda y: y[0])
    assert found.fan_out == _weights_met(linear, linear.weight, [_impulse(2, 5)], torch.sum)

    found = kind(bilinear, "weight", bilinear.weight.shape)
    weight = bilinear.weight
    assert found.fan_in == _weights_met(bilinear, weight, [_ones(4), _ones(5)], lambda y: y[0])
    assert found.fan_out == _weights_met(bilinear, weight, [_impulse(1, 4), _ones(5)], torch.sum)


def test_an_embedding_is_a_lookup():
    """One weight per output unit, and a token acts through its own row only."""
    layer = nn.Embedding(7, 3)
    found = kind(layer, "weight", layer.weight.shape)
    token = torch.tensor([4])
    assert found.fan_in == _weights_met(layer, layer.weight, [token], lambda y: y[0, 1])
    assert found.fan_out == _weights_met(layer, layer.weight, [token], torch.sum)


@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda build: build.__name__)
def test_recurrent_fans_are_those_of_one_gate(build):
    """All gates of one hidden unit meet parts times fan_in weights."""
    layer = build(3, 4).double()
    state = _ones(1, 4)
    carried = (state, _ones(1, 4)) if build is nn.LSTM else state
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight = getattr(layer, name)
        found = kind(layer, name, weight.shape)
        met = _weights_met(layer, weight, [_ones(1, 3), carried], lambda y: y[0][0, 0])
        assert met == found.parts[0] * found.fan_in
        assert found.parts[0] * found.fan_out == len(weight)


def test_a_projected_lstm_and_the_cells_are_read_by_their_shapes():
    """weight_hr is one matrix from the hidden to the projected state; cells have gates too."""
    layer = nn.LSTM(3, 8, proj_size=2)
    found = kind(layer, "weight_hr_l0", layer.weight_hr_l0.shape)
    assert (found.role, found.fan_in, found.fan_out, found.parts) == ("recurrent", 8, 2, (1,))
    assert kind(layer, "weight_hh_l0", layer.weight_hh_l0.shape).fan_in == 2
    for cell, gates in ((nn.LSTMCell(3, 4), 4), (nn.GRUCell(3, 4), 3), (nn.RNNCell(3, 4), 1)):
        found = kind(cell, "weight_ih", cell.weight_ih.shape)
        assert (found.fan_in, found.fan_out, found.parts) == (3, 4, (gates,))


def test_packed_attention_has_the_fans_of_one_of_its_three_parts():
    """With one token attention passes the values on, which meet one row of one part."""
    layer = nn.MultiheadAttention(4, 1).double()
    with torch.no_grad():
        layer.out_proj.weight.copy_(torch.eye(4))
    found = kind(layer, "in_proj_weight", layer.in_proj_weight.shape)
    x = _ones(1, 4)
    met = _weights_met(layer, layer.in_proj_weight, [x, x, x], lambda y: y[0][0, 0])
    assert (found.role, found.fan_in, found.fan_out, found.parts) == ("packed", met, 4, (3,))


def test_separate_projections_of_attention_have_their_own_fans():
    """Keys and values of another width bring their own fan_in."""
    layer = nn.MultiheadAttention(8, 2, kdim=3, vdim=5)
    fans = {name: kind(layer, name, weight.shape) for name, weight in layer.named_parameters()}
    assert fans["q_proj_weight"].fan_in == 8
    assert (fans["k_proj_weight"].fan_in, fans["v_proj_weight"].fan_in) == (3, 5)
    assert fans["k_proj_weight"].fan_out == 8


def test_a_parameter_of_an_unknown_module_is_other_and_a_vector_called_bias_a_bias():
    """Nothing is guessed from the shape of a stack of expert matrices."""
    module = nn.Module()
    assert kind(module, "experts", (8, 16, 32)).role == "other"
    assert kind(module, "experts", (8, 16, 32)).fan_in is None
    assert kind(module, "bias", (4,)).role == "bias"
    assert kind(module, "bias", (4, 4)).role == "other"


@pytest.mark.parametrize("shape", [(4, 3), (8, 4, 3, 3)])
def test_fans_read_off_a_shape_are_those_of_torch(shape):
    """Without a layer the shape is read as torch reads it."""
    assert of_shape(shape) == nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert of_shape((3,)) is None


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.ConvTranspose2d(64, 4, 4, stride=2, padding=1), (2, 64, 16, 16)),
        (nn.ConvTranspose2d(4, 64, 4, stride=2, padding=1), (32, 4, 16, 16)),
        (nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular", groups=8), (4, 64, 12, 12)),
        (nn.Bilinear(32, 32, 400), None),
    ],
    ids=["transposed narrow", "transposed wide", "grouped", "bilinear"],
)
def test_true_fans_keep_unit_variance(layer, shape):
    """What the shape's fans would miss by a factor of up to 8 comes out with variance near 1."""
    lw.init.initialize(layer)
    torch.manual_seed(0)
    inputs = [torch.randn(64, 32), torch.randn(64, 32)] if shape is None else [torch.randn(shape)]
    with torch.no_grad():
        y = layer(*inputs)
    inner = y if shape is None else y[..., 2:-2, 2:-2]
    assert 0.85 < inner.square().mean() < 1.15


def test_stacked_matrices_are_views_in_order():
    """Gates along the rows, q, k and v along the columns, experts of two matrices each."""
    values = torch.arange(48.0)
    gates = matrices(values.view(8, 6), (4,))
    assert [tuple(gate.shape) for gate in gates] == [(2, 6)] * 4 == [matrix_shape((8, 6), (4,))] * 4
    assert torch.equal(torch.cat(gates), values.view(8, 6))
    qkv = matrices(values.view(8, 6), (1, 3))
    assert torch.equal(torch.cat(qkv, 1), values.view(8, 6))
    assert matrix_shape((8, 6), (1, 3)) == (8, 2)
    experts = matrices(values.view(3, 4, 4), (0, 2))
    assert matrix_shape((3, 4, 4), (0, 2)) == (2, 4)
    assert torch.equal(torch.stack(experts), values.view(6, 2, 4))
    experts[0].zero_()
    assert values[:8].eq(0).all()
