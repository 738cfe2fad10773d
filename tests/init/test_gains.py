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


# No gain gives these a second moment of 1: they get what restores that of f(z).
BOUNDED = ("hardsigmoid", "hardtanh", "sigmoid", "sin", "softsign", "tanh")


@pytest.mark.parametrize("name", FORMULAS)
def test_a_gain_is_that_of_adaptive_integration(name):
    """Another quadrature of the formula, split at its kinks, finds the moment that is kept."""
    function, factor = FORMULAS[name], 1.0 if name in BOUNDED else gain(name)
    points = [-12 * factor, -6, -3, -1, 0, 1, 3, 6, 12 * factor]
    moment = sum(
        integrate.quad(
            lambda y: (
                math.exp(-((y / factor) ** 2) / 2)
                / (factor * math.sqrt(2 * math.pi))
                * function(y) ** 2
            ),
            low,
            high,
            epsabs=1e-13,
        )[0]
        for low, high in itertools.pairwise(points)
    )
    kept = gain(name) ** 2 * moment if name in BOUNDED else moment
    assert kept == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", 1.41421),
        ("gelu", 1.46801),
        ("silu", 1.55876),
        ("mish", 1.45149),
        ("elu", 1.27796),
        ("hardswish", 1.56718),
        ("tanh", 1.59254),
    ],
)
def test_gains_are_those_measured_before(name, expected):
    """Pinned: with 1/√E[f²] the signal of GELU and SiLU grows from layer to layer."""
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
    """With the gain, f of a million draws has second moment 1 within a percent."""
    function = {"linear": nn.Identity(), "sin": torch.sin}.get(name)
    function = function or getattr(torch.nn.functional, name)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(1_000_000))
    kept = gain(name) * function(z) if name in BOUNDED else function(gain(name) * z)
    assert kept.square().mean().item() == pytest.approx(1.0, rel=0.01)


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


@pytest.mark.parametrize("param", [True, [1], {"a": "b"}, "0.1"])
def test_a_parameter_that_is_no_number_is_refused(param):
    """As torch's calculate_gain does."""
    with pytest.raises(InputError, match=r"the parameter of leaky_relu is .*: pass a number"):
        gain("leaky_relu", param)
