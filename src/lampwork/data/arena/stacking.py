"""Stacking samples straight into a slot: the only time their bytes are copied.

In a worker, `default_collate` finds this in its table where torch's function for tensors stood, so
a `collate_fn` that calls it gains as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils import collate

from lampwork._native import streamed
from lampwork.data.arena.slots import Slot


class Stacking:
    """Puts the stacked tensors of a batch into the slot of the moment.

    Attributes:
        slot: where to; None while no batch is being made.
    """

    def __init__(self) -> None:
        self.slot: Slot | None = None
        self._torchs = collate.collate_tensor_fn

    def install(self) -> None:
        """Take the place of torch's function, unless the user has put another one there."""
        table = collate.default_collate_fn_map
        if table.get(torch.Tensor) is self._torchs:
            table[torch.Tensor] = self

    def remove(self) -> None:
        """Give torch's function its place back."""
        table = collate.default_collate_fn_map
        if table.get(torch.Tensor) is self:
            table[torch.Tensor] = self._torchs

    def __call__(self, batch: Sequence[Tensor], *, collate_fn_map: Any = None) -> Tensor:
        """As torch's function, `torch.stack(batch)`, shape (len(batch), *sample.shape)."""
        first = batch[0]
        if self.slot is None or not _plain(first):
            return self._torchs(batch, collate_fn_map=collate_fn_map)  # type: ignore[arg-type]
        shape = (len(batch), *first.shape)
        out = self.slot.empty(shape, first.dtype)
        if out is None:
            # Given as well where it does not fit: with an output, torch.stack keeps the dtype of
            # the first tensor and refuses gradients, as in torch's own workers.
            out = torch.empty(shape, dtype=first.dtype, device="cpu")
        if streamed.pays(out) and streamed.stack(batch, out):
            return out
        try:
            return torch.stack(batch, 0, out=out)  # type: ignore[arg-type]
        except TypeError:  # not all are tensors: torch's function has its own words for that
            return self._torchs(batch, collate_fn_map=collate_fn_map)  # type: ignore[arg-type]


def _plain(tensor: Tensor) -> bool:
    strided = tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized)
    return type(tensor) is Tensor and tensor.device.type == "cpu" and strided
