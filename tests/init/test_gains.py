import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special
from torch import nn

from lampwork._core.errors import InputError
from lampwork.init.gains import NONLINEARITIES, gain
from lampwork.taps.functions import ACTIVATIONS

# Written out a second time from the formulas, not from torch.
FORMULAS = {
    "celu": lambda z: max(z, 0) + min(0, math.expm1(z)),
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "gelu": lambda z: z * special.ndtr(z),
    "hardsigmoid": lambda z: min(max(z / 6 + 0.5, 0), 1),
    "hardswish": lambda z: z * min(max(z / 6 + 0.5, 0), 1),
    "hardtanh": lambda z: min(max(z, -1), 1),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "mish": lambda z: z * math.tanh(math.log1p(math.exp(z))),
    "prelu": lambda z: z if z > 0 else 0.25 * z,
    "relu": lambda z: max(z, 0),
    "relu6": lambda z: min(max(z, 0), 6),
    "sigmoid": lambda z: special.expit(z),
    "silu": lambda z: z * special.expit(z),
    "sin": math.sin,
    "softplus": lambda z: math.log1p(math.exp(z)),
    "softsign": lambda z: z / (1 + abs(z)),
    "tanh": math.tanh,
    "tanhshrink": lambda z: z - math.tanh(z),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_gain_is_that_of_adaptive_integration(name):
    """Another quadrature of the formula, split at its kinks, agrees to eight digits."""
    function = FORMULAS[name]
    points = [-12, -6, -3, -1, 0, 1, 3, 6, 12]
    moment = sum(
        integrate.quad(
            lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * function(z) ** 2,
            low,
            high,
            epsabs=1e-13,
        )[0]
        for low, high in itertools.pairwise(points)
    )
    assert gain(name) == pytest.approx(1 / math.sqrt(moment), rel=1e-8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", 1.41421),
        ("gelu", 1.53353),
        ("silu", 1.67653),
        ("mish", 1.48685),
        ("elu", 1.24520),
        ("hardswish", 1.73666),
        ("tanh", 1.59254),
    ],
)
def test_gains_are_those_measured_before(name, expected):
    """The figures of the research report, found by another program."""
    assert gain(name) == pytest.approx(expected, abs=1e-5)


def test_selu_is_its_own_normalisation():
    """SELU's constants are made so that it keeps the second moment of N(0, 1)."""
    assert gain("selu") == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.25, 1.0])
def test_leaky_relu_has_torchs_gain(slope):
    """For the ReLU family the convention is the one of torch."""
    assert gain("leaky_relu", slope) == pytest.approx(nn.init.calculate_gain("leaky_relu", slope))


@pytest.mark.parametrize("name", [n for n in NONLINEARITIES if n not in ("prelu", "rrelu")])
def test_a_gain_restores_the_second_moment_of_a_sample(name):
    """Scaled by the gain, f of a million draws has second moment 1 within a percent."""
    function = {"linear": nn.Identity(), "sin": torch.sin}.get(name)
    function = function or getattr(torch.nn.functional, name)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(1_000_000))
    assert (gain(name) * function(z)).square().mean().item() == pytest.approx(1.0, rel=0.01)


def test_parameters_change_the_gain():
    """The alpha of elu and the beta of softplus count."""
    assert gain("elu", 0.0) == pytest.approx(gain("relu"))
    assert gain("softplus", 100.0) == pytest.approx(gain("relu"), rel=1e-2)


def test_every_nonlinearity_that_a_trace_can_find_has_a_gain():
    """The two lists name the same functions."""
    assert set(ACTIVATIONS) | {"linear"} == set(NONLINEARITIES)


def test_an_unknown_nonlinearity_is_named_with_the_nearest():
    """The error suggests the name that was meant and lists all."""
    with pytest.raises(InputError, match=r"'swilu': did you mean 'silu'.*Known: linear, celu"):
        gain("swilu")


def test_a_parameter_for_a_function_without_one_is_refused():
    """ReLU has no slope to give."""
    with pytest.raises(InputError, match=r"relu takes no parameter, it was given 0.1: leave it"):
        gain("relu", 0.1)
