"""What torch's own tests of `torch.nn.init` ask of an initialiser, asked of ours."""

import math

import pytest
import torch
from scipy import stats

from lampwork._core.errors import InputError
from lampwork.init import schemes


def _seeded(seed=7):
    return torch.Generator().manual_seed(seed)


def _fits(tensor, distribution):
    return stats.kstest(tensor.flatten().double().numpy(), distribution.cdf).pvalue > 1e-4


@pytest.mark.parametrize("shape", [(40,), (41, 37), (7, 8, 9, 5)])
def test_fixed_distributions_hold_in_any_number_of_dimensions(shape):
    """Normal, uniform and truncated, in float32 and float64."""
    for dtype in (torch.float32, torch.float64):
        tensor = torch.empty(shape, dtype=dtype)
        assert _fits(schemes.normal_(tensor, -1.5, 3.0, _seeded()), stats.norm(-1.5, 3.0))
        assert _fits(schemes.uniform_(tensor, -2.0, 1.5, _seeded()), stats.uniform(-2.0, 3.5))
        values = schemes.trunc_normal_(tensor, 0.7, 0.4, -1.2, 0.9, _seeded())
        assert _fits(values, stats.truncnorm(-1.2, 0.9, 0.7, 0.4))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("slope", [None, 0.0, 1.3])
@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3, 4)])
def test_kaiming_counts_the_taps_of_a_kernel(shape, slope, mode):
    """Both fans are channels times taps, and the slope of leaky_relu is 0 if none is given."""
    fan = {"fan_in": shape[1], "fan_out": shape[0]}[mode] * math.prod(shape[2:])
    std = math.sqrt(2 / (1 + (slope or 0.0) ** 2) / fan)
    options = {"a": slope, "mode": mode, "generator": _seeded()}
    values = schemes.kaiming_normal_(torch.empty(shape), **options)
    assert _fits(values, stats.norm(0, std))
    bound = math.sqrt(3) * std
    values = schemes.kaiming_uniform_(torch.empty(shape), **options)
    assert _fits(values, stats.uniform(-bound, 2 * bound))


@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3, 4)])
def test_xavier_counts_the_taps_of_a_kernel(shape, gain):
    """Of both fans."""
    std = gain * math.sqrt(2 / ((shape[0] + shape[1]) * math.prod(shape[2:])))
    assert _fits(schemes.xavier_normal_(torch.empty(shape), gain, _seeded()), stats.norm(0, std))
    bound = math.sqrt(3) * std
    values = schemes.xavier_uniform_(torch.empty(shape), gain, _seeded())
    assert _fits(values, stats.uniform(-bound, 2 * bound))


@pytest.mark.parametrize(
    ("dtype", "different"),
    [
        (torch.float32, 9000),
        (torch.float64, 9000),
        (torch.float16, 3000),
        (torch.bfloat16, 1000),
    ],
)
def test_a_cut_normal_in_few_bits_fills_its_range(dtype, different):
    """Many values, none beyond the bounds, none heaped up on them, the right distribution."""
    values = schemes.trunc_normal_(torch.empty(10_000, dtype=dtype), generator=_seeded())
    assert values.abs().max() <= 2
    assert values.unique().numel() > different
    assert (values.abs() == 2).sum() <= 10  # of 10,000 seven round up to 2 in bfloat16
    assert _fits(values, stats.truncnorm(-2, 2))
    if dtype != torch.bfloat16:  # 65 values between 2 and 3
        tail = schemes.trunc_normal_(torch.empty(10_000, dtype=dtype), 0, 1, 2, 3, _seeded())
        assert (tail.min() >= 2, tail.max() <= 3) == (True, True)
        assert _fits(tail, stats.truncnorm(2, 3))


@pytest.mark.parametrize("shape", [(), (1,), (2, 2, 2, 2, 2, 2)])
def test_shapes_that_a_scheme_has_no_meaning_for_are_refused(shape):
    """Fans need two dimensions, a kernel three to five, a matrix two."""
    tensor = torch.zeros(shape)
    for name in ("dirac_", "delta_orthogonal_", "identity_", "sparse_", "lstm_bias_"):
        with pytest.raises(InputError):
            getattr(schemes, name)(tensor)
    if len(shape) < 2:
        for name in ("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"):
            with pytest.raises(InputError, match="tells no fan_in"):
                getattr(schemes, name)(tensor)
        for name in ("orthogonal_", "looks_linear_"):
            with pytest.raises(InputError, match="needs two dimensions or more"):
                getattr(schemes, name)(tensor)


def test_without_a_generator_torchs_seed_decides():
    """The same values after the same manual_seed, others after another."""
    found = []
    for seed in (42, 42, 43):
        torch.manual_seed(seed)
        found.append(schemes.trunc_normal_(torch.empty(5)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
