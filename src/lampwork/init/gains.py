"""By how much to widen a weight so that a nonlinearity keeps the second moment of the signal."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lampwork._core.errors import InputError
from lampwork._core.names import nearest

# Each nonlinearity as torch computes it, and the parameter it has where none is given.
_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], float | None]] = {
    "linear": (lambda z: z, None),
    "celu": (F.celu, 1.0),
    "elu": (F.elu, 1.0),
    "gelu": (F.gelu, None),
    "hardshrink": (F.hardshrink, None),
    "hardsigmoid": (F.hardsigmoid, None),
    "hardswish": (F.hardswish, None),
    "hardtanh": (F.hardtanh, None),
    "leaky_relu": (F.leaky_relu, 0.01),
    "logsigmoid": (F.logsigmoid, None),
    "mish": (F.mish, None),
    "prelu": (F.leaky_relu, 0.25),
    "relu": (F.relu, None),
    "relu6": (F.relu6, None),
    "rrelu": (F.leaky_relu, (1 / 8 + 1 / 3) / 2),
    "selu": (F.selu, None),
    "sigmoid": (torch.sigmoid, None),
    "silu": (F.silu, None),
    "sin": (torch.sin, None),
    "softplus": (F.softplus, 1.0),
    "softshrink": (F.softshrink, None),
    "softsign": (F.softsign, None),
    "tanh": (torch.tanh, None),
    "tanhshrink": (F.tanhshrink, None),
}

NONLINEARITIES = tuple(_FUNCTIONS)


def gain(nonlinearity: str, param: float | None = None) -> float:
    """The gain g of a nonlinearity f that keeps a second moment of 1: E[f(g·z)²] = 1, z ~ N(0, 1).

    A weight whose standard deviation is `gain / sqrt(fan_in)` gives a signal that has, after f,
    the second moment 1 that it came with, in every layer again. For ReLU-like functions this is
    He's gain (2015). Where |f| is bounded by 1 (tanh, sigmoid, softsign, …) no gain does it; they
    get 1/√E[f(z)²], which restores what f takes from a signal of variance 1.

    Exact for `linear` and the ReLU family, elsewhere by Gauss-Legendre quadrature of torch's own
    function in float64 (panels of half a unit over ±12 standard deviations; error below 1e-9
    where the kinks of f lie on multiples of one half). `torch.nn.init.calculate_gain` knows six of
    these and gives 5/3 for tanh and 3/4 for selu, found by experiment.

    Args:
        nonlinearity: the name of the torch functional, e.g. `"gelu"`, or `"linear"`.
        param: the slope of leaky_relu (0.01), prelu (0.25) and rrelu (its mean, 0.23), the alpha
            of elu and celu (1), the beta of softplus (1). The others take none.

    Raises:
        InputError: a nonlinearity that is not known, a parameter for one that takes none, or one
            that is no number.
    """
    if param is not None and (isinstance(param, bool) or not isinstance(param, int | float)):
        raise InputError(f"the parameter of {nonlinearity} is {param!r}: pass a number")
    return _gain(nonlinearity, None if param is None else float(param))


@lru_cache(maxsize=256)
def _gain(nonlinearity: str, param: float | None) -> float:
    if nonlinearity not in _FUNCTIONS:
        near = nearest(nonlinearity, NONLINEARITIES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"no gain is known for the nonlinearity {nonlinearity!r}: {hint}"
            f"Known: {', '.join(NONLINEARITIES)}"
        )
    function, default = _FUNCTIONS[nonlinearity]
    if default is None and param is not None:
        raise InputError(f"{nonlinearity} takes no parameter, it was given {param}: leave it out")
    slope = default if param is None else param
    if nonlinearity == "linear":
        return 1.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if function is F.leaky_relu and slope is not None:
        return math.sqrt(2.0 / (1.0 + slope**2))
    bound = (lambda z: function(z, slope)) if slope is not None else function
    return _steady(bound) or 1.0 / math.sqrt(_moment(bound, 1.0))


def _steady(function: Callable[[Tensor], Tensor]) -> float | None:
    """The g with E[f(g·z)²] = 1, by bisection; None where there is none between 1/8 and 8."""
    low, high = 0.125, 8.0
    if not _moment(function, low) < 1.0 < _moment(function, high):
        return None
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _moment(function, middle) < 1.0 else (low, middle)
    return 0.5 * (low + high)


def _moment(function: Callable[[Tensor], Tensor], scale: float) -> float:
    """E[f(scale·z)²]; panels in units of the function's argument, where its kinks are."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edge = 0.5 * math.ceil(24.0 * scale)
    width = min(0.5, 0.5 * 2.0 ** math.ceil(math.log2(scale)))
    left = np.arange(-edge, edge, width)[:, None]
    y = left + 0.5 * width * (nodes + 1.0)
    density = np.exp(-0.5 * (y / scale) ** 2) / (scale * math.sqrt(2.0 * math.pi))
    values = function(torch.from_numpy(y)).numpy()
    return float((0.5 * width * weights * density * values**2).sum())
