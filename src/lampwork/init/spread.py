"""The standard deviation that each scheme gives to a shape, and what a scheme cannot be asked.

The functions take the options of the scheme of their name, see `lampwork.init.schemes`; each
raises InputError for options or shapes that cannot be meant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lampwork._core.errors import InputError
from lampwork.init.fans import of_shape
from lampwork.init.gains import gain as gain_of

Shape = Sequence[int]


def constant(shape: Shape, val: float = 0.0) -> float:
    """None: all values are alike."""
    return 0.0


def normal(shape: Shape, mean: float = 0.0, std: float = 1.0) -> float:
    """As asked."""
    if std < 0:
        raise InputError(f"a standard deviation cannot be negative (std={std}): pass 0 or more")
    return float(std)


def uniform(shape: Shape, a: float = 0.0, b: float = 1.0) -> float:
    """(b − a)/√12."""
    if a > b:
        raise InputError(f"uniform has its bounds the wrong way round (a={a}, b={b}): pass a ≤ b")
    return (b - a) / math.sqrt(12.0)


def trunc_normal(
    shape: Shape, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> float:
    """What the cut at a and b standard deviations leaves of `std`."""
    if a >= b:
        raise InputError(f"trunc_normal is cut at a={a} and b={b} deviations: pass a below b")
    # Of numbers near 1 the difference has no digits.
    mass = cdf(-a) - cdf(-b) if a > 0 else cdf(b) - cdf(a)
    if not mass > 1e-300:
        raise InputError(
            f"N(0, 1) has nothing between a={a} and b={b} standard deviations: pass bounds closer "
            "to 0"
        )
    shift = (_density(a) - _density(b)) / mass
    # At an infinite bound the density falls faster than the bound grows.
    edges = [z * _density(z) if math.isfinite(z) else 0.0 for z in (a, b)]
    return normal(shape, mean, std) * math.sqrt(1.0 + (edges[0] - edges[1]) / mass - shift**2)


def xavier(
    shape: Shape, gain: float = 1.0, *, fan_in: float | None = None, fan_out: float | None = None
) -> float:
    """gain·√(2/(fan_in + fan_out))."""
    both = _fan("fan_in", fan_in, shape) + _fan("fan_out", fan_out, shape)
    return gain * math.sqrt(2.0 / both) if both else 0.0


def kaiming(
    shape: Shape,
    a: float | None = None,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> float:
    """gain/√fan."""
    if mode not in ("fan_in", "fan_out"):
        raise InputError(f"there is no mode {mode!r}: pass 'fan_in' or 'fan_out'")
    fan = _fan(mode, fan_in if mode == "fan_in" else fan_out, shape)
    param = 0.0 if nonlinearity == "leaky_relu" and a is None else a
    return gain_of(nonlinearity, param) / math.sqrt(fan) if fan else 0.0


def lecun(shape: Shape, *, fan_in: float | None = None, fan_out: float | None = None) -> float:
    """1/√fan_in."""
    return kaiming(shape, nonlinearity="linear", fan_in=fan_in)


def orthogonal(shape: Shape, gain: float = 1.0) -> float:
    """gain/√(the longer side)."""
    if len(shape) < 2:
        raise InputError(f"orthogonal needs two dimensions or more, the shape is {tuple(shape)}")
    longer = max(shape[0], math.prod(shape[1:]))
    return gain / math.sqrt(longer) if longer else 0.0


def looks_linear(
    shape: Shape,
    gain: float = math.sqrt(2.0),
    pairs_in: bool = True,
    pairs_out: bool = True,
    delta: bool = False,
) -> float:
    """gain/√fan_in; a little off where an odd number of units leaves one without a twin."""
    read = of_shape(shape)
    if read is None:
        raise InputError(f"looks_linear needs two dimensions or more, the shape is {tuple(shape)}")
    return gain / math.sqrt(read[0]) if read[0] else 0.0


def lstm_bias(shape: Shape, forget: float = 1.0) -> float:
    """That of `forget` in one value of four, and 0 in the others."""
    if len(shape) != 1 or shape[0] % 4:
        raise InputError(
            f"lstm_bias fills the four gates of an LSTM's bias, the shape is {tuple(shape)}: "
            "pass a vector of 4 × hidden_size"
        )
    return abs(forget) * math.sqrt(3.0) / 4.0


def embedding(shape: Shape, std: float = 0.02, padding_idx: int | None = None) -> float:
    """As asked, but for the padding row."""
    rows = shape[0] if shape else 0
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise InputError(
            f"padding_idx={padding_idx} is no row of a table of {rows}: pass one of it"
        )
    return normal(shape, 0.0, std)


def gpt2_residual(shape: Shape, branches: int = 1, std: float = 0.02) -> float:
    """std/√branches."""
    if branches < 1:
        raise InputError(f"branches={branches} tells no scale: pass how many residual branches")
    return normal(shape, 0.0, std) / math.sqrt(branches)


def fixup(
    shape: Shape,
    branches: int = 1,
    layers: int = 2,
    nonlinearity: str = "relu",
    *,
    fan_in: float | None = None,
) -> float:
    """branches^(−1/(2·layers − 2))·gain/√fan_in."""
    if branches < 1 or layers < 2:
        raise InputError(
            f"Fixup scales branches of two layers or more (branches={branches}, layers={layers}): "
            "give zeros to the one layer of a branch"
        )
    return branches ** (-1.0 / (2 * layers - 2)) * kaiming(
        shape, nonlinearity=nonlinearity, fan_in=fan_in
    )


def mup(
    shape: Shape,
    part: str = "hidden",
    nonlinearity: str = "linear",
    *,
    fan_in: float | None = None,
) -> float:
    """gain/√fan_in, for a readout 1/fan_in, for an input 1."""
    if part not in ("hidden", "readout", "input"):
        raise InputError(f"muP has no part {part!r}: pass 'hidden', 'readout' or 'input'")
    if part == "input":
        return 1.0
    own = kaiming(shape, nonlinearity=nonlinearity, fan_in=fan_in)
    return own if part == "hidden" else lecun(shape, fan_in=fan_in) ** 2


def siren(
    shape: Shape, omega: float = 30.0, first: bool = False, *, fan_in: float | None = None
) -> float:
    """√(2/fan_in)/omega, for the first layer 1/(√3·fan_in)."""
    if omega <= 0:
        raise InputError(f"omega={omega} is no frequency: pass what stands in sin(omega·x)")
    own = lecun(shape, fan_in=fan_in)
    return own**2 / math.sqrt(3.0) if first else math.sqrt(2.0) * own / omega


def identity(shape: Shape, gain: float = 1.0) -> float:
    """Of a diagonal of `gain` among zeros."""
    if len(shape) != 2:
        raise InputError(f"identity fills a matrix, not a shape of {tuple(shape)}: pass a matrix")
    return _of_few(min(shape), math.prod(shape), gain)


def dirac(shape: Shape, groups: int = 1) -> float:
    """Of one 1 for each channel that passes, among zeros."""
    _require_convolution("dirac", shape)
    if groups < 1 or shape[0] % groups:
        raise InputError(f"{shape[0]} outputs do not fall into {groups} groups: pass a divisor")
    return _of_few(groups * min(shape[0] // groups, shape[1]), math.prod(shape), 1.0)


def delta_orthogonal(shape: Shape, gain: float = 1.0) -> float:
    """gain/√(out·taps)."""
    _require_convolution("delta_orthogonal", shape)
    if shape[1] > shape[0]:
        raise InputError(
            f"delta_orthogonal keeps lengths only into as many outputs or more, the shape is "
            f"{tuple(shape)}: use orthogonal, or a layer with out ≥ in"
        )
    size = shape[0] * math.prod(shape[2:])
    return gain / math.sqrt(size) if size else 0.0


def sparse(shape: Shape, sparsity: float = 0.9, std: float = 0.01) -> float:
    """What the zeros leave of `std`."""
    if len(shape) != 2:
        raise InputError(f"sparse fills a matrix, not a shape of {tuple(shape)}: pass a matrix")
    if not 0.0 <= sparsity <= 1.0:
        raise InputError(f"sparsity={sparsity} is no share: pass a number from 0 to 1")
    share = math.ceil(sparsity * shape[0]) / shape[0] if shape[0] else 0.0
    return normal(shape, 0.0, std) * math.sqrt(1.0 - share)


def _require_convolution(name: str, shape: Shape) -> None:
    if not 3 <= len(shape) <= 5:
        raise InputError(
            f"{name} fills the weight of a convolution, the shape is {tuple(shape)}: "
            "pass (out, in, *kernel)"
        )


def _of_few(count: int, among: int, value: float) -> float:
    share = count / among if among else 0.0
    return abs(value) * math.sqrt(share - share**2)


def cdf(z: float) -> float:
    """The distribution function of N(0, 1), exact in the lower tail."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def _fan(which: str, given: float | None, shape: Shape) -> float:
    if given is not None:
        return given
    read = of_shape(shape)
    if read is None:
        raise InputError(
            f"a shape of {tuple(shape)} tells no {which}: pass {which}=, or use a scheme of fixed "
            "variance such as normal"
        )
    return read[0] if which == "fan_in" else read[1]
