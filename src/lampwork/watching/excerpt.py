"""A few values of a tensor: enough to know it again, and too few to cost anything.

They are copied at once, since the user may overwrite the tensor, and stay where it lives until the
step ends; then those on an accelerator travel together, and nobody waits for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lampwork.taps.statistic import Arrival, readable

MOST_FEATURES = 256
MOST_VALUES = 2048
FEWEST_SAMPLES = 8

_HALVES = (torch.float16, torch.bfloat16)


@torch.no_grad()
def excerpt(tensor: Tensor) -> Tensor | None:
    """Some features of some samples, shape (samples, features), a copy; None if unreadable.

    Samples lie along the first dimension. The same places are taken of every tensor of one shape.
    """
    local = readable(tensor)
    if local is None or local.numel() == 0 or type(local) not in (Tensor, torch.nn.Parameter):
        return None
    if local.dim() == 0:
        return local.detach().reshape(1, 1).clone()
    size = local.numel() // len(local)
    samples = max(FEWEST_SAMPLES, MOST_VALUES // min(size, MOST_FEATURES))
    some = local.detach()[:: max(1, len(local) // samples)][:samples]
    if size > 1:
        some = some.reshape(len(some), -1)[:, :: max(1, size // MOST_FEATURES)][:, :MOST_FEATURES]
    some = some.reshape(len(some), -1)
    if some.dtype in _HALVES:
        return some.float()
    return some.clone(memory_format=torch.contiguous_format)


class Arrays:
    """Tensors that are to be arrays: those on an accelerator begin to travel, one lot a device."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._far: list[tuple[list[int], list[int], Arrival]] = []
        for device in {t.device for t in tensors if not t.is_cpu}:
            there = [i for i, t in enumerate(tensors) if t.device == device]
            packed = [tensors[i].contiguous().view(-1).view(torch.uint8) for i in there]
            ends = np.cumsum([len(one) for one in packed]).tolist()
            self._far.append((there, ends, Arrival(torch.cat(packed))))

    @property
    def here(self) -> bool:
        """Whether all have arrived; asked without waiting."""
        return all(arrival.here for _, _, arrival in self._far)

    def read(self) -> list[NDArray[Any]]:
        """The arrays, in the order of the tensors; waits for what has not arrived."""
        found = {i: t.numpy() for i, t in enumerate(self._tensors) if t.is_cpu}
        for there, ends, arrival in self._far:
            together = torch.from_numpy(arrival.array())
            for i, start, end in zip(there, [0, *ends], ends, strict=False):
                # A copy: a slice of bytes need not be aligned for a wider type.
                own = together[start:end].clone().view(self._tensors[i].dtype)
                found[i] = own.reshape(self._tensors[i].shape).numpy()
        return [found[i] for i in range(len(self._tensors))]


def fingerprint(arrays: Sequence[NDArray[Any]]) -> str:
    """The same text for the same values, and another for others."""
    digest = blake2b(digest_size=8)
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def spread(array: NDArray[Any]) -> float | None:
    """Variance between samples over the mean square: 0 where all are equal, 1 where it is all.

    None with fewer than four samples, or where there is nothing but zeros or something not finite.
    """
    if len(array) < 4 or array.dtype.kind != "f":
        return None
    values = array.astype(np.float64)
    power = float(np.mean(values**2))
    if not np.isfinite(power) or power == 0:
        return None
    return float(np.mean(values.var(axis=0))) / power


def alike(arrays: Sequence[NDArray[Any]]) -> bool:
    """Whether all samples of a batch are one and the same, and that one no constant.

    Arrays of another length than the first are no samples, and constant ones tell nothing.
    """
    batch = [a for a in arrays if len(a) == len(arrays[0]) >= 4 and np.ptp(a[0].astype(float)) > 0]
    return bool(batch) and all((array == array[:1]).all() for array in batch)
