"""From a tensor to its summary row: what can be measured, and which channels are silent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch  # pyright: ignore[reportAttributeAccessIssue]

from lampwork._native import stats
from lampwork._native.arrival import Arrival
from lampwork._native.collected import Collected, Flags, RawRow, rows_of
from lampwork._native.stats import Batch, Job, prepare

__all__ = [
    "Arrival",
    "Batch",
    "Collected",
    "Flags",
    "Job",
    "RawRow",
    "alive",
    "all_zero",
    "channel_dim",
    "has_1d_convolutions",
    "measure",
    "measure_with_channels",
    "prepare",
    "readable",
    "rows_of",
]

_PACKED = (torch.float4_e2m1fn_x2,)  # two numbers in one element
_CHANNELS_FIRST_3D = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)


_PLAIN = (Tensor, nn.Parameter)


def measure(tensor: Tensor) -> RawRow | None:
    """The summary row of a tensor, as `lampwork._native.stats.read` gives it.

    Of a sparse tensor the stored values are measured, of a sharded one the local shard, of a
    complex one real and imaginary parts. None for what holds no numbers to read: meta,
    quantised, packed and nested tensors, those inside of `torch.vmap`, and while a CUDA graph is
    captured.
    """
    here = stats.read_plain(tensor)
    if here is not None:
        return here[0]
    local = readable(tensor)
    return None if local is None else stats.read(local)


def measure_with_channels(tensor: Tensor, dim: int | None) -> tuple[RawRow, Flags | None] | None:
    """As `measure`, with `alive` of the channels along `dim`, if any."""
    here = stats.read_plain(tensor, -1 if dim is None else dim)
    if here is not None:
        return here
    local = readable(tensor)
    if local is None:
        return None
    if dim is None or local.dim() != tensor.dim():  # of complex numbers each part is a channel
        return stats.read(local), None if dim is None else alive(tensor, dim)
    return stats.read_with_channels(local, dim)


def readable(tensor: Tensor) -> Tensor | None:
    """The dense real tensor on this process that holds a tensor's numbers; None if there is none.

    A plain tensor comes back as it is, without being detached.
    """
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return None  # a CUDA graph would repeat the reading, into memory that is then another's
    if functorch.is_functorch_wrapped_tensor(tensor):
        # Inside of torch.vmap there is nothing to read; inside of torch.func.grad there is.
        mapped = functorch.is_batchedtensor(tensor)
        return None if mapped else readable(functorch.get_unwrapped(tensor))
    plain = type(tensor) in _PLAIN and tensor.layout is torch.strided
    if plain and tensor.dtype in stats.PLAIN_DTYPES and not (tensor.is_meta or tensor.is_nested):
        return tensor
    tensor = tensor.detach()
    tensor = getattr(tensor, "to_local", lambda: tensor)()  # a DTensor's own shard
    if tensor.is_meta or tensor.is_quantized or tensor.is_nested or tensor.dtype in _PACKED:
        return None
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout != torch.strided:
        return None
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


@torch.no_grad()
def all_zero(tensor: Tensor) -> bool | Arrival:
    """Whether no element differs from 0; of a tensor on an accelerator the answer comes later."""
    local = readable(tensor)
    if local is None:
        return True
    answer = (local == 0).all()
    return Arrival(answer) if local.is_cuda else bool(answer)


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


def alive(tensor: Tensor, dim: int) -> Flags:
    """Which channels, those along `dim`, have a non-zero element anywhere: bool, (channels,)."""
    local = readable(tensor)
    return stats.alive(tensor if local is None else local, dim)
