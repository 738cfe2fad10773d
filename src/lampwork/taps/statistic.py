"""From a tensor to its summary row: what can be measured, and which channels are silent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch  # pyright: ignore[reportAttributeAccessIssue]

from lampwork._native.stats import summary_row

_PACKED = (torch.float4_e2m1fn_x2,)  # two numbers in one element
_CHANNELS_FIRST_3D = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)


def measure(tensor: Tensor) -> Tensor | None:
    """The summary row of a tensor, float64 of shape `(WIDTH,)` on its device.

    Of a sparse tensor the stored values are measured, of a sharded one the local shard, of a
    complex one real and imaginary parts. None for what holds no numbers to read: meta,
    quantised, packed and nested tensors, and those inside of `torch.vmap`.
    """
    local = _readable(tensor.detach())
    return None if local is None else summary_row(local)


def _readable(tensor: Tensor) -> Tensor | None:
    if _is_mapped(tensor):
        return None
    tensor = getattr(tensor, "to_local", lambda: tensor)()  # a DTensor's own shard
    if tensor.is_meta or tensor.is_quantized or tensor.is_nested or tensor.dtype in _PACKED:
        return None
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout != torch.strided:
        return None
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _is_mapped(tensor: Tensor) -> bool:
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)  # one of torch.func.grad
    return False


@torch.no_grad()
def all_zero(tensor: Tensor) -> bool:
    """Whether no element differs from 0; of a tensor on an accelerator it waits for the answer."""
    local = _readable(tensor.detach())
    return local is None or not bool((local != 0).any())


def channel_dim(tensor: Tensor, *, channels_first: bool) -> int | None:
    """Which dimension of a module's output holds its units; None where none can be silent.

    Images and volumes have them in dimension 1, vectors and token sequences in the last one;
    `channels_first` says that 3-D tensors are of shape (N, C, L).
    """
    if tensor.dim() < 2 or tensor.numel() == 0 or tensor.layout != torch.strided:
        return None
    return 1 if tensor.dim() > 3 or (tensor.dim() == 3 and channels_first) else tensor.dim() - 1


def has_1d_convolutions(model: nn.Module) -> bool:
    """Whether 3-D tensors in this model are likely of shape (N, C, L)."""
    return any(isinstance(module, _CHANNELS_FIRST_3D) for module in model.modules())


@torch.no_grad()
def alive(tensor: Tensor, dim: int) -> Tensor:
    """Which channels, those along `dim`, have a non-zero element anywhere: bool, (channels,)."""
    others = [d for d in range(tensor.dim()) if d != dim]
    # The largest magnitude is not 0 (nor is a NaN): ten times as fast as `any` on the CPU.
    return tensor.detach().abs().amax(dim=others) != 0
