"""The schemes one by one: functions that fill a tensor in place and return it, as torch's do.

They keep torch's names and arguments (`torch.nn.init`) and differ where torch's own leave a trap:

- fan_in and fan_out can be given, because a shape does not tell the fans of grouped, transposed
  and stacked weights; without them they are read off the shape (out, in, *kernel) as torch does;
- `trunc_normal_` is cut at bounds in standard deviations, not at absolute values;
- gains exist for every common nonlinearity and are all of one kind, see `gain`;
- all draw in float32 or better whatever the tensor's type, and round last;
- a value depends on the generator and on its place in the tensor alone, so that memory layout,
  threads and device do not count, and of a DTensor each process makes its own shard.

Every function writes without recording gradients. `generator` is a `torch.Generator`, torch's
global CPU generator without it: one draw from it chooses the stream that the tensor is filled from.
On meta nothing is done, as in torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lampwork.init.gains import gain
from lampwork.init.matrix import (
    delta_orthogonal_,
    dirac_,
    identity_,
    looks_linear_,
    lstm_bias_,
    orthogonal_,
    sparse_,
)
from lampwork.init.placement import local_of
from lampwork.init.variance import (
    embedding_,
    fixup_branch_,
    gpt2_residual_,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    mup_weight_,
    normal_,
    siren_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
)

__all__ = [
    "constant_",
    "delta_orthogonal_",
    "dirac_",
    "embedding_",
    "fixup_branch_",
    "gain",
    "gpt2_residual_",
    "identity_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "looks_linear_",
    "lstm_bias_",
    "mup_weight_",
    "normal_",
    "ones_",
    "orthogonal_",
    "siren_",
    "sparse_",
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
    local_of(tensor).zero_()
    return tensor


@torch.no_grad()
def ones_(tensor: Tensor) -> Tensor:
    """Fills with 1: the scale of a normalisation."""
    local_of(tensor).fill_(1.0)
    return tensor


@torch.no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fills with `val`. As weights of a layer this keeps all its units alike for ever."""
    local_of(tensor).fill_(val)
    return tensor
