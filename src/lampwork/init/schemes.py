"""The schemes one by one: functions that fill a tensor in place and return it, as torch's do.

They keep torch's names and arguments (`torch.nn.init`) and differ where torch's own leave a trap:

- fan_in and fan_out can be given, because a shape does not tell the fans of grouped, transposed
  and stacked weights; without them they are read off the shape (out, in, *kernel) as torch does;
- `trunc_normal_` is cut at bounds in standard deviations, not at absolute values;
- gains exist for every common nonlinearity and are all of one kind, see `gain`;
- `orthogonal_` and `trunc_normal_` work in at least float32 whatever the tensor's type.

Every function writes without recording gradients and takes a `torch.Generator` of the tensor's
device, torch's global one without it.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lampwork.init import spread
from lampwork.init.gains import gain

__all__ = [
    "constant_",
    "gain",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lstm_bias_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


@torch.no_grad()
def zeros_(tensor: Tensor) -> Tensor:
    """Fills with 0: biases, and the last layer of a branch that shall start as the identity.

    A whole network of zeros does not learn: every unit of a layer gets the same gradient.
    """
    return tensor.zero_()


@torch.no_grad()
def ones_(tensor: Tensor) -> Tensor:
    """Fills with 1: the scale of a normalisation."""
    return tensor.fill_(1.0)


@torch.no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fills with `val`. As weights of a layer this keeps all its units alike for ever."""
    return tensor.fill_(val)


@torch.no_grad()
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Gaussian values N(mean, std²), one standard deviation whatever the width of the layer.

    Raises:
        InputError: a negative `std`.
    """
    return tensor.normal_(mean, spread.normal(tensor.shape, mean, std), generator=generator)


@torch.no_grad()
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform values between `a` and `b`; their standard deviation is (b − a)/√12.

    Raises:
        InputError: `a` above `b`.
    """
    spread.uniform(tensor.shape, a, b)  # checks the bounds
    return tensor.uniform_(a, b, generator=generator)


@torch.no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Gaussian values N(mean, std²), cut at mean + a·std and mean + b·std.

    `torch.nn.init.trunc_normal_` takes a and b as absolute values: with std 0.02 its default cuts
    at ±100 standard deviations, that is nowhere. Cut at ±2 the values have 0.88 of `std`. By the
    inverse distribution function in float64.

    Args:
        tensor: any shape.
        mean: centre of the Gaussian before the cut.
        std: its standard deviation before the cut.
        a: lower bound in standard deviations from the mean.
        b: upper bound in standard deviations from the mean.
        generator: of the tensor's device.

    Raises:
        InputError: a negative `std`, or `a` not below `b`.
    """
    spread.trunc_normal(tensor.shape, mean, std, a, b)  # checks the arguments
    if a > 0.0:  # the far tails are exact below the mean only
        trunc_normal_(tensor, -mean, std, -b, -a, generator)
        return tensor.neg_()
    low, high = spread.cdf(a), spread.cdf(b)
    u = torch.empty(tensor.shape, dtype=torch.float64, device=tensor.device)
    z = torch.special.ndtri(u.uniform_(low, high, generator=generator)).clamp_(a, b)
    return tensor.copy_(z.mul_(std).add_(mean))


@torch.no_grad()
def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
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
    return tensor.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Gaussian values of variance gain²·2/(fan_in + fan_out) (Glorot and Bengio 2010).

    Raises:
        InputError: fans not given, and a tensor of fewer than two dimensions.
    """
    std = spread.xavier(tensor.shape, gain, fan_in=fan_in, fan_out=fan_out)
    return tensor.normal_(0.0, std, generator=generator)


@torch.no_grad()
def kaiming_uniform_(
    tensor: Tensor,
    a: float | None = None,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Uniform values of variance gain²/fan (He et al. 2015); arguments as `kaiming_normal_`."""
    std = spread.kaiming(tensor.shape, a, mode, nonlinearity, fan_in=fan_in, fan_out=fan_out)
    bound = math.sqrt(3.0) * std
    return tensor.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def kaiming_normal_(
    tensor: Tensor,
    a: float | None = None,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
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
        generator: of the tensor's device.
        fan_in: the true one where the shape does not tell it.
        fan_out: the true one where the shape does not tell it.

    Raises:
        InputError: an unknown mode or nonlinearity, or no fans and fewer than two dimensions.
    """
    std = spread.kaiming(tensor.shape, a, mode, nonlinearity, fan_in=fan_in, fan_out=fan_out)
    return tensor.normal_(0.0, std, generator=generator)


@torch.no_grad()
def lecun_normal_(
    tensor: Tensor,
    generator: Generator | None = None,
    *,
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> Tensor:
    """Gaussian values of variance 1/fan_in (LeCun et al. 1998): for linear layers and SELU.

    Raises:
        InputError: fans not given, and a tensor of fewer than two dimensions.
    """
    std = spread.lecun(tensor.shape, fan_in=fan_in)
    return tensor.normal_(0.0, std, generator=generator)


@torch.no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """`gain` times a random (semi-)orthogonal matrix, uniform over all of them (Saxe et al. 2014).

    A tensor of more than two dimensions is read as (shape[0], everything else). The rows are
    orthonormal, or the columns where there are more rows than columns. By QR of a Gaussian matrix
    with the signs of R's diagonal taken out.

    Raises:
        InputError: a tensor of fewer than two dimensions.
    """
    spread.orthogonal(tensor.shape, gain)  # checks the shape
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    tall = torch.empty(max(rows, columns), min(rows, columns), dtype=dtype, device=tensor.device)
    q, r = torch.linalg.qr(tall.normal_(generator=generator))
    q *= torch.where(r.diagonal() < 0, -1.0, 1.0)
    matrix = q if rows >= columns else q.T
    return tensor.copy_((gain * matrix).reshape(tensor.shape))


@torch.no_grad()
def lstm_bias_(tensor: Tensor, forget: float = 1.0) -> Tensor:
    """Zeros, but `forget` for the forget gate: an LSTM that remembers from the start.

    Torch adds two biases; give this to one of them only. The gates lie in torch's order: input,
    forget, cell, output (Gers et al. 2000; Jozefowicz et al. 2015).

    Raises:
        InputError: a tensor that is not a vector of four equal parts.
    """
    spread.lstm_bias(tensor.shape, forget)  # checks the shape
    hidden = tensor.numel() // 4
    tensor.zero_()[hidden : 2 * hidden] = forget
    return tensor
