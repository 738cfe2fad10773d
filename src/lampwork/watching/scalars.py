"""Numbers that the user logs; those on an accelerator are read late and together."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lampwork._core.errors import InputError
from lampwork.record.writer import Writer
from lampwork.taps.statistic import Arrival

_MOST_PENDING = 1000


class Scalars:
    """Passes numbers to the writer, in order for each device and dtype."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._pending: list[tuple[int, str, Tensor]] = []
        self._sent: deque[tuple[list[tuple[int, str]], Arrival]] = deque()

    def add(self, step: int, name: str, value: float | Tensor) -> None:
        """Keep one number.

        Raises:
            InputError: not one number.
        """
        if isinstance(value, Tensor) and _can_wait(value):
            # A copy: the user may go on adding to it.
            self._pending.append((step, name, value.detach().clone().reshape(())))
            if len(self._pending) >= _MOST_PENDING:
                self.send()
        else:
            self._writer.scalar(step, name, _number(name, value))

    def send(self) -> None:
        """Let the numbers that wait on an accelerator travel, and write those that have arrived."""
        pending, self._pending = self._pending, []
        for kind in dict.fromkeys((value.device, value.dtype) for _, _, value in pending):
            here = [item for item in pending if (item[2].device, item[2].dtype) == kind]
            together = torch.stack([value for _, _, value in here])
            # Only CUDA's float64 is sure to exist, and only it has all digits.
            wide = together.double() if together.is_cuda else together.cpu().double()
            self._sent.append(([(step, name) for step, name, _ in here], Arrival(wide)))
        self._write()

    def resolve(self) -> None:
        """Write all numbers; waits for those that are on an accelerator."""
        self.send()
        self._write(wait=True)

    def _write(self, *, wait: bool = False) -> None:
        while self._sent and (wait or self._sent[0][1].here):
            names, arrival = self._sent.popleft()
            for (step, name), value in zip(names, arrival.array().tolist(), strict=True):
                self._writer.scalar(step, name, value)


def _can_wait(value: Tensor) -> bool:
    return not value.is_cpu and value.numel() == 1 and not value.is_complex()


def _number(name: str, value: Any) -> float:
    size = value.numel() if isinstance(value, Tensor) else np.size(value)
    plain = value.item() if size == 1 and hasattr(value, "item") else value
    try:
        if size == 1 and not isinstance(plain, str | bytes):
            return float(plain)
    except (TypeError, ValueError, OverflowError):
        pass  # None, a list, a complex number, one of 400 digits: told below
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    raise InputError(
        f"{name} is a {type(value).__name__}{shape}, not one number: log for example its mean"
    )
