"""A tensor on its way from a device to the CPU, which nobody waits for."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Arrival:
    """A tensor's numbers on their way to the CPU."""

    def __init__(self, tensor: Tensor) -> None:
        if tensor.is_cuda:
            self._here = torch.empty(
                tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True
            )
            self._here.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(tensor.device))
        else:
            self._here, self._copied = tensor.cpu(), None

    @property
    def here(self) -> bool:
        """Whether they have arrived; asked without waiting."""
        return self._copied is None or self._copied.query()

    def array(self) -> NDArray[Any]:
        """The numbers; waits for them where they have not arrived."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._here.numpy()
