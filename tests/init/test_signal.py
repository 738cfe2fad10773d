"""What the plan is for: a signal that neither dies nor explodes, whatever the depth."""

import pytest
import torch
from torch import nn

import lampwork as lw

DEPTH = 30


def _second_moments(model, x):
    """The second moment after every layer with a weight."""
    found = []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            if isinstance(layer, nn.Linear | nn.Conv2d):
                found.append(x.square().mean().item())
    return torch.tensor(found)


def _over_seeds(model, x, scheme="auto"):
    """Their median over seven seeds, in units of the first layer's: a single net strays."""
    found = []
    for seed in range(7):
        lw.init.initialize(model, seed=seed, scheme=scheme)
        moments = _second_moments(model, x)
        found.append(moments / moments[0])
    return torch.stack(found).median(0).values


def _signal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus])
@pytest.mark.parametrize("width", [20, 64, 256])
def test_auto_carries_a_signal_through_thirty_layers(activation, width):
    """Each net by itself, at any width, to rounding; Xavier loses nine digits in ReLU nets."""
    layers = [part for _ in range(DEPTH) for part in (nn.Linear(width, width), activation())]
    model, x = nn.Sequential(*layers), _signal(64, width)
    for seed in range(3):
        lw.init.initialize(model, x, seed=seed)
        moments = _second_moments(model, x)
        assert len(moments) == DEPTH
        torch.testing.assert_close(moments / moments[0], torch.ones(DEPTH), rtol=1e-3, atol=0)
    if activation is nn.ReLU:
        assert _over_seeds(model, x, "xavier_normal")[-1] < 1e-6


def test_auto_carries_a_signal_through_thirty_convolutions():
    """Grouped in turn with full; zeros at the borders take nothing, as each pixel is carried."""
    layers = [
        part
        for number in range(DEPTH)
        for part in (nn.Conv2d(24, 24, 3, 1, 1, groups=1 + 2 * (number % 2)), nn.ReLU())
    ]
    model, x = nn.Sequential(*layers), _signal(2, 24, 8, 8)
    lw.init.initialize(model, x)
    moments = _second_moments(model, x)
    torch.testing.assert_close(moments / moments[0], torch.ones(DEPTH), rtol=1e-3, atol=0)


class Unproved(nn.Module):
    """ReLU layers of which a trace cannot tell that one feeds the next alone."""

    def __init__(self, build):
        super().__init__()
        self.layers = nn.ModuleList(build(number) for number in range(DEPTH))

    def __iter__(self):
        for layer in self.layers:
            yield layer
            yield lambda x: torch.relu(x).flip(0).flip(0)

    def forward(self, x):
        for part in self:
            x = part(x)
        return x


@pytest.mark.parametrize(
    ("build", "shape", "low", "high"),
    [
        (lambda n: nn.Linear(256, 256), (64, 256), 0.4, 2.5),
        (
            lambda n: nn.Conv2d(96, 96, 3, 1, 1, groups=1 + 3 * (n % 2), padding_mode="circular"),
            (2, 96, 8, 8),
            0.1,
            4.0,
        ),
    ],
    ids=["linear", "convolutional"],
)
def test_without_proof_the_median_net_carries_a_signal(build, shape, low, high):
    """Thirty ReLU layers: orthogonal ones within 2.5, independent convolutions within 10."""
    model, x = Unproved(build), _signal(*shape)
    found = []
    for seed in range(7):
        plan = lw.init.initialize(model, x, seed=seed)
        assert {row.scheme for row in plan.rows} & {"orthogonal", "kaiming_normal"}
        found.append(_second_moments(model, x))
    moments = torch.stack([one / one[0] for one in found]).median(0).values
    assert moments.min() > low
    assert moments.max() < high


def test_mish_does_not_explode():
    """Where 1/√E[f²] makes the signal grow many times over 30 layers."""
    layers = [part for _ in range(DEPTH) for part in (nn.Linear(256, 256), nn.Mish())]
    moments = _over_seeds(nn.Sequential(*layers), _signal(64, 256))
    assert moments.min() > 0.25
    assert moments.max() < 4.0


def test_linear_layers_keep_unit_variance():
    """Without an activation the gain is 1."""
    model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(DEPTH)])
    lw.init.initialize(model)
    moments = _second_moments(model, _signal(64, 256))
    assert moments.min() > 0.7
    assert moments.max() < 1.4


@pytest.mark.parametrize("activation", [nn.SELU, nn.ELU, nn.LeakyReLU, nn.Sigmoid])
def test_other_activations_keep_the_size_of_the_signal(activation):
    """It settles within a factor of four of the first layer's; sigmoid at once."""
    layers = [part for _ in range(DEPTH) for part in (nn.Linear(256, 256), activation())]
    moments = _over_seeds(nn.Sequential(*layers), _signal(64, 256))
    assert moments.min() > 0.25
    assert moments.max() < 2.0


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softsign, nn.Hardtanh])
def test_odd_saturating_activations_keep_the_length_of_gradients(activation):
    """Through a hundred layers within a factor of four; with the gain of one layer 10⁷ times."""
    layers = [part for _ in range(100) for part in (nn.Linear(128, 128), activation())]
    model, x = nn.Sequential(*layers), _signal(64, 128).requires_grad_()
    lw.init.initialize(model)
    out = model(x)
    (gradient,) = torch.autograd.grad(out, x, _signal(64, 128))
    assert 0.25 < gradient.square().mean() < 4
    assert 0.01 < out.square().mean() < 0.5


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(4, 64),
        lambda: nn.Linear(64, 4),
        lambda: nn.Conv2d(3, 64, 3),
        lambda: nn.Conv2d(8, 8, 3, groups=8),
        lambda: nn.ConvTranspose2d(64, 3, 4, stride=2),
    ],
)
def test_before_tanh_the_variance_goes_by_the_true_fan_in(build):
    """Whether the matrix is wide, tall, grouped or transposed: as planned, and as drawn."""
    model = nn.Sequential(build(), nn.Tanh())
    plan = lw.init.initialize(model)
    row = plan.rows[0]
    assert row.scheme == "orthogonal"
    assert row.std == pytest.approx(1.1 * row.fan_in**-0.5)
    assert model[0].weight.square().mean().sqrt().item() == pytest.approx(row.std, rel=1e-4)
