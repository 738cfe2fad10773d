"""Schemes whose values are independent: each is drawn for its own place in the tensor."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lampwork.init import spread
from lampwork.init.draws import Draws
from lampwork.init.placement import pieces

Source = Generator | Draws | None


@torch.no_grad()
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Source = None
) -> Tensor:
    """Gaussian values N(mean, std²), one standard deviation whatever the width of the layer.

    Raises:
        InputError: a negative `std`.
    """
    return Draws.of(generator).normal_(tensor, mean, spread.normal(tensor.shape, mean, std))


@torch.no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Source = None) -> Tensor:
    """Uniform values between `a` and `b`; their standard deviation is (b − a)/√12.

    Raises:
        InputError: `a` above `b`.
    """
    spread.uniform(tensor.shape, a, b)  # checks the bounds
    return Draws.of(generator).uniform_(tensor, a, b)


@torch.no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Source = None,
) -> Tensor:
    """Gaussian values N(mean, std²), cut at mean + a·std and mean + b·std.

    `torch.nn.init.trunc_normal_` takes a and b as absolute values: with std 0.02 its default cuts
    at ±100 standard deviations, that is nowhere. Cut at ±2 the values have 0.88 of `std`. By the
    inverse distribution function, exactly and without redrawing.

    Args:
        tensor: any shape.
        mean: centre of the Gaussian before the cut.
        std: its standard deviation before the cut.
        a: lower bound in standard deviations from the mean.
        b: upper bound in standard deviations from the mean.
        generator: see the module.

    Raises:
        InputError: a negative `std`, or `a` not below `b`.
    """
    spread.trunc_normal(tensor.shape, mean, std, a, b)  # checks the arguments
    return Draws.of(generator).trunc_normal_(tensor, mean, std, a, b)


@torch.no_grad()
def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Source = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Uniform values of variance gain²·2/(fan_in + fan_out) (Glorot and Bengio 2010).

    Raises:
        InputError: fans not given, and a tensor of fewer than two dimensions.
    """
    std = spread.xavier(tensor.shape, gain, fan_in=fan_in, fan_out=fan_out)
    bound = math.sqrt(3.0) * std
    return Draws.of(generator).uniform_(tensor, -bound, bound)


@torch.no_grad()
def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Source = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Gaussian values of variance gain²·2/(fan_in + fan_out) (Glorot and Bengio 2010).

    Raises:
        InputError: fans not given, and a tensor of fewer than two dimensions.
    """
    std = spread.xavier(tensor.shape, gain, fan_in=fan_in, fan_out=fan_out)
    return Draws.of(generator).normal_(tensor, 0.0, std)


@torch.no_grad()
def kaiming_uniform_(
    tensor: Tensor,
    a: float | None = None,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Source = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Uniform values of variance gain²/fan (He et al. 2015); arguments as `kaiming_normal_`."""
    std = spread.kaiming(tensor.shape, a, mode, nonlinearity, fan_in=fan_in, fan_out=fan_out)
    bound = math.sqrt(3.0) * std
    return Draws.of(generator).uniform_(tensor, -bound, bound)


@torch.no_grad()
def kaiming_normal_(
    tensor: Tensor,
    a: float | None = None,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Source = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Gaussian values of variance gain²/fan (He et al. 2015): what ReLU networks want.

    Args:
        tensor: the weight, (out, in, *kernel) unless the fans are given.
        a: the nonlinearity's parameter; the slope of leaky_relu is 0 without it, as in torch, so
            that the defaults are those for ReLU.
        mode: `"fan_in"` keeps the size of the signal, `"fan_out"` that of the gradient.
        nonlinearity: what consumes the layer's output, see `gain`.
        generator: see the module.
        fan_in: the true one where the shape does not tell it.
        fan_out: the true one where the shape does not tell it.

    Raises:
        InputError: an unknown mode or nonlinearity, or no fans and fewer than two dimensions.
    """
    std = spread.kaiming(tensor.shape, a, mode, nonlinearity, fan_in=fan_in, fan_out=fan_out)
    return Draws.of(generator).normal_(tensor, 0.0, std)


@torch.no_grad()
def lecun_normal_(
    tensor: Tensor,
    generator: Source = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Gaussian values of variance 1/fan_in (LeCun et al. 1998): for linear layers and SELU.

    Raises:
        InputError: fans not given, and a tensor of fewer than two dimensions.
    """
    std = spread.lecun(tensor.shape, fan_in=fan_in)
    return Draws.of(generator).normal_(tensor, 0.0, std)


@torch.no_grad()
def lecun_uniform_(
    tensor: Tensor,
    generator: Source = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Uniform values of variance 1/fan_in (LeCun et al. 1998).

    Raises:
        InputError: fans not given, and a tensor of fewer than two dimensions.
    """
    bound = math.sqrt(3.0) * spread.lecun(tensor.shape, fan_in=fan_in)
    return Draws.of(generator).uniform_(tensor, -bound, bound)


@torch.no_grad()
def embedding_(
    tensor: Tensor,
    std: float = 0.02,
    padding_idx: int | None = None,
    generator: Source = None,
) -> Tensor:
    """N(0, std²), and zeros in the row of the padding token, which never gets a gradient.

    Torch's N(0, 1) makes the first logits of a tied head √width times too large.

    Raises:
        InputError: a negative `std`, or a padding row that the table does not have.
    """
    spread.embedding(tensor.shape, std, padding_idx)  # checks the arguments
    Draws.of(generator).normal_(tensor, 0.0, std)
    return tensor if padding_idx is None else clear_row(tensor, padding_idx)


@torch.no_grad()
def gpt2_residual_(
    tensor: Tensor, branches: int, std: float = 0.02, generator: Source = None
) -> Tensor:
    """N(0, std²/branches): for the layers that close a residual branch (Radford et al. 2019).

    Args:
        tensor: any shape.
        branches: how many residual branches there are: 2L in a transformer of L blocks.
        std: that of all other layers.
        generator: see the module.

    Raises:
        InputError: no branches, or a negative `std`.
    """
    return Draws.of(generator).normal_(
        tensor, 0.0, spread.gpt2_residual(tensor.shape, branches, std)
    )


@torch.no_grad()
def fixup_branch_(
    tensor: Tensor,
    branches: int,
    layers: int = 2,
    nonlinearity: str = "relu",
    generator: Source = None,
    *,
    fan_in: float | None = None,
) -> Tensor:
    """He's values times branches^(−1/(2·layers − 2)): for layers inside a residual branch.

    With it, and zeros in the last layer of each branch and in the classifier, deep residual nets
    train without normalisation (Zhang et al. 2019).

    Args:
        tensor: the weight, (out, in, *kernel) unless fan_in is given.
        branches: how many residual branches there are.
        layers: how many layers a branch has, its last one included.
        nonlinearity: what consumes the layer's output, see `gain`.
        generator: see the module.
        fan_in: the true one where the shape does not tell it.

    Raises:
        InputError: no branches, fewer than two layers, or no fans.
    """
    std = spread.fixup(tensor.shape, branches, layers, nonlinearity, fan_in=fan_in)
    return Draws.of(generator).normal_(tensor, 0.0, std)


@torch.no_grad()
def mup_weight_(
    tensor: Tensor,
    part: str = "hidden",
    nonlinearity: str = "linear",
    generator: Source = None,
    *,
    fan_in: float | None = None,
) -> Tensor:
    """Gaussian values as muP scales them with width (Yang et al. 2021, table 3).

    Args:
        tensor: the weight.
        part: `"hidden"`: gain/√fan_in; `"readout"`: 1/fan_in; `"input"`: 1, for an embedding,
            whose fan_in does not grow. Adam's learning rate goes with 1/fan_in for the first two.
        nonlinearity: what consumes a hidden layer's output, see `gain`.
        generator: see the module.
        fan_in: the true one where the shape does not tell it.

    Raises:
        InputError: another part, or no fans.
    """
    std = spread.mup(tensor.shape, part, nonlinearity, fan_in=fan_in)
    return Draws.of(generator).normal_(tensor, 0.0, std)


@torch.no_grad()
def siren_(
    tensor: Tensor,
    omega: float = 30.0,
    first: bool = False,
    generator: Source = None,
    *,
    fan_in: float | None = None,
) -> Tensor:
    """Uniform values for layers that sin(omega·x) consumes (Sitzmann et al. 2020).

    Args:
        tensor: the weight, (out, in) unless fan_in is given.
        omega: the factor inside the sine.
        first: the first layer gets ±1/fan_in, the others ±√(6/fan_in)/omega.
        generator: see the module.
        fan_in: the true one where the shape does not tell it.

    Raises:
        InputError: an `omega` that is not positive, or no fans.
    """
    bound = math.sqrt(3.0) * spread.siren(tensor.shape, omega, first, fan_in=fan_in)
    return Draws.of(generator).uniform_(tensor, -bound, bound)


@torch.no_grad()
def clear_row(tensor: Tensor, index: int) -> Tensor:
    """Zeros in one index of the first dimension, where it is stored here."""
    index %= tensor.shape[0]
    for local, start in pieces(tensor):
        if start[0] <= index < start[0] + local.shape[0]:
            local[index - start[0]] = 0.0
    return tensor
