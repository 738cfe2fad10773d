"""Schemes whose values depend on one another: the whole tensor is made, and its part stored.

Of a DTensor each process makes the whole in float32 and keeps its shard: for that time it takes
the whole's memory, and all processes do the same work.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lampwork._native.philox import Box
from lampwork._native.reflections import orthonormal_columns
from lampwork.init import spread
from lampwork.init.draws import Draws
from lampwork.init.placement import is_distributed, pieces
from lampwork.init.variance import Source


@torch.no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Source = None) -> Tensor:
    """`gain` times a random (semi-)orthogonal matrix, uniform over all of them (Saxe et al. 2014).

    A tensor of more than two dimensions is read as (shape[0], everything else). The rows are
    orthonormal, or the columns where there are more rows than columns. Made of Householder
    reflections of Gaussian vectors on the CPU, in float32 (`lampwork._native.reflections`).

    Raises:
        InputError: a tensor of fewer than two dimensions.
    """
    spread.orthogonal(tensor.shape, gain)  # checks the shape
    draws = Draws.of(generator)
    return _store(tensor, lambda whole: _orthogonal(whole, gain, draws))


def _orthogonal(target: Tensor, gain: float, draws: Draws) -> None:
    rows = target.shape[0]
    shape = (rows, target.numel() // rows)
    direct = target.is_cpu and target.dtype == torch.float32 and target.is_contiguous()
    matrix = target.view(shape) if direct else torch.empty(shape, dtype=torch.float32, device="cpu")
    tall = matrix if shape[0] >= shape[1] else matrix.T
    columns = tall.shape[1]

    def draw(block: Tensor, row: int, column: int) -> None:
        draws.block_(block, Box(row * columns + column, (columns, 1)))

    orthonormal_columns(tall, draw)
    if gain != 1.0:
        matrix *= gain
    if not direct:
        target.copy_(matrix.reshape(target.shape))


@torch.no_grad()
def looks_linear_(
    tensor: Tensor,
    gain: float = math.sqrt(2.0),
    pairs_in: bool = True,
    pairs_out: bool = True,
    delta: bool = False,
    generator: Source = None,
) -> Tensor:
    """An orthogonal matrix on pairs of units that mirror one another (Balduzzi et al. 2017).

    Units 2j and 2j + 1 of the output have opposite weights, and the weights of inputs 2i and
    2i + 1 are opposite, so that a chain of such layers with ReLU, GELU, SiLU or their like between
    them is at first a chain of linear ones: f(z) − f(−z) = z. With gain √2 it keeps lengths
    through any depth. The values have the standard deviation gain/√fan_in.

    Args:
        tensor: the weight, (out, in, *kernel).
        gain: the factor.
        pairs_in: whether inputs come in pairs; not those of the first layer of a chain.
        pairs_out: whether outputs are to come in pairs; not those of the last one.
        delta: whether a kernel has its matrix in the middle and 0 elsewhere, so that the lengths
            of images are kept as well (Xiao et al. 2018); else one matrix of all its taps.
        generator: see the module.

    Raises:
        InputError: a tensor of fewer than two dimensions.
    """
    std = spread.looks_linear(tensor.shape, gain)  # checks the shape
    draws = Draws.of(generator)

    def make(whole: Tensor) -> None:
        units, inputs, *kernel = whole.shape
        rows = -(-units // 2) if pairs_out else units
        columns = -(-inputs // 2) if pairs_in else inputs
        core = torch.zeros(rows, columns, *kernel, dtype=torch.float32, device="cpu")
        drawn = _middle(core) if delta else core
        longer = max(rows, drawn.numel() // rows)
        _orthogonal(drawn, std * math.sqrt(longer * core.numel() / drawn.numel()), draws)
        if pairs_in:
            core = torch.stack([core, -core], 2).flatten(1, 2)[:, :inputs]
        if pairs_out:
            core = torch.stack([core, -core], 1).flatten(0, 1)[:units]
        whole.copy_(core)

    return _store(tensor, make)


@torch.no_grad()
def delta_orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Source = None) -> Tensor:
    """A convolution that is an orthogonal matrix in its middle and 0 elsewhere (Xiao et al. 2018).

    It carries the signal's length through any depth: tanh networks of 10,000 layers train with it.

    Args:
        tensor: the weight, (out, in, *kernel), with out ≥ in.
        gain: the factor.
        generator: see the module.

    Raises:
        InputError: not three to five dimensions, or more inputs than outputs.
    """
    spread.delta_orthogonal(tensor.shape, gain)  # checks the shape
    draws = Draws.of(generator)

    def make(whole: Tensor) -> None:
        _orthogonal(_middle(whole.zero_()), gain, draws)

    return _store(tensor, make)


@torch.no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution that passes its inputs through: 1 in the middle of each channel's own kernel.

    Args:
        tensor: the weight, (out, in / groups, *kernel).
        groups: of the convolution; each passes its own inputs.

    Raises:
        InputError: not three to five dimensions, or outputs that groups do not divide.
    """
    spread.dirac(tensor.shape, groups)  # checks the shape

    def make(whole: Tensor) -> None:
        for group in _middle(whole.zero_()).chunk(groups):
            group.diagonal().fill_(1.0)

    return _store(tensor, make)


def _middle(kernels: Tensor) -> Tensor:
    """The middle tap of each kernel, (out, in), a view."""
    return kernels[:, :, *(size // 2 for size in kernels.shape[2:])]


@torch.no_grad()
def identity_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """`gain` on the diagonal and 0 elsewhere: recurrent ReLU networks (Le et al. 2015).

    Raises:
        InputError: a tensor that is not a matrix.
    """
    spread.identity(tensor.shape, gain)  # checks the shape
    return _store(tensor, lambda whole: whole.zero_().diagonal().fill_(gain))


@torch.no_grad()
def sparse_(
    tensor: Tensor, sparsity: float = 0.9, std: float = 0.01, generator: Source = None
) -> Tensor:
    """N(0, std²), but zeros in a share of each column's rows, drawn for each (Martens 2010).

    Unlike torch's, the zeros come from the generator too.

    Args:
        tensor: a matrix, (out, in).
        sparsity: the share of zeros in each column, rounded up to whole rows.
        std: that of the other values.
        generator: see the module.

    Raises:
        InputError: a tensor that is not a matrix, or a share that is not one.
    """
    spread.sparse(tensor.shape, sparsity, std)  # checks the arguments
    draws = Draws.of(generator)

    def make(whole: Tensor) -> None:
        rows, columns = whole.shape
        draws.normal_(whole, 0.0, std)
        keys = draws.after(rows * columns).words(rows * columns).reshape(rows, columns)
        zeros = keys.argsort(dim=0, stable=True)[: math.ceil(sparsity * rows)]
        whole.scatter_(0, zeros.to(whole.device), 0.0)

    return _store(tensor, make)


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

    def make(whole: Tensor) -> None:
        whole.zero_()[hidden : 2 * hidden] = forget

    return _store(tensor, make)


def _store(tensor: Tensor, make: Callable[[Tensor], object]) -> Tensor:
    """Lets `make` fill the tensor, or the whole of which it is a shard."""
    if not tensor.numel() or tensor.is_meta:
        return tensor
    if not is_distributed(tensor):
        make(tensor)
        return tensor
    whole = torch.empty(tensor.shape, dtype=torch.float32, device="cpu")
    make(whole)
    for piece in pieces(tensor):
        piece.local.copy_(piece.of(whole))
    return tensor
