"""The parameters of one moment, read together, and their values before the optimizer's step.

One call of the kernel reads all plain tensors, by several threads where that pays; what is sparse,
complex or full of gaps is read one by one. The old values are copied in the same pass that reads
them, into one piece of memory for each device. The CPU's is kept from step to step: fresh memory
would cost a page fault for every 4 KiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lampwork.taps.statistic import Batch, RawRow, measure, readable
from lampwork.watching.activations import Key

_ALIGNMENT = 64
_HALVES = (torch.float16, torch.bfloat16)

Rows = list[tuple[Key, RawRow]]


class Reading:
    """Tensors of which `rows` is to give the rows; they must not change until then."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._batched: list[tuple[Key, Tensor]] = []  # tensors too: they have to live
        self._rows: Rows = []

    def add(self, key: Key, tensor: Tensor, *, copy_to: int = 0, minus: int = 0) -> None:
        """Read a tensor; addresses as `Batch.add` takes them, only where the batch takes it."""
        local = readable(tensor)
        if local is None:
            return
        if Batch.takes(local):
            self._batch.add(local, copy_to=copy_to, minus=minus)
            self._batched.append((key, local))
        elif (row := measure(local)) is not None:
            self._rows.append((key, row))

    def rows(self) -> Rows:
        """The rows of all that can be read."""
        batched = zip(self._batched, self._batch.rows(), strict=True) if self._batched else ()
        return [(key, row) for (key, _), row in batched] + self._rows


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the memory a tensor lies, and how."""

    offset: int
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in its own memory as this one does here."""
        found = tensor.shape, tensor.stride(), tensor.dtype, tensor.device
        expected = self.shape, self.strides, self.dtype, self.device
        return found == expected and Batch.takes(tensor)


class Old:
    """Parameters as they were before the optimizer's step."""

    def __init__(self) -> None:
        self._memory: dict[torch.device, Tensor] = {}
        self._places: dict[str, _Place] = {}
        self._clones: dict[str, Tensor] = {}

    def keep(self, owned: Mapping[str, Tensor]) -> dict[str, int]:
        """Make room; the addresses to copy those to that are not cloned at once."""
        self.forget()
        ends: dict[torch.device, int] = {}
        for name, parameter in owned.items():
            local = readable(parameter)
            if local is not None and Batch.takes(local):
                end = ends.get(local.device, 0)
                layout = local.shape, local.stride(), local.dtype, local.device
                self._places[name] = _Place(end, *layout)
                size = local.numel() * local.element_size()
                ends[local.device] = end + -(-size // _ALIGNMENT) * _ALIGNMENT
            else:
                self._clones[name] = parameter.detach().clone()
        for device, end in ends.items():
            if device not in self._memory or end > len(self._memory[device]):
                self._memory[device] = torch.empty(end, dtype=torch.uint8, device=device)
        bases = {device: memory.data_ptr() for device, memory in self._memory.items()}
        return {name: bases[place.device] + place.offset for name, place in self._places.items()}

    def add_updates(self, reading: Reading, now: Mapping[str, Tensor]) -> None:
        """Read new minus old of each that was kept; of half types in float32."""
        for name, place in self._places.items():
            local = readable(now[name])
            if local is None:
                continue
            if place.holds(local):
                address = self._memory[place.device].data_ptr() + place.offset
                reading.add(Key("update", name), local, minus=address)
            elif local.shape == place.shape:  # was given other memory meanwhile
                reading.add(Key("update", name), _difference(local, self._view(place)))
        for name, old in self._clones.items():
            reading.add(Key("update", name), _difference(now[name].detach(), old))

    def _view(self, place: _Place) -> Tensor:
        count = place.shape.numel() * place.dtype.itemsize
        memory = self._memory[place.device]
        flat = memory[place.offset : place.offset + count].view(place.dtype)
        return flat.as_strided(place.shape, place.strides)

    def forget(self) -> None:
        """Keep the CPU's memory, and nothing of what is in it; a device's goes back to torch."""
        self._places.clear()
        self._clones.clear()
        for device in [device for device in self._memory if device.type != "cpu"]:
            del self._memory[device]

    def release(self) -> None:
        """Give the memory back."""
        self.forget()
        self._memory.clear()


@torch.no_grad()
def _difference(new: Tensor, old: Tensor) -> Tensor:
    if new.dtype in _HALVES:  # where the difference of neighbours would be rounded
        return new.to(torch.float32) - old.to(torch.float32)
    return new - old
